"""What is asked before days are taken from the archive, and what an answer proves."""

from datetime import timedelta

import pytest

from backfilld.core.backfill.questions import Before, Found
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import IdRange
from backfilld.core.sync.archive_ends import ArchiveEnds, begins_unproven
from backfilld.core.sync.events import Answered, Failed, TakeArchive
from backfilld.core.timespan import StoredSpan, TimeSpan
from backfilld.errors import TransientError
from tests.fakes import DAY, DAY_MS

DAYS = (DAY, DAY + ONE_DAY)
QUESTION = Before(DAY_MS)
TODAY = frozenset({DayStart(DAY + 2 * ONE_DAY, 90)})
LAST = Found(IdRange(9, 9), DAY_MS - 5, DAY_MS - 5, 1)
NOTHING = Found(None, 0, 0, 0)
MARKER = Found(IdRange(9, 9), DAY_MS - 5, DAY_MS - 5, 1, is_marker=True)


@pytest.mark.parametrize(
    ("event", "known"),
    [
        (Answered(QUESTION, LAST), {DayStart(DAY, 10)}),
        (Answered(QUESTION, NOTHING), set()),
        (Answered(QUESTION, MARKER), set()),
        (Failed(QUESTION, TransientError("timeout")), set()),
    ],
)
def test_days_are_taken_once_the_question_has_come_back_whatever_it_brought(
    event: Answered | Failed, known: set[DayStart]
) -> None:
    ends = ArchiveEnds()
    ends.hold(DAYS, asks_start=True)
    assert not ends.is_ready
    assert ends.take() == QUESTION
    assert ends.take() is None
    assert ends.is_for(QUESTION)
    assert not ends.is_for(Before(DAY_MS + 1))
    ends.ended(event)
    assert ends.is_ready
    assert ends.taken(TODAY) == TakeArchive(DAYS, TODAY | known)
    assert not ends.is_ready


def test_days_that_are_not_wanted_any_more_are_given_back_with_their_question() -> None:
    ends = ArchiveEnds()
    ends.hold(DAYS, asks_start=True)
    assert ends.release() == set(DAYS)
    assert ends.take() is None
    ends.hold(DAYS, asks_start=False)
    assert ends.taken(frozenset()) == TakeArchive(DAYS)


def certificate(days_later: int, *, opened: bool = False) -> Certificate:
    span = StoredSpan(IdRange(1, 2), DAY_MS, DAY_MS + 1)
    return Certificate(DAY + timedelta(days=days_later), (span,), opened=opened)


@pytest.mark.parametrize(
    ("start_ms", "stored", "expected"),
    [
        (DAY_MS, [], True),
        (DAY_MS, [certificate(0)], True),
        (DAY_MS, [certificate(0, opened=True)], False),
        (DAY_MS, [certificate(-1)], False),
        (DAY_MS - 1, [], False),
        (DAY_MS + 1, [], False),
    ],
)
def test_only_a_day_that_begins_the_window_and_that_nothing_proves_is_asked_about(
    start_ms: int, stored: list[Certificate], expected: bool
) -> None:
    assert begins_unproven(DAY, TimeSpan(start_ms), {each.day: each for each in stored}) is expected
