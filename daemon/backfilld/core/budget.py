"""How much request weight may be spent, and when: the arithmetic of one market's budget.

Owns the count of used weight against the exchange's windows. Rules (the exchange's documentation of its limits, and
what was measured on it):

* a limit counts in fixed windows that are aligned to the server's clock; the count falls to zero at each edge;
* a request is charged in the window of its arrival, refused ones too;
* the used-weight header counts everybody on the IP, and the request it answers;
* an answer may be older than the newest one seen, so within a window the count never goes down.

A request is counted before it is sent. Near an edge the window it arrives in is not known: it counts in both, and its
header in neither; and while it is not known which window the server's clock shows, each of them must have room. Times
are local milliseconds of any monotonic clock; nothing here reads a clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from backfilld.core.clock import ServerClock

INTERVAL_MS = {"SECOND": 1_000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}
"""Milliseconds of the interval names in exchangeInfo; their first letters name the header."""
MINUTE_MS = INTERVAL_MS["MINUTE"]
UNIT_OF_LETTER = {unit[0].lower(): unit for unit in INTERVAL_MS}
NO_LIMIT = 2**62
DOUBTFUL_PART = 0.1
"""The part of a window's share that may be sent while it is not known which window it will be charged in."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One limiter of exchangeInfo: ``limit`` per ``count`` times ``unit`` (``6000`` per ``1`` ``MINUTE``).

    ``by_weight`` is true for REQUEST_WEIGHT, false for RAW_REQUESTS, where every request counts one.
    """

    limit: int
    count: int
    unit: str
    by_weight: bool = True

    @property
    def interval_ms(self) -> int:
        """Length of the window."""
        return self.count * INTERVAL_MS[self.unit]

    @property
    def name(self) -> str:
        """The interval as the used-weight header names it: ``1m``, ``10s``."""
        return f"{self.count}{self.unit[0].lower()}"

    def cost(self, weight: int) -> int:
        """What a request of ``weight`` takes of this limit."""
        return weight if self.by_weight else 1


@dataclass(slots=True)
class Ticket:
    """One request: its weight, and when it was sent. Handed out by :meth:`Budget.spend`, given back once."""

    weight: int
    sent_ms: float


@dataclass(slots=True)
class _Window:
    """The count of one window of one limit: the most that a header told, and what no header has told of yet.

    ``certain`` is our own count of what was charged here: the least that is used, whatever headers say.

    ``untold`` are the costs of settled requests that came without a header, or may belong to the window beside, each
    with the instant when it was settled: a header of a request sent later tells of it, if it was charged here.
    """

    certain: int = 0
    told: int = 0
    untold: list[tuple[float, int]] = field(default_factory=list)

    @property
    def used(self) -> int:
        return max(self.certain, self.told) + sum(cost for _, cost in self.untold)

    def tell(self, used: int, sent_ms: float) -> None:
        self.told = max(self.told, used)
        self.untold = [(settled_ms, cost) for settled_ms, cost in self.untold if settled_ms > sent_ms]


@dataclass(slots=True)
class _Counter:
    """One limit and its windows, by window number (server ms // interval)."""

    limit: Limit
    windows: dict[int, _Window] = field(default_factory=dict)

    def window(self, number: int) -> _Window:
        return self.windows.setdefault(number, _Window())

    def forget_before(self, number: int) -> None:
        self.windows = {n: w for n, w in self.windows.items() if n >= number}


class Budget:
    """The request weight of one market for everybody on this IP, of which ``share`` may be used up."""

    def __init__(self, limits: Iterable[Limit], share: float, clock: ServerClock, guard_ms: float = 50.0) -> None:
        self._share = share
        self._guard_ms = guard_ms
        self._in_flight: list[Ticket] = []
        self._paused_until_ms = float("-inf")
        self.clock = clock
        self._counters: list[_Counter] = []
        self.set_limits(limits)

    def set_limits(self, limits: Iterable[Limit]) -> None:
        """Take the limits that exchangeInfo names. Counts of limits that stay are kept."""
        known = {(counter.limit.by_weight, counter.limit.name): counter.windows for counter in self._counters}
        self._counters = [_Counter(limit, known.get((limit.by_weight, limit.name), {})) for limit in limits]

    def pause_until(self, local_ms: float) -> None:
        """Spend nothing before the local instant. A pause is only ever extended."""
        self._paused_until_ms = max(self._paused_until_ms, local_ms)

    def wait_ms(self, now_ms: float, weight: int) -> float:
        """Milliseconds until ``weight`` may be spent, as far as can be told now; 0 if it may be spent at once."""
        waits = [self._paused_until_ms - now_ms]
        waits += [self._wait_ms(counter, now_ms, weight) for counter in self._counters]
        return max(0.0, *waits)

    def next_window_ms(self, now_ms: float) -> float:
        """The local instant by which every window of a minute or less has surely turned over."""
        short = [counter for counter in self._counters if counter.limit.interval_ms <= MINUTE_MS]
        waits = [self._until_over_ms(each, self._possible_windows(each, now_ms)[-1], now_ms) for each in short]
        return now_ms + max(waits, default=MINUTE_MS)

    def spend(self, now_ms: float, weight: int) -> Ticket:
        """Charge a request that is about to be sent."""
        ticket = Ticket(weight, now_ms)
        self._in_flight.append(ticket)
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """Undo the charge of a request that was never sent."""
        self._in_flight.remove(ticket)

    def settle(self, ticket: Ticket, now_ms: float, used: Mapping[str, int]) -> None:
        """Close a request that was answered, refused or lost, with the used weight its headers told, by interval
        name."""
        self._in_flight.remove(ticket)
        self._count_also(used)
        for counter in self._counters:
            told = used.get(counter.limit.name) if counter.limit.by_weight else None
            self._settle(counter, ticket, now_ms, told)

    def _count_also(self, used: Mapping[str, int]) -> None:
        """Count in intervals that headers tell of before exchangeInfo has named their limits."""
        counted = {counter.limit.name for counter in self._counters if counter.limit.by_weight}
        for name in used.keys() - counted:
            unit = UNIT_OF_LETTER.get(name[-1:])
            if unit is not None and name[:-1].isdecimal() and int(name[:-1]) > 0:
                self._counters.append(_Counter(Limit(NO_LIMIT, int(name[:-1]), unit)))

    def _settle(self, counter: _Counter, ticket: Ticket, now_ms: float, told: int | None) -> None:
        interval_ms = counter.limit.interval_ms
        first = int(self.clock.earliest_ms(ticket.sent_ms) // interval_ms)
        last = int(self.clock.latest_ms(now_ms) // interval_ms)
        cost = counter.limit.cost(ticket.weight)
        for number in range(first, last + 1):
            window = counter.window(number)
            if first != last or (told is None and counter.limit.by_weight):
                window.untold.append((now_ms, cost))
                continue
            window.certain += cost
            if told is not None:
                window.tell(told, ticket.sent_ms)
        counter.forget_before(int(self.clock.earliest_ms(now_ms) // interval_ms) - 1)

    def _wait_ms(self, counter: _Counter, now_ms: float, weight: int) -> float:
        """Until there is room in every window that the server's clock may show; 0 if there is now."""
        windows = self._possible_windows(counter, now_ms)
        cost, allowed = counter.limit.cost(weight), self.allowed(counter.limit)
        for number in reversed(windows):
            used = self.used(counter.limit, number)
            if used > 0 and used + cost > allowed:
                return self._until_over_ms(counter, number, now_ms)
        if len(windows) > 1 and self._doubtful(counter, windows[-1]) + cost > max(cost, allowed * DOUBTFUL_PART):
            return self._until_over_ms(counter, windows[0], now_ms)
        return 0.0

    def _doubtful(self, counter: _Counter, number: int) -> int:
        """What may belong to the window or not, and blocks it until a header of the window tells."""
        window = counter.windows.get(number, _Window())
        return sum(cost for _, cost in window.untold) + self._flying(counter.limit)

    def _flying(self, limit: Limit) -> int:
        return sum(limit.cost(ticket.weight) for ticket in self._in_flight)

    def _possible_windows(self, counter: _Counter, now_ms: float) -> range:
        interval_ms = counter.limit.interval_ms
        first = int((self.clock.earliest_ms(now_ms) - self._guard_ms) // interval_ms)
        return range(first, int((self.clock.latest_ms(now_ms) + self._guard_ms) // interval_ms) + 1)

    def _until_over_ms(self, counter: _Counter, number: int, now_ms: float) -> float:
        """Until the window is surely over on the server's clock."""
        edge_ms = (number + 1) * counter.limit.interval_ms
        return max(1.0, edge_ms - self.clock.earliest_ms(now_ms) + self._guard_ms)

    def allowed(self, limit: Limit) -> int:
        """The share of ``limit``, in weight. A single request dearer than that may have an unused window to itself."""
        return int(limit.limit * self._share)

    def used(self, limit: Limit, number: int) -> int:
        """What counts as used of ``limit`` in window ``number``: settled, reported and in flight."""
        counter = next(c for c in self._counters if c.limit == limit)
        window = counter.windows.get(number, _Window())
        return window.used + self._flying(limit)

    def state(self, now_ms: float) -> "BudgetState | None":
        """The tightest weight limit now, for people; None before any limit is known."""
        states = [
            BudgetState(
                limit=counter.limit.limit,
                interval=counter.limit.name,
                allowed=self.allowed(counter.limit),
                used=self.used(counter.limit, self._possible_windows(counter, now_ms)[0]),
                paused_ms=max(0.0, self._paused_until_ms - now_ms),
            )
            for counter in self._counters
            if counter.limit.by_weight and counter.limit.limit != NO_LIMIT
        ]
        return min(states, key=lambda state: state.allowed - state.used, default=None)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget at one instant: weight ``used`` of ``allowed``, out of ``limit`` per ``interval``."""

    limit: int
    interval: str
    allowed: int
    used: int
    paused_ms: float
