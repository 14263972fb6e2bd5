"""Which host to ask: the bases of a market in order of preference, and which of them are passed over for now.

Owns the memory of what failed. All hosts of a market are one budget; that is the governor's business, not ours.
"""

from collections.abc import Callable, Sequence

import structlog

from backfilld.core.retry import doubled
from backfilld.errors import SettingsError

log = structlog.get_logger()

UNREACHABLE_S = 60.0
"""A host that could not be reached is tried again after this, twice as long each time, up to a quarter of an hour."""
LONGEST_UNREACHABLE_S = 900.0
CLOSED_S = 86_400.0
"""A host that is closed to our country (451) is tried again after this."""


class Hosts:
    """The base URLs of one market. ``clock`` is any monotonic clock, in seconds."""

    def __init__(self, bases: Sequence[str], clock: Callable[[], float]) -> None:
        self._bases = [base.rstrip("/") for base in bases]
        _check_schemes(self._bases)
        self._clock = clock
        self._out_until: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._lost_at: dict[str, float] = {}
        self._proven: set[str] = set()

    def __str__(self) -> str:
        return ", ".join(self._bases)

    def preferred(self) -> str:
        """The first base that is in use; if none is, the one that will be so first."""
        now = self._clock()
        usable = (base for base in self._bases if self._out_until.get(base, now) <= now)
        return next(usable, None) or min(self._bases, key=lambda base: self._out_until[base])

    def reached(self, base: str) -> None:
        """It answered."""
        if self._failures.pop(base, None):
            self._out_until.pop(base, None)
        lost_at = self._lost_at.pop(base, None)
        if lost_at is not None:
            log.info("host_reached", host=base, seconds=round(self._clock() - lost_at, 1))

    def answered_well(self, base: str) -> None:
        """It gave an answer of Binance's API, so it is the right base URL: a strange answer later is a passing one."""
        self._proven.add(base)

    def is_proven(self, base: str) -> bool:
        """Whether it has ever answered well."""
        return base in self._proven

    def unreachable(self, base: str) -> None:
        """No connection, or no answer. The only host there is remains in use."""
        self._lost_at.setdefault(base, self._clock())
        failures = self._failures.get(base, 0)
        if len(self._bases) > 1 and self._out_until.get(base, 0.0) <= self._clock():
            self._failures[base] = failures + 1
            self._leave(base, doubled(UNREACHABLE_S, LONGEST_UNREACHABLE_S, failures + 1), "unreachable")

    def closed(self, base: str) -> bool:
        """It is closed to us; returns whether there is another one that is not."""
        self._leave(base, CLOSED_S, "closed to us")
        now = self._clock()
        return any(self._out_until.get(each, now) <= now for each in self._bases)

    def _leave(self, base: str, for_s: float, reason: str) -> None:
        self._out_until[base] = self._clock() + for_s
        if len(self._bases) > 1:
            log.warning("host_left", host=base, reason=reason, seconds=for_s, next=self.preferred())


def _check_schemes(bases: Sequence[str]) -> None:
    """Raise SettingsError where http would be used when https fails: who can break the one can then read the other."""
    plain = [base for base in bases if base.startswith("http:")]
    if plain and len(plain) < len(bases):
        raise SettingsError(f"{', '.join(bases)}: https never falls back to http, so leave out {', '.join(plain)}")
