"""What is shown of the live side, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backfilld.core.histogram import Histogram
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import IdRange, Instrument

HOLES_REMEMBERED = 50
"""The newest holes that are shown one by one; older ones are only counted."""

NO_HEALS = Histogram.empty(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds that holes stood. One REST page takes about 0.1 s; after LIVE_PATIENCE_SECONDS (30) a hole is given up."""


@dataclass(frozen=True, slots=True)
class LiveInstrument:
    """One instrument: whether the stream brings it, how many trades were given out, from which id it goes on, and the
    newest of them.

    ``lag_ms`` is how far the newest message lay behind its event, by the exchange's clock, and never below 0; None
    before the first. ``hole_since_s`` is how long the open hole has stood, None without one. ``is_silent``: REST has
    had trades that the stream did not bring, and no message has come since.
    """

    is_attached: bool
    trades: int = 0
    next_id: int | None = None
    last: LiveTrade | None = None
    lag_ms: float | None = None
    hole_since_s: float | None = None
    is_silent: bool = False


@dataclass(frozen=True, slots=True)
class HoleReport:
    """A hole that is over: healed by REST after ``seconds`` and so many requests, or given up. ``ended_ms`` is the
    host's time, in ms since the epoch."""

    instrument: Instrument
    ids: IdRange
    ended_ms: float
    seconds: float
    requests: int = 0
    is_healed: bool = True


@dataclass(frozen=True, slots=True)
class Healed:
    """A hole that REST filled: its first and last id, how long it stood, and what it cost."""

    ids: IdRange
    seconds: float
    requests: int


@dataclass(frozen=True, slots=True)
class LiveStatistics:
    """The live side at a glance; counts are since the start of the pipeline. ``holes`` are the newest that are over,
    ``heal_seconds`` counts how long the healed ones stood.

    ``lag_ms`` is how far the newest message lay behind its event, by the exchange's clock, and never below 0;
    None before the first.
    """

    instruments: Mapping[Instrument, LiveInstrument] = field(default_factory=dict)
    lag_ms: float | None = None
    connects: int = 0
    holes_found: int = 0
    holes_healed: int = 0
    holes_given_up: int = 0
    holes: tuple[HoleReport, ...] = ()
    heal_seconds: Histogram = NO_HEALS
    duplicates: int = 0
    overflowed: int = 0
    garbage: int = 0

    @property
    def attached(self) -> int:
        """How many instruments the streams bring."""
        return sum(each.is_attached for each in self.instruments.values())

    @property
    def silent(self) -> int:
        """How many instruments the streams do not bring though they are traded."""
        return sum(each.is_silent for each in self.instruments.values())

    @property
    def text(self) -> str:
        """The live side in a few words."""
        parts = [f"{self.attached} of {len(self.instruments)} instruments attached"]
        if self.silent:
            parts.append(f"{self.silent} polled because the stream does not bring their trades")
        if self.lag_ms is not None:
            parts.append(f"lag {self.lag_ms:,.0f} ms")
        if self.holes_found:
            parts.append(f"{self.holes_healed:,} of {self.holes_found:,} holes healed")
        if self.holes_given_up:
            parts.append(f"{self.holes_given_up:,} given up")
        return ", ".join(parts)
