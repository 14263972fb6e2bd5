"""The exchange's clock and the state of its streams, as the daemon knows them."""

from collections.abc import Callable
from dataclasses import dataclass

from backfilld.core.model import Instrument, Market


@dataclass(frozen=True, slots=True)
class Clock:
    """``bounds_ms`` gives the earliest and the latest instant that a market's clock can show now; ``is_attached`` says
    whether the stream brings an instrument."""

    bounds_ms: Callable[[Market], tuple[int, int]]
    is_attached: Callable[[Instrument], bool]

    def now_ms(self, market: Market) -> int:
        """The best guess of a market's clock."""
        return sum(self.bounds_ms(market)) // 2
