"""Laws of the exchange's own count of weight: what is charged, when it refuses, how long it bans."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binance_simulator.quotas import Interval, IntervalUnit, Quota
from binance_simulator.weights import BANNED, OK, REFUSED, BanRule, Rules, TenantOptions, WeightMeter

START_MS = 1_767_225_600_000
MINUTE_MS = 60_000

arrivals = st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 20)), min_size=1, max_size=60)
intervals = st.builds(
    Interval, st.sampled_from([1, 5, 10]), st.sampled_from([IntervalUnit.SECOND, IntervalUnit.MINUTE])
)


def meter(limit: int = 100, interval: str = "1M", bans: BanRule | None = None) -> WeightMeter:
    return WeightMeter(Rules(Quota(limit, Interval.parse(interval)), bans=bans or BanRule(after_refusals=10**6)))


@settings(deadline=None)
@given(arrivals=arrivals, limit=st.integers(1, 100), interval=intervals, after_refusals=st.integers(0, 4))
def test_every_answer_follows_from_the_windows_sum(
    arrivals: list[tuple[int, int]], limit: int, interval: Interval, after_refusals: int
) -> None:
    """Against a second, naive count: refused exactly above the limit, banned exactly after so many refusals."""
    bans = BanRule(after_refusals=after_refusals, first_s=20)
    under_test = WeightMeter(Rules(Quota(limit, interval), bans=bans))
    sums: dict[int, int] = defaultdict(int)
    refusals: dict[int, int] = defaultdict(int)
    now_ms, banned_until_ms = START_MS, 0
    for gap_ms, weight in arrivals:
        now_ms += gap_ms
        window = now_ms // interval.ms
        sums[window] += weight
        verdict = under_test.charge(weight, now_ms)
        assert verdict.used_weight == sums[window]
        if now_ms < banned_until_ms:
            expected = BANNED
        elif sums[window] <= limit:
            expected = OK
        else:
            expected = BANNED if refusals[window] >= after_refusals else REFUSED
        assert verdict.status == expected
        refusals[window] += verdict.status == REFUSED
        if verdict.status == BANNED:
            banned_until_ms = verdict.banned_until_ms
            assert banned_until_ms > now_ms
    assert sum(window.used_by_us for window in under_test.windows) == sum(weight for _, weight in arrivals)


@settings(deadline=None)
@given(offset_ms=st.integers(0, MINUTE_MS - 1), interval=intervals)
def test_who_waits_out_a_429_is_served(offset_ms: int, interval: Interval) -> None:
    under_test = WeightMeter(Rules(Quota(10, interval)))
    refused = under_test.charge(11, START_MS + offset_ms)
    assert refused.status == REFUSED
    assert refused.retry_after_s >= 1
    waited_ms = START_MS + offset_ms + refused.retry_after_s * 1000
    assert under_test.charge(10, waited_ms).status == OK
    assert waited_ms - (START_MS + offset_ms) <= interval.ms + 999


@settings(deadline=None)
@given(offset_ms=st.integers(0, 10**7), lasts_s=st.integers(1, 1000))
def test_who_waits_out_a_418_is_served(offset_ms: int, lasts_s: int) -> None:
    """Retry-After and the instant in the text agree, and hold."""
    under_test = meter(bans=BanRule(after_refusals=0, first_s=lasts_s))
    now_ms = START_MS + offset_ms
    banned = under_test.charge(101, now_ms)
    assert (banned.status, banned.retry_after_s) == (BANNED, lasts_s)
    assert banned.banned_until_ms == now_ms + lasts_s * 1000
    assert under_test.charge(1, banned.banned_until_ms - 1).status == BANNED
    later_ms = max(banned.banned_until_ms, now_ms + MINUTE_MS)
    assert under_test.charge(1, later_ms).status == OK


def test_the_count_starts_anew_at_the_clocks_minute() -> None:
    under_test = meter(limit=10)
    assert under_test.charge(10, START_MS + 59_999).used_weight == 10
    assert under_test.charge(4, START_MS + 60_000).used_weight == 4


def test_a_ban_comes_after_three_refusals_and_asking_does_not_lengthen_it() -> None:
    under_test = meter(limit=0, bans=BanRule())
    statuses = [under_test.charge(1, START_MS + place) for place in range(6)]
    assert [verdict.status for verdict in statuses] == [429, 429, 429, 418, 418, 418]
    assert {verdict.banned_until_ms for verdict in statuses[3:]} == {START_MS + 3 + 120_000}


def test_repeat_offenders_are_banned_twice_as_long_up_to_three_days() -> None:
    under_test = meter(limit=0, bans=BanRule(after_refusals=0))
    now_ms, lengths_s = START_MS, []
    for _ in range(14):
        until_ms = under_test.charge(1, now_ms).banned_until_ms
        lengths_s.append((until_ms - now_ms) // 1000)
        now_ms = until_ms
    assert lengths_s[:4] == [120, 240, 480, 960]
    assert lengths_s[-3:] == [120 * 2**11, 3 * 86_400, 3 * 86_400]


def test_a_ban_can_be_pronounced_at_once() -> None:
    under_test = meter()
    under_test.ban(START_MS, 5000)
    assert under_test.charge(1, START_MS + 4999).status == BANNED
    assert under_test.charge(1, START_MS + 5000).status == OK


tenants = st.builds(TenantOptions, st.floats(0, 100), st.integers(0, 50), st.sampled_from([1.0, 7.5, 60.0]))


@settings(deadline=None)
@given(tenant=tenants, gaps_ms=st.lists(st.integers(0, 100_000), min_size=2, max_size=10))
def test_the_other_tenants_use_does_not_depend_on_how_often_one_looks(
    tenant: TenantOptions, gaps_ms: list[int]
) -> None:
    instants_ms = [START_MS + sum(gaps_ms[:place]) for place in range(len(gaps_ms) + 1)]
    in_steps = sum(tenant.weight_between(after, until) for after, until in pairwise(instants_ms))
    assert in_steps == pytest.approx(tenant.weight_between(instants_ms[0], instants_ms[-1]))


def test_the_other_tenant_counts_against_us() -> None:
    rules = Rules(Quota(100), tenant=TenantOptions(weight_per_s=2, burst_weight=30, burst_every_s=30))
    under_test = WeightMeter(rules)
    used = [under_test.charge(1, START_MS + second * 1000).used_weight for second in (0, 10, 29, 30, 31)]
    assert used == [31, 52, 91, 124, 127]
    assert under_test.windows[0].refused == 2
    under_test.charge(1, START_MS + MINUTE_MS)
    first, second = under_test.windows
    assert (first.used_by_us, round(first.used_by_others)) == (5, 2 * 60 + 2 * 30)
    assert (second.used_by_us, round(second.used_by_others)) == (1, 30)


def test_too_many_requests_are_refused_whatever_their_weight() -> None:
    raw = Quota(2, Interval(5, IntervalUnit.MINUTE))
    under_test = WeightMeter(Rules(Quota(100), raw_requests=raw))
    verdicts = [under_test.charge(1, START_MS + MINUTE_MS) for _ in range(3)]
    assert [verdict.status for verdict in verdicts] == [OK, OK, REFUSED]
    assert (verdicts[2].limiter, verdicts[2].retry_after_s) == (raw, 240)
    assert under_test.charge(1, START_MS + 5 * MINUTE_MS).status == OK


def test_the_history_tells_what_happened_in_each_window() -> None:
    under_test = meter(limit=10, bans=BanRule(after_refusals=1, first_s=1))
    for offset_ms in (0, 1, 2, 3, MINUTE_MS):
        under_test.charge(6, START_MS + offset_ms)
    windows = [(w.start_ms - START_MS, w.used_by_us, w.requests, w.refused, w.banned) for w in under_test.windows]
    assert windows == [(0, 24, 4, 1, 2), (MINUTE_MS, 6, 1, 0, 0)]
    totals = under_test.totals()
    assert (totals.requests, totals.max_used_weight, totals.refused, totals.banned, totals.bans) == (5, 24, 1, 2, 1)


def test_a_changed_limit_holds_from_the_next_request() -> None:
    under_test = meter(limit=10)
    assert under_test.charge(8, START_MS).status == OK
    under_test.rules = Rules(Quota(100))
    assert under_test.charge(8, START_MS).status == OK
    under_test.rules = Rules(Quota(100, Interval.parse("10S")))
    assert under_test.charge(8, START_MS).used_weight == 8


@pytest.mark.parametrize(
    ("text", "ms", "suffix"), [("1M", 60_000, "1m"), ("10s", 10_000, "10s"), ("1D", 86_400_000, "1d")]
)
def test_intervals_are_read_and_written_as_the_exchange_does(text: str, ms: int, suffix: str) -> None:
    interval = Interval.parse(text)
    assert (interval.ms, interval.header_suffix) == (ms, suffix)


@pytest.mark.parametrize("text", ["", "M", "0M", "1X", "1 M"])
def test_other_intervals_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and one of S M H D"):
        Interval.parse(text)
