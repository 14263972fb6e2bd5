"""How a use case reports its progress while it runs: one value per step that is done."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of ``phase`` is done: ``amount`` more of ``total``; ``what`` names it."""

    phase: str
    what: str
    amount: int
    total: int


Watch = Callable[[Progress], None]


def unwatched(_: Progress) -> None:
    """Nobody looks."""
