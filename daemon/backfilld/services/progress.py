"""How a use case reports its progress while it runs: one value per step that is done."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of ``phase`` is done: ``amount`` more of ``total``; ``what`` names it. Amounts are bytes where
    ``in_bytes``."""

    phase: str
    what: str
    amount: int
    total: int
    in_bytes: bool = False


Watch = Callable[[Progress], None]


def unwatched(_: Progress) -> None:
    """Nobody looks."""
