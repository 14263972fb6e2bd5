"""What is shown of the live side, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backfilld.core.model import Instrument


@dataclass(frozen=True, slots=True)
class LiveInstrument:
    """One instrument: whether the stream brings it, how many trades were given out, from which id it goes on."""

    is_attached: bool
    trades: int = 0
    next_id: int | None = None


@dataclass(frozen=True, slots=True)
class LiveStatistics:
    """The live side at a glance; counts are since the start of the pipeline.

    ``lag_ms`` is how far the newest message lay behind its event, by the host's clock; None before the first.
    """

    instruments: Mapping[Instrument, LiveInstrument] = field(default_factory=dict)
    lag_ms: float | None = None
    connects: int = 0
    holes_found: int = 0
    holes_healed: int = 0
    holes_given_up: int = 0
    duplicates: int = 0
    overflowed: int = 0
    garbage: int = 0

    @property
    def attached(self) -> int:
        """How many instruments the streams bring."""
        return sum(each.is_attached for each in self.instruments.values())

    @property
    def text(self) -> str:
        """The live side in a few words."""
        parts = [f"{self.attached} of {len(self.instruments)} instruments attached"]
        if self.lag_ms is not None:
            parts.append(f"lag {max(0.0, self.lag_ms):,.0f} ms")
        if self.holes_found:
            parts.append(f"{self.holes_healed:,} of {self.holes_found:,} holes healed")
        if self.holes_given_up:
            parts.append(f"{self.holes_given_up:,} given up")
        return ", ".join(parts)
