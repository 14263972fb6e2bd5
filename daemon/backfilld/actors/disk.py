"""A disk that fails, or does not answer: how it is met by those who write to it.

Owns the patience and its deadline. Must not know what is written.
"""

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import trio
from trio_util import AsyncValue

from backfilld.errors import StoreError
from backfilld.ports import Saved

T = TypeVar("T")

LONGEST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class DiskTrouble:
    """The disk refuses: why, and how often it was tried."""

    reason: str
    tries: int = 1


@dataclass(slots=True)
class Written:
    """What has been put on disk since the process began: trades by where they came from, and bytes of day files."""

    trades: Counter[str] = field(default_factory=Counter)
    bytes: int = 0

    def add(self, source: str, trades: int, saved: Saved) -> None:
        """One more save."""
        self.trades[source] += trades
        self.bytes += saved.bytes if saved.file is not None else 0


class Disk:
    """How a failing disk is met: with ``is_patient`` it is tried until it works, else the first failure is raised.
    ``trouble`` shows what is wrong."""

    def __init__(self, *, is_patient: bool) -> None:
        self.is_patient = is_patient
        self.trouble: AsyncValue[DiskTrouble | None] = AsyncValue(None)
        self._shields: set[trio.CancelScope] = set()
        self.deadline = math.inf
        self.written = Written()

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Let nothing from outside cancel the block; but it is left at the deadline, wherever it is by then."""
        with trio.CancelScope(shield=True, deadline=self.deadline) as shield:
            self._shields.add(shield)
            try:
                yield
            finally:
                self._shields.remove(shield)

    async def attempt(self, save: Callable[[], Awaitable[T]]) -> T:
        """Save once; a cancellation from outside does not reach it."""
        with self.shielded():
            return await save()
        raise StoreError("the disk did not answer in time: what was downloaded since the last checkpoint is not saved")

    async def wait_out(self, error: StoreError, tries: int) -> None:
        """Show that the disk fails, and wait, a little longer after each of the ``tries``; not beyond the deadline."""
        self.trouble.value = DiskTrouble(str(error), tries)
        with trio.move_on_at(self.deadline):
            await trio.sleep(min(LONGEST_RETRY_S, 2.0 ** min(tries - 1, 10)))

    def abandon_at(self, deadline: float) -> None:
        """Let go of the disk then, even of a save that hangs."""
        self.deadline = deadline
        for shield in self._shields:
            shield.deadline = deadline
