"""A disk that fails, or does not answer: how it is met by those who write to it.

Owns the patience and its deadline. Must not know what is written.
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio
from trio_util import AsyncValue

from backfilld.core.monitor.snapshot import DiskTrouble, Written
from backfilld.errors import StoreError
from backfilld.ports import Saved

T = TypeVar("T")

LONGEST_RETRY_S = 30.0


class Disk:
    """How a failing disk is met: with ``is_patient`` it is tried until it works, else the first failure is raised.
    ``trouble`` shows what is wrong."""

    def __init__(self, *, is_patient: bool) -> None:
        self.is_patient = is_patient
        self.trouble: AsyncValue[DiskTrouble | None] = AsyncValue(None)
        self._shields: set[trio.CancelScope] = set()
        self.deadline = math.inf
        self.written = Written()

    def wrote(self, source: str, trades: int, saved: Saved) -> None:
        """Count a save of so many trades."""
        self.written = self.written.plus(source, trades, 0 if saved.file is None else saved.bytes)

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
