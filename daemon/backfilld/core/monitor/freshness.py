"""Whether what is stored is complete and fresh: the same rule for the endpoint's /readyz and ``status --check``.

Owns what lag means. A stream that is attached and lacks nothing lags as far as its newest message did behind its event,
however quiet the market is: the daemon asks REST when a stream goes silent. Anything else is as old as the moment when
it was last known to be complete.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from backfilld.core.model import Instrument
from backfilld.core.sync.standing import Standing

if TYPE_CHECKING:
    # It comes with polars, and `status` starts without.
    from backfilld.core.live.reports import LiveInstrument


class Freshness(msgspec.Struct, frozen=True):
    """One instrument. ``complete_ms`` is the host's time, in ms since the epoch, up to which its trades are known to be
    here; None before that was ever so. ``is_complete``: its last round found that nothing is missing."""

    is_attached: bool = False
    complete_ms: float | None = None
    is_complete: bool = True


def complete_at(now_s: float, standing: Standing, live: "LiveInstrument | None") -> float | None:
    """Up to when the trades of an instrument are known to be here, in the seconds of the clock that ``now_s`` is from;
    None for never. A stream alone completes nothing: older days may still be missing."""
    if live is None or not live.is_attached or not standing.is_complete:
        return standing.complete_at
    behind_s = (live.lag_ms or 0.0) / 1000 if live.hole_since_s is None else live.hole_since_s
    return now_s - behind_s


_UNKNOWN = Standing()


class Completions:
    """Remembers up to when each instrument was last complete: what was once known to be stored stays so, also where a
    stream is lost and REST has not been asked yet."""

    def __init__(self) -> None:
        self._complete_at: dict[Instrument, float] = {}

    def freshness(
        self,
        instruments: Iterable[Instrument],
        standings: Mapping[Instrument, Standing],
        live: "Mapping[Instrument, LiveInstrument]",
        now_s: float,
        wall_ms: float,
    ) -> Mapping[Instrument, Freshness]:
        """How fresh each instrument is at ``now_s``, which is ``wall_ms`` by the host's clock."""
        found = {
            each: self._fresh(each, standings.get(each, _UNKNOWN), live.get(each), now_s, wall_ms)
            for each in instruments
        }
        for removed in self._complete_at.keys() - found.keys():
            del self._complete_at[removed]
        return found

    def _fresh(
        self, instrument: Instrument, standing: Standing, live: "LiveInstrument | None", now_s: float, wall_ms: float
    ) -> Freshness:
        is_attached = live is not None and live.is_attached
        now_complete, latest = complete_at(now_s, standing, live), self._complete_at.get(instrument)
        if now_complete is not None and (latest is None or now_complete > latest):
            self._complete_at[instrument] = latest = now_complete
        if latest is None:
            return Freshness(is_attached, None, standing.is_complete)
        return Freshness(is_attached, wall_ms - max(0.0, now_s - latest) * 1000, standing.is_complete)


def host_error_ms(earliest_ms: float, latest_ms: float, host_ms: float) -> float:
    """What is to be added to the host's clock, so that it shows a time that the exchange's may show: 0 while it does,
    as a clock that may be right is finer than what answers say of the exchange's."""
    return min(max(host_ms, earliest_ms), latest_ms) - host_ms


def stale(now_ms: float, max_lag_s: float, of: Mapping[str, Freshness]) -> Iterator[str]:
    """What lags by more than ``max_lag_s``, in a sentence each; nothing if all is fresh."""
    for name, each in of.items():
        if each.complete_ms is None:
            yield f"{name}: not complete yet"
        elif now_ms - each.complete_ms > max_lag_s * 1000:
            words = "s behind" if each.is_complete else "s since it was complete"
            yield f"{name}: {(now_ms - each.complete_ms) / 1000:,.0f} {words}, more than {max_lag_s:g} s"
