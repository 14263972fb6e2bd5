"""Whose turn it is: a queue by rank, in which the claimants of a rank take turns.

Owns fairness: who has much to ask cannot keep those waiting who have little, and what is wanted now goes before what is
wanted for completeness.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Rank(IntEnum):
    """What a request is for; a lower rank goes first. CLIENT is what other programs ask through us."""

    HEAL = 0
    TOP_UP = 1
    CLIENT = 2
    TODAY = 3
    OLDER = 4


class FairQueue(Generic[T]):
    """Items that wait, each for a claimant with a rank."""

    def __init__(self) -> None:
        self._ranks: dict[Rank, OrderedDict[Hashable, deque[T]]] = {rank: OrderedDict() for rank in Rank}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, item: T, rank: Rank, claimant: Hashable) -> None:
        """Join the queue: behind the claimant's own items, and a new claimant behind all others of its rank."""
        self._ranks[rank].setdefault(claimant, deque()).append(item)
        self._count += 1

    def first(self) -> T | None:
        """The item whose turn it is, or None if nothing waits."""
        for claims in self._ranks.values():
            for items in claims.values():
                return items[0]
        return None

    def pop(self) -> T:
        """Take the item whose turn it is; its claimant goes to the end. Raises IndexError if nothing waits."""
        for claims in self._ranks.values():
            for claimant, items in claims.items():
                item = items.popleft()
                self._count -= 1
                del claims[claimant]
                if items:
                    claims[claimant] = items
                return item
        raise IndexError("nothing waits")
