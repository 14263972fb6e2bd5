"""Whatever a foreign answer names, what is believed of it lies within bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.markets import RULES
from backfilld.core.model import Market
from backfilld.core.weight.budget import BELIEVED_TIMES, Budget
from backfilld.core.weight.limits import FASTEST, MOST_LIMITS, SLOWEST, Limit, bounded
from backfilld.core.weight.pauses import LONGEST_PAUSE_MS, Pauses, Reason
from backfilld.core.weight.server_clock import ServerClock
from backfilld.core.weight.weights import LESSONS, MOST_TIMES, WeightTable

DOCUMENTED = RULES[Market.SPOT].limits
units = st.sampled_from(["SECOND", "MINUTE", "HOUR", "DAY", "FORTNIGHT"])
limits = st.builds(Limit, st.integers(-5, 10**400) | st.integers(0, 10_000), st.integers(-1, 100), units, st.booleans())


@given(st.lists(limits, max_size=40))
def test_believed_limits_are_near_the_documented_ones_and_one_by_weight_always_stays(named: list[Limit]) -> None:
    believed = bounded(named, DOCUMENTED)
    pace = DOCUMENTED[0].limit / DOCUMENTED[0].interval_ms
    assert 0 < len(believed) <= MOST_LIMITS
    assert any(each.by_weight for each in believed)
    for each in believed:
        assert each.limit >= max(1, int(pace * each.interval_ms * SLOWEST))
        assert not each.by_weight or each.limit <= max(1, int(pace * each.interval_ms * FASTEST))


def test_what_the_exchange_names_today_is_believed_as_it_is() -> None:
    named = [Limit(6000, 1, "MINUTE"), Limit(300_000, 5, "MINUTE", by_weight=False), Limit(25, 5, "SECOND")]
    assert bounded(named, DOCUMENTED) == tuple(named)


@pytest.mark.parametrize("name", ["0m", "61m", "5000m", "1x", "m", "", "1" * 5000 + "m", "\u0661m"])
def test_a_header_of_no_real_interval_is_not_counted(name: str) -> None:
    assert Limit.unknown(name) is None


def budget_of(limit: int = 400) -> Budget:
    return Budget([Limit(limit, 1, "MINUTE")], 0.8, ServerClock(0.0, 0.0, 0.0))


def test_an_impossible_count_leaves_no_trace() -> None:
    """A count above a few times the limit would else be expected again for ten windows."""
    budget, honest = budget_of(), budget_of()
    for each, used in ((budget, BELIEVED_TIMES * 400 + 1), (honest, 4)):
        each.settle(each.spend(1_000, 4), 1_050, {"1m": used})
    for second in range(60, 120, 5):
        assert budget.wait_ms(second * 1000.0, 4) == honest.wait_ms(second * 1000.0, 4)


def test_headers_of_ever_new_names_are_not_all_counted() -> None:
    budget = budget_of()
    for number in range(1, 60):
        for unit in "smhd":
            budget.settle(budget.spend(1_000, 4), 1_050, {f"{number}{unit}": 4})
    assert len(budget._counters) <= MOST_LIMITS


@given(st.floats(0, 1e300), st.sampled_from(Reason))
def test_no_pause_is_longer_than_the_longest_ban(until_ms: float, reason: Reason) -> None:
    pauses = Pauses()
    pauses.pause(1_000.0, until_ms, reason)
    assert pauses.wait_ms(1_000.0) <= LONGEST_PAUSE_MS


def test_pages_of_the_cdn_without_end_overflow_nothing() -> None:
    pauses = Pauses()
    for _ in range(5000):
        pauses.pause(pauses.until_ms if pauses.until_ms > 0 else 0.0, None, Reason.BLOCKED)
    assert pauses.until_ms < float("inf")


def test_no_header_teaches_a_weight_beyond_the_bound_and_none_is_loaded() -> None:
    learner = WeightTable({"aggTrades": 4}, {"aggTrades": 10**400})
    assert not learner.learned
    step = 4 * MOST_TIMES + 1
    for number in range(3 * LESSONS):
        learner.reported("window", number * step, "aggTrades")
    assert learner["aggTrades"] == 4


def test_a_limit_that_was_met_below_its_name_is_respected_for_the_next_windows() -> None:
    """A limit that the exchange has lowered without a word costs one refusal, not one in every window."""
    lowered, named = 200, 400
    budget, refusals = budget_of(named), 0
    for window in range(1, 20):
        used, now_ms = 0, window * 60_000.0 + 100
        while budget.wait_ms(now_ms, 4) == 0 and now_ms < (window + 1) * 60_000.0 - 1000:
            ticket = budget.spend(now_ms, 4)
            if used + 4 > lowered:
                refusals += 1
                budget.pause(now_ms, None, Reason.LIMITED)
                budget.settle(ticket, now_ms + 1, {"1m": used}, accepted=False)
                break
            used += 4
            budget.settle(ticket, now_ms + 1, {"1m": used})
            now_ms += 300
    assert refusals == 1
