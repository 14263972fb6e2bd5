"""What stands on disk, and what is proven of it without asking anybody."""

from datetime import date, timedelta

import pytest

from backfilld.core.day.certificate import Certificate, Source, Sourced
from backfilld.core.day.start import DayStart
from backfilld.core.model import MS_PER_DAY, IdRange, day_start_ms
from backfilld.core.sync.known_days import KnownDays, very_first_ids
from backfilld.core.timespan import StoredSpan, TimeSpan
from tests.fakes import DAY, DAY_MS

UM_FIRST = frozenset({1})


def known_days_of(first_id: int) -> KnownDays:
    span = StoredSpan(IdRange(first_id, first_id + 9), DAY_MS + 5, DAY_MS + 50)
    return KnownDays(TimeSpan(DAY_MS), [Certificate(DAY, (span,))], DAY_MS + 100, UM_FIRST)


def test_the_very_first_trade_of_a_symbol_needs_no_neighbour() -> None:
    known_days = known_days_of(1)
    plan = known_days.plan(DAY_MS + 100, newest_first=False, proves_first=True)
    assert plan.first_is_proven
    assert known_days.starts_to_prove(plan) == {DayStart(DAY, 1)}
    assert known_days.days_to_renew() == {DAY}


@pytest.mark.parametrize(
    ("listed_day", "source", "is_first"),
    [
        (DAY, "archive", True),
        (DAY, "rest", False),
        (DAY - timedelta(days=1), "archive", False),
        (None, "archive", False),
    ],
)
def test_nothing_was_before_the_archives_first_row_of_the_day_of_the_listing(
    listed_day: date | None, source: str, is_first: bool
) -> None:
    span = StoredSpan(IdRange(500, 599), DAY_MS + 5, DAY_MS + 50)
    record = Certificate(DAY, (span,), sources=(Sourced(Source(source), span.ids),))
    listed_ms = None if listed_day is None else day_start_ms(listed_day) + 3
    found = very_first_ids(TimeSpan(DAY_MS - 5 * MS_PER_DAY), [record], 1, listed_ms)
    assert found == ({1, 500} if is_first else {1})
    assert very_first_ids(TimeSpan(DAY_MS + 4), [record], 1, listed_ms) == {1}


def test_any_other_first_trade_does() -> None:
    known_days = known_days_of(2)
    plan = known_days.plan(DAY_MS + 100, newest_first=False, proves_first=True)
    assert not plan.first_is_proven
    assert known_days.starts_to_prove(plan) == set()
    assert known_days.days_to_renew() == set()
