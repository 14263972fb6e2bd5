"""What stands on disk, and what is proven of it without asking anybody."""

from backfilld.actors.holdings import Holdings
from backfilld.core.daybook import DayRecord
from backfilld.core.model import IdRange
from backfilld.core.window import Span, Window
from tests.fakes import DAY, DAY_MS

UM_FIRST = frozenset({1})


def holdings_of(first_id: int) -> Holdings:
    span = Span(IdRange(first_id, first_id + 9), DAY_MS + 5, DAY_MS + 50)
    return Holdings(Window(DAY_MS), [DayRecord(DAY, (span,))], DAY_MS + 100, UM_FIRST)


def test_the_very_first_trade_of_a_symbol_needs_no_neighbour() -> None:
    holdings = holdings_of(1)
    plan = holdings.plan(DAY_MS + 100, newest_first=False, proves_first=True)
    assert plan.first_is_proven
    assert holdings.starts_to_prove(plan) == {1}
    assert holdings.days_to_renew() == {DAY}


def test_any_other_first_trade_does() -> None:
    holdings = holdings_of(2)
    plan = holdings.plan(DAY_MS + 100, newest_first=False, proves_first=True)
    assert not plan.first_is_proven
    assert holdings.starts_to_prove(plan) == set()
    assert holdings.days_to_renew() == set()
