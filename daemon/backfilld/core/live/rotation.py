"""The connections of one group of instruments: which to open, and which to close.

    none        open one, when the backoff is over and the exchange's limit on connects allows it
    one         it lives; when it is to be renewed (before 24 h), announced its end, or is found dead: open another
    two         both are taken; the older one is closed when the newer one has brought every instrument that the
                older one brought since then, or OVERLAP_S later; a dead one at once
    lost        the other one serves alone, or: open one at once if this one had brought anything, else after a backoff,
                at the next address

The new connection always comes first: ids make the overlap harmless. Owns connections by number. Never looks at a clock
or at chance (jitter is an argument); must not know sockets.
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf

from backfilld.core.model import Instrument
from backfilld.core.retry import doubled

RENEW_S = 23 * 3600.0
"""A connection is renewed at this age at the latest; the exchange ends it at 24 hours."""

RENEW_JITTER_S = 3600.0
"""Up to so much earlier, so that the connections of many machines do not come back together."""

OVERLAP_S = 60.0
"""A quiet instrument that the older connection brought may keep it open for so long."""

CONNECTS, CONNECTS_S = 150, 300.0
"""Connects in any five minutes: half of what the exchange allows an address; the rest is for others on it."""

AT_ONCE = 50
"""Connects in any five minutes that need not wait. The others are spread, so that one is always to be had soon."""

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Open:
    """Open connection ``number`` to ``url``."""

    number: int
    url: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close connection ``number``: another one has taken over."""

    number: int
    is_renewal: bool = True


@dataclass(slots=True)
class ConnectLimit:
    """The exchange's limit on connects from one address, shared by all groups of a market."""

    most: int = CONNECTS
    window_s: float = CONNECTS_S
    _times: deque[float] = field(default_factory=deque)

    def next_at(self, now: float) -> float:
        """When another connect is allowed."""
        while self._times and self._times[0] <= now - self.window_s:
            self._times.popleft()
        if len(self._times) < AT_ONCE:
            return now
        return max(now, self._times[-1] + self.window_s / (self.most - AT_ONCE))

    def count(self, now: float) -> None:
        """One more connect."""
        self._times.append(now)


@dataclass(slots=True)
class _Connection:
    number: int
    url: str
    renew_at: float
    is_open: bool = False
    is_ending: bool = False
    is_dead: bool = False
    opened_at: float = inf
    heard: set[Instrument] = field(default_factory=set)


class Rotation:
    """The connections to one of ``urls``, in order of preference."""

    def __init__(self, urls: tuple[str, ...], limit: ConnectLimit) -> None:
        self._urls = urls
        self._limit = limit
        self._place = 0
        self._numbers = 0
        self._failures = 0
        self._not_before = -inf
        self._old: _Connection | None = None
        self._new: _Connection | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """The connections that are open or being opened, the older one first."""
        return tuple(each.number for each in (self._old, self._new) if each is not None)

    @property
    def is_open(self) -> bool:
        """Whether any connection stands."""
        return any(each is not None and each.is_open for each in (self._old, self._new))

    @property
    def has_heard(self) -> bool:
        """Whether a connection that stands has brought anything."""
        return any(each is not None and each.is_open and bool(each.heard) for each in (self._old, self._new))

    def opened(self, number: int, now: float) -> None:
        """The connection stands and is subscribed."""
        connection = self._find(number)
        if connection is not None:
            connection.is_open, connection.opened_at = True, now
            if self._old is not None and self._new is connection:
                self._old.heard.clear()

    def heard(self, number: int, instrument: Instrument) -> None:
        """The connection brought a trade of the instrument."""
        connection = self._find(number)
        if connection is not None:
            connection.heard.add(instrument)
            self._failures = 0

    def ending(self, number: int) -> None:
        """The exchange announced the end of the connection."""
        connection = self._find(number)
        if connection is not None:
            connection.is_ending = True

    def dead(self) -> None:
        """What is open brings nothing of an instrument that is traded: try the next address."""
        for connection in (self._old, self._new):
            if connection is not None and connection.is_open:
                connection.is_ending = connection.is_dead = True
        self._place += 1

    def lost(self, number: int, now: float, jitter: float) -> None:
        """The connection ended, or could not be opened; ``jitter`` is a random number in [0, 1)."""
        connection = self._find(number)
        if connection is None:
            return
        if not connection.heard:
            self._failures += 1
            self._place += 1
            wait_s = doubled(FIRST_BACKOFF_S, LONGEST_BACKOFF_S, self._failures)
            self._not_before = now + wait_s * (0.5 + 0.5 * jitter)
        else:
            self._not_before = now + 0.1 * jitter
        if connection is self._old:
            self._old, self._new = self._new, None
        else:
            self._new = None

    def due_at(self, now: float) -> float:
        """When :meth:`actions` may have something to do."""
        if self._old is None or (self._new is None and self._is_to_renew(self._old, now)):
            return max(self._not_before, self._limit.next_at(now))
        if self._new is None:
            return self._old.renew_at
        return self._new.opened_at + OVERLAP_S

    def actions(self, now: float, jitter: float) -> list[Open | Close]:
        """What to do now."""
        done: list[Open | Close] = []
        if self._old is not None and self._new is not None and self._has_taken_over(now):
            done.append(Close(self._old.number, is_renewal=not self._old.is_dead))
            self._old, self._new = self._new, None
        if now < max(self._not_before, self._limit.next_at(now)):
            return done
        if self._old is None:
            self._old = self._opening(now, jitter)
            done.append(Open(self._old.number, self._old.url))
        elif self._new is None and self._is_to_renew(self._old, now):
            self._new = self._opening(now, jitter)
            done.append(Open(self._new.number, self._new.url))
        return done

    def _opening(self, now: float, jitter: float) -> _Connection:
        self._limit.count(now)
        self._numbers += 1
        url = self._urls[self._place % len(self._urls)]
        return _Connection(self._numbers, url, now + RENEW_S - RENEW_JITTER_S * jitter)

    def _is_to_renew(self, connection: _Connection, now: float) -> bool:
        return connection.is_ending or connection.renew_at <= now

    def _has_taken_over(self, now: float) -> bool:
        old, new = self._old, self._new
        if old is None or new is None or not new.is_open:
            return False
        return old.is_dead or old.heard <= new.heard or new.opened_at + OVERLAP_S <= now

    def _find(self, number: int) -> _Connection | None:
        return next((each for each in (self._old, self._new) if each is not None and each.number == number), None)
