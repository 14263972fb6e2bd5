"""The writer: puts each stretch of a day on disk, and says so.

Owns the order of saving: one at a time, first come first served; and the patience with a disk that fails: what it
cannot save it keeps and tries again, and meanwhile takes nothing more, which slows the fetchers down to nothing. How a
file is replaced is the store's.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
import structlog
import trio
from trio_util import AsyncValue

from backfilld.actors.messages import DayMerged, DaySaved, RoundSaved, SchedulerMessage, WriterMessage
from backfilld.errors import DayDamaged, StoreError
from backfilld.ports import Saved, TradeStore

log = structlog.get_logger()

LONGEST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class DiskTrouble:
    """The disk refuses: why, and how often it was tried."""

    reason: str
    tries: int = 1


class Disk:
    """How a failing disk is met: with ``is_patient`` it is tried until it works, else the first failure is raised.
    ``trouble`` shows what is wrong."""

    def __init__(self, *, is_patient: bool) -> None:
        self.is_patient = is_patient
        self.trouble: AsyncValue[DiskTrouble | None] = AsyncValue(None)
        self._shields: set[trio.CancelScope] = set()
        self.deadline = math.inf

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Let nothing from outside cancel the block; but it is left at the deadline, wherever it is by then."""
        with trio.CancelScope(shield=True, deadline=self.deadline) as shield:
            self._shields.add(shield)
            try:
                yield
            finally:
                self._shields.remove(shield)

    async def save(self, message: DayMerged, store: TradeStore) -> Saved:
        """Save once; a cancellation from outside does not reach it."""
        with self.shielded():
            return await store.save(message.instrument, message.day, message.new.trades, message.day_starts)
        raise StoreError(f"{message.new.trades.height} trades of {message.day} could not be saved in time")

    def abandon_at(self, deadline: float) -> None:
        """Let go of the disk then, even of a save that hangs."""
        self.deadline = deadline
        for shield in self._shields:
            shield.deadline = deadline


async def run_writer(
    days: trio.MemoryReceiveChannel[WriterMessage],
    events: trio.MemorySendChannel[SchedulerMessage],
    store: TradeStore,
    disk: Disk,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Save every stretch in turn until there are no more. A save in progress is not cancelled."""
    async with days, events:
        async for message in days:
            if isinstance(message, DayMerged):
                await events.send(await _save(message, store, disk, clock))
            else:
                disk.trouble.value = None
                await events.send(RoundSaved(message.instrument))


async def _save(message: DayMerged, store: TradeStore, disk: Disk, clock: Callable[[], float]) -> DaySaved:
    began = clock()
    saved = await _insist(message, store, disk)
    about = log.bind(instrument=str(message.instrument), day=message.day.isoformat())
    downloaded = message.new.trades.height
    conflicts = pl.concat([message.new.conflicts, saved.conflicts])
    if downloaded:
        about.info(
            "trades_merged",
            downloaded=downloaded,
            cached=saved.cached,
            duplicates=message.new.duplicates + saved.duplicates,
            conflicts=conflicts.height,
            total=saved.record.rows,
        )
    for row in conflicts.rows(named=True):
        about.error("trade_conflicted", id=row["a"], refused=row)
    if saved.file is not None:
        milliseconds = round((clock() - began) * 1000, 1)
        about.info("day_saved", file=saved.file, trades=saved.record.rows, bytes=saved.bytes, ms=milliseconds)
    return DaySaved(message.instrument, saved.record, downloaded, conflicts.height)


async def _insist(message: DayMerged, store: TradeStore, disk: Disk) -> Saved:
    """Save, as often as it takes; a day file that was damaged meanwhile is moved aside by reading it."""
    began = trio.current_time()
    while True:
        try:
            saved = await disk.save(message, store)
        except DayDamaged:
            await store.load(message.instrument, message.day)
        except StoreError as error:
            if disk.is_patient and trio.current_time() < disk.deadline:
                await _wait_out(error, message, disk)
            if not disk.is_patient or trio.current_time() >= disk.deadline:
                log.error(
                    "trades_unsaved", trades=message.new.trades.height, day=message.day.isoformat(), error=str(error)
                )
                raise
        else:
            if disk.trouble.value is not None:
                log.info("disk_recovered", seconds=round(trio.current_time() - began, 1))
                disk.trouble.value = None
            return saved


async def _wait_out(error: StoreError, message: DayMerged, disk: Disk) -> None:
    """Say once that the disk fails, and wait a little longer each time."""
    trouble = disk.trouble.value
    if trouble is None:
        log.error("disk_failed", error=str(error), trades_held=message.new.trades.height)
    tries = 1 if trouble is None else trouble.tries + 1
    disk.trouble.value = DiskTrouble(str(error), tries)
    try:
        with trio.move_on_at(disk.deadline):
            await trio.sleep(min(LONGEST_RETRY_S, 2.0 ** (tries - 1)))
    except trio.Cancelled:
        log.error("trades_unsaved", trades=message.new.trades.height, day=message.day.isoformat(), error=str(error))
        raise
