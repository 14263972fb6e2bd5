"""How long the exchange has answered without the trade that comes next.

Owns the clock of a hole's patience. It runs only while the exchange answers, and it begins anew with every trade that
comes: a hole of hundreds of pages, a spent budget or a ban cost time, and give nothing up. Never looks at a clock.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Times:
    """The settings that an attachment goes by, in seconds."""

    poll_s: float = 30.0
    silence_s: float = 60.0
    patience_s: float = 30.0


@dataclass(slots=True)
class Patience:
    """The first and the latest denial in a row, in seconds of the caller's clock; None without one."""

    first_at: float | None = None
    latest_at: float = 0.0

    def denied(self, now: float) -> None:
        """An answer did not have the next trade."""
        self.first_at = now if self.first_at is None else self.first_at
        self.latest_at = now

    def begin_anew(self) -> None:
        """The next trade came, or another one is the next."""
        self.first_at = None

    @property
    def is_tried(self) -> bool:
        """Whether an answer denied the trade."""
        return self.first_at is not None

    def is_over(self, patience_s: float) -> bool:
        """Whether the exchange has denied the trade for at least the patience."""
        return self.first_at is not None and self.latest_at - self.first_at >= patience_s
