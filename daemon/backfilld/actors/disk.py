"""How those who write to a disk handle its failures, and a disk that does not answer.

Owns the patience and its deadline, and what is logged of a disk that fails. Must not know what is written.
"""

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
import trio
from trio_util import AsyncValue

from backfilld.core.liveness import Waits
from backfilld.core.monitor.snapshot import DiskTrouble, Written
from backfilld.core.retry import doubled
from backfilld.errors import StoreError
from backfilld.ports import Saved

T = TypeVar("T")
log = structlog.get_logger()

LONGEST_RETRY_S = 30.0

SHOWN_AFTER_S = 30.0
"""After this many seconds without an answer the disk is shown as hanging."""

SLOWEST_BYTES_PER_S = 1_000_000
"""The slowest speed at which a working disk takes in a file, or the machine merges it with others."""


class Disk:
    """How to handle a failing disk: with ``is_patient`` try until it works, else raise the first failure.
    ``trouble`` shows what is wrong; ``waits`` are those for its answers."""

    def __init__(self, *, is_patient: bool) -> None:
        self.is_patient = is_patient
        self.trouble: AsyncValue[DiskTrouble | None] = AsyncValue(None)
        self.waits = Waits()
        self._shields: set[trio.CancelScope] = set()
        self.deadline = math.inf
        self.written = Written()

    def wrote(self, source: str, trades: int, saved: Saved) -> None:
        """Count a save."""
        self.written = self.written.plus(source, trades, 0 if saved.file is None else saved.bytes)

    @property
    def shown_trouble(self) -> DiskTrouble | None:
        """What is wrong with the disk now: why it refuses, or which save it has not answered for long."""
        overdue = self.waits.overdue(trio.current_time(), SHOWN_AFTER_S)
        return DiskTrouble(overdue) if overdue is not None and self.trouble.value is None else self.trouble.value

    @contextmanager
    def shielded(self, what: str = "saving the state", size_bytes: int = 0) -> Iterator[None]:
        """Shield the block from cancellation until the deadline; at the deadline, cancel it."""
        wait = self.waits.wait(what, trio.current_time(), size_bytes / SLOWEST_BYTES_PER_S)
        with wait, trio.CancelScope(shield=True, deadline=self.deadline) as shield:
            self._shields.add(shield)
            try:
                yield
            finally:
                self._shields.remove(shield)

    async def attempt(self, save: Callable[[], Awaitable[T]], what: str, size_bytes: int = 0) -> T:
        """Save ``what`` once, made from a file of ``size_bytes``. A cancellation from outside does not reach it."""
        with self.shielded(what, size_bytes):
            return await save()
        raise StoreError("the disk did not answer in time: what was downloaded since the last checkpoint is not saved")

    @property
    def is_waited_for(self) -> bool:
        """Whether what failed is tried again."""
        return self.is_patient and trio.current_time() < self.deadline

    def failed(self, error: StoreError) -> DiskTrouble:
        """Show that the disk fails; return what is shown."""
        before = self.trouble.value
        trouble = DiskTrouble(str(error), 1 if before is None else before.tries + 1)
        self.trouble.value = trouble
        return trouble

    async def wait_out(self, error: StoreError, rows: int) -> None:
        """Show that the disk fails, log it once with the ``rows`` that wait, and wait: a little longer after each
        failure, and not beyond the deadline."""
        trouble = self.failed(error)
        if trouble.tries == 1:
            log.error("disk_failed", error=str(error), trades_held=rows)
        with trio.move_on_at(self.deadline):
            await trio.sleep(doubled(1.0, LONGEST_RETRY_S, trouble.tries))

    def recovered(self, began: float) -> None:
        """What was begun then is on disk by now. Log it if the disk failed meanwhile."""
        if self.trouble.value is not None:
            log.info("disk_recovered", seconds=round(trio.current_time() - began, 1))
            self.trouble.value = None

    def abandon_at(self, deadline: float) -> None:
        """Give up all saves at ``deadline``, even one that hangs."""
        self.deadline = deadline
        for shield in self._shields:
            shield.deadline = deadline
