"""What stands on disk, and what is proven of it without asking anybody."""

from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import DayStart
from backfilld.core.model import IdRange
from backfilld.core.sync.known_days import KnownDays
from backfilld.core.timespan import StoredSpan, TimeSpan
from tests.fakes import DAY, DAY_MS

UM_FIRST = frozenset({1})


def holdings_of(first_id: int) -> KnownDays:
    span = StoredSpan(IdRange(first_id, first_id + 9), DAY_MS + 5, DAY_MS + 50)
    return KnownDays(TimeSpan(DAY_MS), [Certificate(DAY, (span,))], DAY_MS + 100, UM_FIRST)


def test_the_very_first_trade_of_a_symbol_needs_no_neighbour() -> None:
    known_days = holdings_of(1)
    plan = known_days.plan(DAY_MS + 100, newest_first=False, proves_first=True)
    assert plan.first_is_proven
    assert known_days.starts_to_prove(plan) == {DayStart(DAY, 1)}
    assert known_days.days_to_renew() == {DAY}


def test_any_other_first_trade_does() -> None:
    known_days = holdings_of(2)
    plan = known_days.plan(DAY_MS + 100, newest_first=False, proves_first=True)
    assert not plan.first_is_proven
    assert known_days.starts_to_prove(plan) == set()
    assert known_days.days_to_renew() == set()
