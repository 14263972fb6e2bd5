"""How much request weight may be spent, and when: the arithmetic of one market's budget.

Owns the decision whether a request may go now. A request is counted before it is sent. Near an edge the window it
arrives in is not known: it counts in both, and its header in neither; and while it is not known which window the
server's clock shows, each of them must have room, for what others on the IP are expected to use as well. Times are
local milliseconds of any monotonic clock; nothing here reads a clock.
"""

from collections.abc import Iterable, Iterator, Mapping

from backfilld.core.weight.limits import MINUTE_MS, MOST_LIMITS, NO_LIMIT, Limit
from backfilld.core.weight.pauses import Pauses, Reason
from backfilld.core.weight.server_clock import ServerClock
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.core.weight.usage import Counter, Ticket, flying
from backfilld.core.weight.weights import WeightTable

DOUBTFUL_PART = 0.1
"""The part of a window's share that may be sent while it is not known which window it will be charged in."""
BELIEVED_TIMES = 3
"""A reported count above this many times its limit is not believed."""
MET_MS = 60 * MINUTE_MS
"""How long to respect a limit that refused us below its documented value. A refusal for another reason must not slow us
for good."""
LEAST_MET_PART = 0.1
"""The least part of the documented limit that a refusal can lower it to: one odd refusal must not stop us."""
LOOKS = 16
"""How finely the moment is searched when others leave room again: a window's length over two to this."""


class Budget:
    """The request weight of one pool for everybody on this IP, of which ``share`` may be used up; other programs may
    use up ``client_share`` of that through us."""

    def __init__(
        self,
        limits: Iterable[Limit],
        share: float,
        clock: ServerClock,
        *,
        weights: WeightTable | None = None,
        pauses: Pauses | None = None,
        met: Mapping[str, tuple[int, float]] | None = None,
        guard_ms: float = 50.0,
    ) -> None:
        self.share = share
        self.client_share = 0.5
        self._guard_ms = guard_ms
        self._in_flight: list[Ticket] = []
        self.clock = clock
        self.weights = weights or WeightTable({})
        self.pauses = pauses or Pauses()
        self._counters: list[Counter] = []
        self._met = dict(met or {})
        self.set_limits(limits)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits in force."""
        return tuple(counter.limit for counter in self._counters if counter.limit.limit != NO_LIMIT)

    def set_limits(self, limits: Iterable[Limit]) -> None:
        """Take the limits that exchangeInfo names. Counts of limits that stay are kept."""
        known = {(counter.limit.by_weight, counter.limit.name): counter for counter in self._counters}
        self._counters = [known.get((each.by_weight, each.name), Counter(each)).under(each) for each in limits]

    def wait_ms(self, now_ms: float, weight: int, *, is_clients: bool = False) -> float:
        """Milliseconds until ``weight`` may be spent, as far as is known now; 0 if it may be spent at once.
        ``is_clients``: for a request of another program."""
        waits = [self._wait_ms(counter, now_ms, weight) for counter in self._counters]
        if is_clients:
            waits += [self._clients_wait_ms(counter, now_ms, weight) for counter in self._counters]
        return max(0.0, self.pauses.wait_ms(now_ms), *waits)

    def _clients_wait_ms(self, counter: Counter, now_ms: float, weight: int) -> float:
        """Until other programs have room in their share of every window that the server's clock may show. A request
        dearer than that may have the share to itself."""
        cost, allowed = counter.limit.cost(weight), self._allowed(counter.limit, now_ms) * self.client_share
        in_flight = flying(counter.limit, (ticket for ticket in self._in_flight if ticket.is_clients))
        for number in reversed(self._possible_windows(counter, now_ms)):
            used = counter.clients(number) + in_flight
            if used > 0 and used + cost > allowed:
                return self._until_over_ms(counter, number, now_ms)
        return 0.0

    def next_window_ms(self, now_ms: float) -> float:
        """The local instant by which every window of a minute or less has surely turned over."""
        short = [counter for counter in self._counters if counter.limit.interval_ms <= MINUTE_MS]
        waits = [self._until_over_ms(each, self._possible_windows(each, now_ms)[-1], now_ms) for each in short]
        return now_ms + max(waits, default=MINUTE_MS)

    def pause(self, now_ms: float, until_ms: float | None, reason: Reason) -> float:
        """Spend nothing before ``until_ms``, or as long as the reason asks for; returns the instant when it ends."""
        # A ban says nothing of the count at which it comes: it lasts, and may be for what another program did.
        if reason is Reason.LIMITED and self.pauses.wait_ms(now_ms) == 0:
            self._meet_limit(now_ms)
        if until_ms is None and reason is not Reason.BLOCKED:
            until_ms = self.next_window_ms(now_ms)
        self.pauses.pause(now_ms, until_ms, reason)
        return self.pauses.until_ms

    def _meet_limit(self, now_ms: float) -> None:
        """The exchange refused: where the fullest count is below its limit, the limit in force is lower than named, and
        no more than that count is used for a while. A few such steps find any limit, and none undercuts a tenth."""
        fullest = max(self._weighed(now_ms), key=lambda each: each[0] / each[1].limit.limit, default=None)
        if fullest is None or not 0 < fullest[0] < fullest[1].limit.limit:
            return
        used, counter = fullest
        self._met[counter.limit.name] = max(used, int(counter.limit.limit * LEAST_MET_PART)), now_ms + MET_MS

    def _weighed(self, now_ms: float) -> Iterator[tuple[int, Counter]]:
        """The settled count of each limit by weight in the windows that the server's clock may show."""
        for counter in self._counters:
            if counter.limit.by_weight and counter.limit.limit != NO_LIMIT:
                yield max(map(counter.used, self._possible_windows(counter, now_ms))), counter

    def spend(self, now_ms: float, weight: int, endpoint: str = "", *, is_clients: bool = False) -> Ticket:
        """Charge a request that is about to be sent."""
        ticket = Ticket(weight, now_ms, endpoint, is_clients)
        self._in_flight.append(ticket)
        self.pauses.sent(ticket, now_ms)
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """Undo the charge of a request that was never sent."""
        self._remove(ticket)
        self.pauses.ended(ticket, accepted=False)

    def settle(self, ticket: Ticket, now_ms: float, used: Mapping[str, int], *, accepted: bool = True) -> bool:
        """Close a request that was answered, refused or lost, with the used weight of its headers, by interval name.

        ``accepted`` says that the exchange answered and did not refuse. Returns whether a weight was learned by it.
        """
        self._remove(ticket)
        self.pauses.ended(ticket, accepted=accepted)
        used = self._believable(used)
        self._count_also(used)
        learned = [self._settle(counter, ticket, now_ms, used.get(counter.limit.name)) for counter in self._counters]
        return any(learned)

    @property
    def oldest_sent_ms(self) -> float | None:
        """When the oldest request in flight was sent, None if there is none."""
        return min((ticket.sent_ms for ticket in self._in_flight), default=None)

    def forget_flights(self, now_ms: float) -> None:
        """Settle as lost what is in flight: its sender has ended."""
        for ticket in tuple(self._in_flight):
            self.settle(ticket, now_ms, {}, accepted=False)

    def _remove(self, ticket: Ticket) -> None:
        """By identity: two of the same weight and moment are two."""
        place = next((n for n, each in enumerate(self._in_flight) if each is ticket), None)
        if place is None:
            raise ValueError("this ticket is not in flight")
        del self._in_flight[place]

    def _count_also(self, used: Mapping[str, int]) -> None:
        """Count in intervals that headers name before exchangeInfo has named their limits."""
        counted = {counter.limit.name for counter in self._counters if counter.limit.by_weight}
        limits = (Limit.unknown(name) for name in used.keys() - counted)
        room = MOST_LIMITS - len(self._counters)
        self._counters += [Counter(limit) for limit in limits if limit is not None][: max(0, room)]

    def _believable(self, used: Mapping[str, int]) -> Mapping[str, int]:
        """The reported counts without impossible ones, which would stop us for windows to come. The exchange refuses
        long before a count is a few times its limit."""
        limits = {counter.limit.name: counter.limit.limit for counter in self._counters if counter.limit.by_weight}
        return {
            name: count for name, count in used.items() if 0 <= count <= BELIEVED_TIMES * limits.get(name, NO_LIMIT)
        }

    def _settle(self, counter: Counter, ticket: Ticket, now_ms: float, header: int | None) -> bool:
        interval_ms = counter.limit.interval_ms
        arrived_ms, answered_ms = self.clock.earliest_ms(ticket.sent_ms), self.clock.latest_ms(now_ms)
        numbers = range(int(arrived_ms // interval_ms), int(answered_ms // interval_ms) + 1)
        reported = header if counter.limit.by_weight else None
        counter.settle(ticket, now_ms, numbers, reported)
        has_learned = False
        if reported is not None and len(numbers) == 1:
            number = numbers[0]
            ours = counter.own(number) + flying(counter.limit, self._in_flight)
            counter.others.saw(number, reported - ours, arrived_ms)
            has_learned = self.weights.reported((counter.limit.name, number), reported, ticket.endpoint)
        over = int(self.clock.earliest_ms(now_ms) // interval_ms) - 1
        if self.weights.learned and counter.overcharged(over - 1):
            has_learned |= self.weights.unlearn()
        counter.forget_before(over)
        return has_learned

    def _wait_ms(self, counter: Counter, now_ms: float, weight: int) -> float:
        """Until there is room in every window that the server's clock may show; 0 if there is now."""
        windows = self._possible_windows(counter, now_ms)
        cost, allowed = counter.limit.cost(weight), self._allowed(counter.limit, now_ms)
        in_flight = flying(counter.limit, self._in_flight)
        for number in reversed(windows):
            used = counter.used(number) + in_flight
            if used > 0 and used + cost > allowed:
                return self._until_over_ms(counter, number, now_ms)
            if used > 0 and used + cost + self._kept(counter, number, now_ms, allowed, cost) > allowed:
                return self._until_room_ms(counter, number, now_ms, cost, allowed)
        if len(windows) > 1 and counter.doubtful(windows[-1]) + in_flight + cost > max(cost, allowed * DOUBTFUL_PART):
            return self._until_over_ms(counter, windows[0], now_ms)
        return 0.0

    def _expected(self, counter: Counter, number: int, now_ms: float) -> int:
        return counter.others.expected(number, self.clock.earliest_ms(now_ms))

    def _kept(self, counter: Counter, number: int, now_ms: float, allowed: int, cost: int) -> int:
        """What of ``allowed`` is not to be used yet, beside what is used: for others, and to look at them later."""
        server_ms = self.clock.earliest_ms(now_ms)
        to_look = counter.others.kept_to_look(number, server_ms, allowed, cost) if counter.limit.by_weight else 0
        return counter.others.expected(number, server_ms) + to_look

    def _until_room_ms(self, counter: Counter, number: int, now_ms: float, cost: int, allowed: int) -> float:
        """Until so little is kept of the window that ``cost`` has room beside it, or the window is over."""
        room = allowed - cost - counter.used(number) - flying(counter.limit, self._in_flight)
        low, high = 0.0, self._until_over_ms(counter, number, now_ms)
        for _ in range(LOOKS):
            middle = (low + high) / 2
            if self._kept(counter, number, now_ms + middle, allowed, cost) > room:
                low = middle
            else:
                high = middle
        return max(1.0, high)

    def _possible_windows(self, counter: Counter, now_ms: float) -> range:
        interval_ms = counter.limit.interval_ms
        first = int((self.clock.earliest_ms(now_ms) - self._guard_ms) // interval_ms)
        return range(first, int((self.clock.latest_ms(now_ms) + self._guard_ms) // interval_ms) + 1)

    def _until_over_ms(self, counter: Counter, number: int, now_ms: float) -> float:
        """Until the window is surely over on the server's clock."""
        edge_ms = (number + 1) * counter.limit.interval_ms
        return max(1.0, edge_ms - self.clock.earliest_ms(now_ms) + self._guard_ms)

    def _allowed(self, limit: Limit, now_ms: float) -> int:
        """The share of ``limit``, in weight. A single request dearer than that may have an unused window to itself."""
        met, until_ms = self._met.get(limit.name, (limit.limit, now_ms)) if limit.by_weight else (limit.limit, now_ms)
        in_force = min(limit.limit, met) if now_ms < until_ms else limit.limit
        return int(in_force * self.share * self.pauses.caution(now_ms))

    def used(self, limit: Limit, number: int) -> int:
        """What counts as used of ``limit`` in window ``number``: settled, reported and in flight."""
        counter = next(each for each in self._counters if each.limit == limit)
        return counter.used(number) + flying(limit, self._in_flight)

    def statistics(self, now_ms: float) -> BudgetStatistics | None:
        """The budget by its tightest weight limit now; None before any limit is known."""
        by_weight = [each for each in self._counters if each.limit.by_weight and each.limit.limit != NO_LIMIT]
        statistics = [self._statistics(counter, now_ms) for counter in by_weight]
        return min(statistics, key=lambda each: each.allowed - each.used, default=None)

    def _statistics(self, counter: Counter, now_ms: float) -> BudgetStatistics:
        number = self._possible_windows(counter, now_ms)[0]
        in_flight = flying(counter.limit, self._in_flight)
        clients = counter.clients(number) + flying(counter.limit, (t for t in self._in_flight if t.is_clients))
        paused_ms = max(0.0, self.pauses.until_ms - now_ms)
        return BudgetStatistics(
            limit=counter.limit.limit,
            interval=counter.limit.name,
            window_ms=number * counter.limit.interval_ms,
            allowed=self._allowed(counter.limit, now_ms),
            used=counter.used(number) + in_flight,
            own=counter.own(number) + in_flight - clients,
            clients=clients,
            others=counter.others.seen(number),
            expected=self._expected(counter, number, now_ms),
            paused_ms=paused_ms,
            reason=self.pauses.reason if paused_ms else None,
            bans_ms_ago=tuple(now_ms - end_ms for end_ms in self.pauses.bans),
            learned=dict(self.weights.learned),
            met={name: (limit, until - now_ms) for name, (limit, until) in self._met.items() if until > now_ms},
        )
