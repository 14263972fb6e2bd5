"""The budget against a server that counts weight in windows of its own clock: what it may spend, and that it can."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backfilld.core.weight.budget import Budget
from backfilld.core.weight.limits import MINUTE_MS, Limit
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.server_clock import DRIFT, ServerClock
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.core.weight.usage import Ticket

MINUTELY = Limit(100, 1, "MINUTE")
EPOCH_MS = 1_762_473_600_000.0


def exact_clock(server_ms: float = EPOCH_MS, precision_ms: float = 0.0) -> ServerClock:
    """The server shows ``server_ms`` at local 0."""
    return ServerClock(server_ms, server_ms + precision_ms, 0.0)


# -- the model


@dataclass
class World:
    """A server, the clocks, other tenants of the IP, and clients that spend as soon as they may."""

    random: Random
    limit: Limit
    share: float
    offset_ms: float
    drift: float
    latency_ms: float
    clients: int
    tenant: bool
    now_ms: float = 0.0
    ours: Counter[int] = field(default_factory=Counter)
    theirs: Counter[int] = field(default_factory=Counter)
    answered: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        error_ms = self.random.uniform(-990, 990)
        clock = ServerClock.assumed(0.0, EPOCH_MS + self.offset_ms + error_ms)
        self.budget = Budget([self.limit], self.share, clock)
        self.events: list[tuple[float, int, Iterator[None]]] = []
        self.order = count()
        self.in_flight = 0

    def server_ms(self) -> float:
        return EPOCH_MS + self.offset_ms + self.now_ms * (1 + self.drift)

    def window(self) -> int:
        return int(self.server_ms() // self.limit.interval_ms)

    def run(self, length_ms: float, weight: int) -> "World":
        while self.now_ms < length_ms:
            wait_ms = self.budget.wait_ms(self.now_ms, weight)
            while wait_ms == 0 and self.in_flight < self.clients:
                self.begin(self.request(weight))
                wait_ms = self.budget.wait_ms(self.now_ms, weight)
            next_event_ms = self.events[0][0] if self.events else float("inf")
            next_spend_ms = self.now_ms + wait_ms if self.in_flight < self.clients else float("inf")
            assert min(next_event_ms, next_spend_ms) < float("inf")
            if next_spend_ms < next_event_ms:
                self.now_ms = next_spend_ms
                continue
            self.now_ms, _, request = heapq.heappop(self.events)
            self.begin(request)
        return self

    def begin(self, request: Iterator[None]) -> None:
        """Run a request up to its next wait."""
        for _ in request:
            delay_ms = self.random.expovariate(1 / self.latency_ms)
            heapq.heappush(self.events, (self.now_ms + delay_ms, next(self.order), request))
            return

    def request(self, weight: int) -> Iterator[None]:
        """Sent, under way to the server, charged and reported, under way back, settled; refused or lost at times."""
        ticket = self.budget.spend(self.now_ms, weight)
        self.in_flight += 1
        yield
        window = self.window()
        if self.tenant:
            room = int(self.limit.limit * (1 - self.share)) - self.theirs[window]
            self.theirs[window] += self.random.randint(0, max(0, room))
        self.ours[window] += weight
        counted = self.ours[window] + self.theirs[window]
        self.refused += counted > self.limit.limit
        server_ms = self.server_ms()
        is_lost = self.random.random() < 0.1
        yield
        if is_lost:
            yield
            self.budget.settle(ticket, self.now_ms, {})
        else:
            clock = self.budget.clock
            self.budget.clock = clock.observed(ticket.sent_ms, self.now_ms, server_ms // 1000 * 1000, 1000)
            self.budget.settle(ticket, self.now_ms, {self.limit.name: counted})
        self.in_flight -= 1
        self.answered += 1


@st.composite
def worlds(draw: st.DrawFn, *, tenant: bool) -> World:
    """Any server: its offset, drift, latency up to many seconds, and any share."""
    return World(
        random=Random(draw(st.integers(0, 2**20))),
        limit=draw(st.sampled_from([MINUTELY, Limit(50, 10, "SECOND"), Limit(40, 1, "SECOND")])),
        share=draw(st.sampled_from([0.5, 0.8, 1.0])),
        offset_ms=draw(st.floats(-50_000, 50_000)),
        drift=draw(st.floats(-DRIFT, DRIFT)),
        latency_ms=draw(st.sampled_from([1.0, 20.0, 300.0, 4000.0])),
        clients=draw(st.integers(1, 12)),
        tenant=tenant,
    )


@settings(max_examples=150)
@given(st.booleans().flatmap(lambda tenant: worlds(tenant=tenant)), st.sampled_from([4, 20]))
def test_the_servers_count_never_exceeds_the_limit_and_ours_never_our_share(world: World, weight: int) -> None:
    world.run(4 * world.limit.interval_ms + 5 * world.latency_ms, weight)
    assert world.refused == 0
    for window, spent in world.ours.items():
        assert spent <= int(world.limit.limit * world.share)
        assert spent + world.theirs[window] <= world.limit.limit


@settings(max_examples=60)
@given(worlds(tenant=False), st.sampled_from([4, 20]))
def test_alone_on_its_ip_a_client_can_use_its_share_of_every_window(world: World, weight: int) -> None:
    """A budget that never spends keeps every law but this one. Near an edge a request may count twice, and with a
    clock that is known to the second a window of a second is all edge."""
    world.latency_ms, world.clients, world.limit = 1.0, 12, MINUTELY
    world.__post_init__()
    world.run(5.5 * world.limit.interval_ms, weight)
    share = int(world.limit.limit * world.share)
    whole = sorted(world.ours)[2:-1]
    assert whole
    for window in whole:
        assert world.ours[window] >= 0.6 * share, "one in ten is lost here, and counts twice"


@given(st.lists(st.tuples(st.floats(0, 30_000), st.integers(0, 130)), max_size=12), st.sampled_from([4, 20, 90]))
@example([(0.0, 100)], 20)
def test_whatever_was_spent_and_reported_something_can_be_spent_an_interval_later(
    history: list[tuple[float, int]], weight: int
) -> None:
    """Liveness: also when the whole limit is reported as used, and for a request dearer than the share."""
    budget, now_ms = Budget([MINUTELY], 0.8, exact_clock()), 0.0
    for quiet_ms, reported in history:
        now_ms += quiet_ms
        if budget.wait_ms(now_ms, weight) == 0:
            budget.settle(budget.spend(now_ms, weight), now_ms + 5, {"1m": reported})
            now_ms += 5
    began_ms = now_ms
    for _ in range(20):
        wait_ms = budget.wait_ms(now_ms, weight)
        if wait_ms == 0:
            break
        now_ms += wait_ms
    assert budget.wait_ms(now_ms, weight) == 0
    assert now_ms - began_ms <= MINUTE_MS + 200


# -- one rule at a time


def test_a_request_counts_from_the_moment_it_is_sent() -> None:
    budget = Budget([MINUTELY], 0.8, exact_clock())
    tickets = [budget.spend(1000, 20) for _ in range(4)]
    assert budget.wait_ms(1000, 1) > 0
    budget.give_back(tickets.pop())
    assert budget.wait_ms(1000, 20) == 0
    assert budget.wait_ms(1000, 21) > 0


def test_an_answer_that_is_older_than_another_does_not_lower_the_count() -> None:
    budget = Budget([MINUTELY], 1.0, exact_clock())
    one, other = budget.spend(1000, 4), budget.spend(1000, 4)
    budget.settle(one, 1100, {"1m": 90})
    budget.settle(other, 1101, {"1m": 86})
    number = int(EPOCH_MS // MINUTE_MS)
    assert budget.used(MINUTELY, number) == 90
    assert budget.wait_ms(1102, 10) == 0
    assert budget.wait_ms(1102, 11) > 0


@given(st.permutations(range(8)), st.integers(0, 40))
def test_within_a_window_what_answers_report_never_goes_down_in_whatever_order_they_come(
    order: list[int], others: int
) -> None:
    """Each tells of itself and of those that the server had counted before."""
    budget, number = Budget([MINUTELY], 1.0, exact_clock()), int(EPOCH_MS // MINUTE_MS)
    tickets = [budget.spend(1000, 4) for _ in order]
    most = 0
    for n, arrived in enumerate(order):
        reported = others + 4 * (arrived + 1)
        budget.settle(tickets[arrived], 1100 + n, {"1m": reported})
        most = max(most, reported)
        in_flight = 4 * (len(order) - n - 1)
        assert most + in_flight <= budget.used(MINUTELY, number) <= others + 4 * len(order) + in_flight
    assert budget.used(MINUTELY, number) == others + 4 * len(order)


def test_a_request_that_was_lost_counts_on_top_of_what_was_reported() -> None:
    budget = Budget([MINUTELY], 1.0, exact_clock())
    lost, answered = budget.spend(1000, 20), budget.spend(1000, 20)
    budget.settle(answered, 1100, {"1m": 70})
    budget.settle(lost, 5000, {})
    assert budget.used(MINUTELY, int(EPOCH_MS // MINUTE_MS)) == 90


def test_a_lost_request_is_not_counted_twice_once_a_later_answer_has_counted_it() -> None:
    budget = Budget([MINUTELY], 1.0, exact_clock())
    budget.settle(budget.spend(1000, 20), 1100, {})
    budget.settle(budget.spend(1200, 20), 1300, {"1m": 40})
    assert budget.used(MINUTELY, int(EPOCH_MS // MINUTE_MS)) == 40


def test_a_request_over_an_edge_counts_in_both_windows_and_what_it_reported_in_neither() -> None:
    budget = Budget([MINUTELY], 1.0, exact_clock(EPOCH_MS + 59_900))
    budget.settle(budget.spend(0, 20), 200, {"1m": 95})
    number = int(EPOCH_MS // MINUTE_MS)
    assert [budget.used(MINUTELY, number + n) for n in (0, 1, 2)] == [20, 20, 0]


def test_a_spent_window_is_waited_out_to_just_after_its_edge_and_no_further() -> None:
    budget = Budget([MINUTELY], 0.8, exact_clock(EPOCH_MS + 10_000))
    budget.settle(budget.spend(0, 80), 10, {"1m": 80})
    now_ms = 10.0
    while (wait_ms := budget.wait_ms(now_ms, 4)) > 0:
        now_ms += wait_ms
    assert 50_000 < now_ms < 50_080


def test_a_pause_is_kept_and_only_ever_extended() -> None:
    budget = Budget([MINUTELY], 0.8, exact_clock())
    budget.pause(0, 30_000, Reason.LIMITED)
    budget.pause(0, 20_000, Reason.LIMITED)
    assert budget.wait_ms(0, 4) == 30_000
    assert budget.wait_ms(29_999, 4) == 1
    assert budget.wait_ms(30_000, 4) == 0


def test_the_next_window_is_the_latest_edge_of_the_short_limits() -> None:
    daily = Limit(100_000, 1, "DAY")
    budget = Budget([MINUTELY, Limit(10, 1, "SECOND"), daily], 0.8, exact_clock(EPOCH_MS + 10_500))
    assert budget.next_window_ms(0) == pytest.approx(49_550, abs=60)
    assert Budget([daily], 0.8, exact_clock()).next_window_ms(7.0) == MINUTE_MS + 7


def test_a_request_dearer_than_the_share_may_have_an_unused_window_to_itself() -> None:
    budget = Budget([MINUTELY], 0.1, exact_clock())
    assert budget.wait_ms(1000, 20) == 0
    budget.spend(1000, 20)
    assert budget.wait_ms(1000, 20) > 0


def test_raw_request_limits_count_every_request_as_one() -> None:
    raw = Limit(10, 1, "MINUTE", by_weight=False)
    budget = Budget([Limit(6000, 1, "MINUTE"), raw], 0.5, exact_clock())
    for _ in range(5):
        assert budget.wait_ms(1000, 4) == 0
        budget.settle(budget.spend(1000, 4), 1010, {"1m": 4})
    assert budget.wait_ms(1010, 4) > 0


@pytest.mark.parametrize("by_weight", [True, False])
def test_counts_of_limits_that_stay_are_kept_when_limits_are_set(by_weight: bool) -> None:
    limit = Limit(100, 1, "MINUTE", by_weight=by_weight)
    budget = Budget([limit], 1.0, exact_clock())
    budget.settle(budget.spend(1000, 4), 1010, {"1m": 60})
    used = budget.used(limit, int(EPOCH_MS // MINUTE_MS))
    bigger = Limit(200, 1, "MINUTE", by_weight=by_weight)
    budget.set_limits([bigger, Limit(5, 1, "SECOND")])
    assert used == (60 if by_weight else 1)
    assert budget.used(bigger, int(EPOCH_MS // MINUTE_MS)) == used


def test_a_request_in_flight_while_limits_are_set_is_still_counted() -> None:
    budget = Budget([MINUTELY], 1.0, exact_clock())
    ticket = budget.spend(1000, 40)
    budget.set_limits([MINUTELY])
    assert budget.wait_ms(1000, 61) > 0
    budget.settle(ticket, 1010, {})
    assert budget.wait_ms(1010, 61) > 0


def test_without_limits_nothing_waits() -> None:
    budget = Budget([], 0.8, exact_clock())
    assert budget.wait_ms(0, 10_000) == 0
    assert budget.statistics(0) is None


def test_the_state_shown_is_that_of_the_tightest_weight_limit() -> None:
    daily, raw = Limit(100_000, 1, "DAY"), Limit(1, 1, "MINUTE", by_weight=False)
    budget = Budget([daily, MINUTELY, raw], 0.8, exact_clock())
    budget.spend(1000, 4)
    budget.pause(1000, 6000, Reason.LIMITED)
    window_ms = int(EPOCH_MS // MINUTE_MS) * int(MINUTE_MS)
    assert budget.statistics(1000) == BudgetStatistics(
        limit=100, interval="1m", allowed=80, used=4, own=4, paused_ms=5000, reason=Reason.LIMITED, window_ms=window_ms
    )


def test_windows_that_are_over_are_forgotten() -> None:
    """A daemon runs for months."""
    budget = Budget([Limit(40, 1, "SECOND")], 0.8, exact_clock())
    for second in range(50):
        budget.settle(budget.spend(second * 1000.0, 4), second * 1000.0 + 5, {"1s": 4})
    assert len(budget._counters[0]) <= 3


def test_limits_name_their_header_and_their_length() -> None:
    assert (MINUTELY.name, MINUTELY.interval_ms, MINUTELY.cost(20)) == ("1m", 60_000, 20)
    five = Limit(300_000, 5, "MINUTE", by_weight=False)
    assert (five.name, five.interval_ms, five.cost(20)) == ("5m", 300_000, 1)
    assert Limit(1, 1, "DAY").interval_ms == 86_400_000


def test_tickets_of_the_same_weight_and_moment_are_given_back_one_at_a_time() -> None:
    budget = Budget([MINUTELY], 1.0, exact_clock())
    one, other = budget.spend(1000, 4), budget.spend(1000, 4)
    budget.give_back(other)
    budget.settle(one, 1010, {})
    with pytest.raises(ValueError, match="not in flight"):
        budget.settle(Ticket(4, 1000), 1010, {})
