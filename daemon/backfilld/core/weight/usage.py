"""What has been used of one limit, window by window.

Owns the rules of counting (the exchange's documentation of its limits, and what was measured on it):

* a limit counts in fixed windows that are aligned to the server's clock; the count falls to zero at each edge;
* a request is charged in the window of its arrival, refused ones too;
* the used-weight header counts everybody on the IP, and the request it answers;
* an answer may be older than the newest one seen, so within a window the count never goes down.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from backfilld.core.weight.foreign_usage import ForeignUsage
from backfilld.core.weight.limits import Limit


@dataclass(slots=True)
class Ticket:
    """One request: its weight, when it was sent (local ms), which endpoint it asks, and whether it is one of another
    program. Given back once."""

    weight: int
    sent_ms: float
    endpoint: str = ""
    is_clients: bool = False


@dataclass(slots=True)
class _Window:
    """The count of one window: the most that a header reported, and what no header has included yet.

    ``certain`` is our own count of what was charged here: the least that is used, whatever headers say. ``perhaps`` is
    what of ours may have been charged here or not. ``clients`` is the part of both that other programs asked for.

    ``unreported`` are the costs of settled requests that came without a header, or may belong to the window beside,
    each with the instant when it was settled: a header of a request sent later includes it, if it was charged here.
    """

    certain: int = 0
    perhaps: int = 0
    clients: int = 0
    reported: int = 0
    unreported: list[tuple[float, int]] = field(default_factory=list)

    @property
    def unreported_cost(self) -> int:
        return sum(cost for _, cost in self.unreported)

    def report(self, used: int, sent_ms: float) -> None:
        self.reported = max(self.reported, used)
        self.unreported = [(settled_ms, cost) for settled_ms, cost in self.unreported if settled_ms > sent_ms]


_UNUSED = _Window()


class Counter:
    """One limit and its windows, by window number (server ms // interval)."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.others = ForeignUsage(limit.interval_ms)
        self._windows: dict[int, _Window] = {}

    def under(self, limit: Limit) -> "Counter":
        """The same count under another limit of the same interval."""
        self.limit = limit
        return self

    def __len__(self) -> int:
        """How many windows are kept."""
        return len(self._windows)

    def used(self, number: int) -> int:
        """What is known to be used of the window, by everybody; what is in flight not included."""
        window = self._windows.get(number, _UNUSED)
        return max(window.certain, window.reported) + window.unreported_cost

    def own(self, number: int) -> int:
        """What we have used, or may have."""
        window = self._windows.get(number, _UNUSED)
        return window.certain + window.perhaps

    def clients(self, number: int) -> int:
        """What of our own other programs have asked for, or may have."""
        return self._windows.get(number, _UNUSED).clients

    def doubtful(self, number: int) -> int:
        """What may belong to the window or not, until a header of the window shows."""
        return self._windows.get(number, _UNUSED).unreported_cost

    def overcharged(self, number: int) -> bool:
        """Whether the server has counted less, of everybody, than we of ourselves alone."""
        window = self._windows.get(number, _UNUSED)
        return 0 < window.reported < window.certain

    def settle(self, ticket: Ticket, settled_ms: float, numbers: range, reported: int | None) -> None:
        """Count a request that was charged in one of the windows ``numbers``; its header said ``reported`` used."""
        cost = self.limit.cost(ticket.weight)
        for number in numbers:
            window = self._windows.setdefault(number, _Window())
            window.clients += cost * ticket.is_clients
            if len(numbers) > 1 or (reported is None and self.limit.by_weight):
                window.unreported.append((settled_ms, cost))
                window.perhaps += cost
                continue
            window.certain += cost
            if reported is not None:
                window.report(reported, ticket.sent_ms)

    def forget_before(self, number: int) -> None:
        """Drop the windows that are over."""
        for over in [each for each in self._windows if each < number]:
            del self._windows[over]


def flying(limit: Limit, tickets: Iterable[Ticket]) -> int:
    """What requests in flight take of a limit."""
    return sum(limit.cost(ticket.weight) for ticket in tickets)
