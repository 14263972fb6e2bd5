"""What is asked before days are taken from the archive, and what an answer proves."""

from datetime import timedelta

import pytest

from backfilld.core.backfill.newest_shown import NewestShown
from backfilld.core.backfill.questions import At, Before, Found, Query, Since
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.core.sync.archive_ends import ArchiveEnds, starts_to_ask
from backfilld.core.sync.events import Answered, Failed, TakeArchive
from backfilld.core.timespan import StoredSpan, TimeSpan
from backfilld.errors import ExchangeError, RequestRejected, TransientError
from tests.fakes import DAY, DAY_MS

DAYS = (DAY, DAY + ONE_DAY)
QUESTION = Before(DAY_MS)
TODAY = frozenset({DayStart(DAY + 2 * ONE_DAY, 90)})
LAST = Found(IdRange(9, 9), DAY_MS - 5, DAY_MS - 5, 1)
NOTHING = Found(None, 0, 0, 0)
MARKER = Found(IdRange(9, 9), DAY_MS - 5, DAY_MS - 5, 1, is_marker=True)


def row(trade_id: int, at_ms: int, *, is_marker: bool = False) -> Found:
    return Found(IdRange(trade_id, trade_id), at_ms, at_ms, 1, is_marker=is_marker)


def asked(
    *answers: Found | ExchangeError, very_first: tuple[int, ...] = (), shown: NewestShown | None = None
) -> tuple[ArchiveEnds, list[Query]]:
    """What was asked until nothing was left to ask."""
    ends = ArchiveEnds(shown or NewestShown())
    ends.hold(DAYS, asked=DAYS[:1], very_first=very_first)
    questions: list[Query] = []
    for answer in answers:
        assert not ends.is_ready
        question = ends.take()
        assert question is not None
        assert ends.take() is None
        assert ends.is_for(question)
        assert not ends.is_for(Before(DAY_MS + 1))
        ends.ended(Answered(question, answer) if isinstance(answer, Found) else Failed(question, answer))
        questions.append(question)
    assert ends.is_ready
    return ends, questions


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        ([LAST], {DayStart(DAY, 10)}),
        ([NOTHING, NOTHING], set()),
        ([MARKER, NOTHING], {DayStart(DAY, 10)}),
        ([MARKER, row(10, DAY_MS + 5)], {DayStart(DAY, 10)}),
        ([TransientError("timeout")], set()),
        ([NOTHING, TransientError("timeout")], set()),
        ([NOTHING, row(10, DAY_MS + 5), row(10, DAY_MS + 5)], {DayStart(DAY, 10)}),
        ([NOTHING, row(10, DAY_MS + 5), TransientError("timeout")], set()),
    ],
)
def test_days_are_taken_once_the_questions_have_come_back_whatever_they_brought(
    answers: list[Found | ExchangeError], known: set[DayStart]
) -> None:
    ends, _ = asked(*answers)
    assert ends.empty_days() == ()
    assert ends.taken(TODAY) == TakeArchive(DAYS, TODAY | known)
    assert not ends.is_ready


@pytest.mark.parametrize(
    ("first_id", "very_first", "proof"),
    [(0, (), []), (1, (1,), []), (9, (), [At(8)])],
    ids=["id 0", "the first id of the market", "no trade with the id below"],
)
def test_the_archive_is_asked_for_no_day_before_the_first_trade(
    first_id: int, very_first: tuple[int, ...], proof: list[Query]
) -> None:
    first, shown = row(first_id, DAY_MS + MS_PER_DAY + 5), NewestShown()
    ends, questions = asked(NOTHING, first, *(first for _ in proof), very_first=very_first, shown=shown)
    assert questions == [QUESTION, Since(DAY_MS), *proof]
    start = DayStart(DAYS[1], first_id)
    assert ends.empty_days() == DAYS[:1]
    assert shown.is_first(first_id, DAY_MS), "the next plan asks for it only once more"
    assert ends.taken(frozenset()) == TakeArchive(DAYS[1:], frozenset({start, DayStart(DAY, first_id)}))


def test_a_first_trade_that_an_earlier_one_of_the_window_refutes_leaves_no_day_out() -> None:
    """A replica named a later trade than the first. Asked again, no answer names the one below as the first."""
    later, below = row(9, DAY_MS + MS_PER_DAY + 5), row(8, DAY_MS + 5)
    ends, questions = asked(NOTHING, later, below, NOTHING, NOTHING)
    assert questions == [QUESTION, Since(DAY_MS), At(8), QUESTION, Since(DAY_MS)]
    assert ends.empty_days() == ()


def test_days_that_are_not_wanted_any_more_are_given_back_with_their_question() -> None:
    ends = ArchiveEnds(NewestShown())
    ends.hold(DAYS, asked=DAYS[:1])
    out = ends.take()
    assert out == QUESTION
    assert ends.release() == set(DAYS)
    assert ends.take() is None
    ends.hold(DAYS)
    ends.ended(Answered(out, LAST))
    assert ends.taken(frozenset()) == TakeArchive(DAYS), "the answer came for days that were given back"


def test_two_days_are_asked_for_one_after_the_other_and_those_that_are_held_already_are_kept() -> None:
    ends = ArchiveEnds(NewestShown())
    ends.hold(DAYS[:1], asked=DAYS[:1])
    ends.hold(DAYS[1:], asked=DAYS)
    for question, found in ((QUESTION, LAST), (Before(DAY_MS + MS_PER_DAY), row(19, DAY_MS + 5))):
        assert not ends.is_ready
        assert ends.take() == question
        ends.ended(Answered(question, found))
    assert ends.taken(frozenset()) == TakeArchive(DAYS, frozenset({DayStart(DAYS[0], 10), DayStart(DAYS[1], 20)}))


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (RequestRejected("-4166 too old", status=400, code=-4166), [Before(DAY_MS + MS_PER_DAY)]),
        (TransientError("timeout"), []),
    ],
    ids=["too old", "no answer"],
)
def test_a_refused_question_leaves_the_next_one_and_an_outage_none(error: ExchangeError, left: list[Query]) -> None:
    ends = ArchiveEnds(NewestShown())
    ends.hold(DAYS, asked=DAYS)
    assert ends.take() == QUESTION
    ends.ended(Failed(QUESTION, error))
    assert [query for query in [ends.take()] if query is not None] == left


def certificate(days_later: int, *, opened: bool = False, closed: bool = False) -> Certificate:
    span = StoredSpan(IdRange(1, 2), DAY_MS, DAY_MS + 1)
    return Certificate(DAY + timedelta(days=days_later), (span,), opened=opened, closed=closed)


@pytest.mark.parametrize(
    ("start_ms", "stored", "expected"),
    [
        (DAY_MS, [], {0, 1}),
        (DAY_MS, [certificate(0)], {0, 1}),
        (DAY_MS, [certificate(0, opened=True)], {1}),
        (DAY_MS, [certificate(0, closed=True)], {0}),
        (DAY_MS, [certificate(-1), certificate(1)], set()),
        (DAY_MS - MS_PER_DAY, [], {0, 1}),
        (DAY_MS + 1, [], {1}),
    ],
)
def test_only_ends_in_the_window_that_no_day_beside_proves_are_asked_for(
    start_ms: int, stored: list[Certificate], expected: set[int]
) -> None:
    """Numbers are days later than DAY. No question is about a day after the end of the window."""
    records = {each.day: each for each in stored}
    days = {DAY + timedelta(days=each) for each in expected}
    assert starts_to_ask([DAY], TimeSpan(start_ms), records, [DAY]) == days
    assert starts_to_ask([DAY], TimeSpan(start_ms, DAY_MS + 1), records, [DAY]) == days - {DAY + ONE_DAY}
    assert starts_to_ask([DAY], TimeSpan(start_ms), records, [DAY, DAY + ONE_DAY]) == days - {DAY + ONE_DAY}
