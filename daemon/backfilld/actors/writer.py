"""The writer: puts each stretch of a day on disk, and says so.

Owns the order of saving: one at a time, first come first served. How a file is replaced is the store's.
"""

import time
from collections.abc import Callable

import polars as pl
import structlog
import trio

from backfilld.actors.messages import DayMerged, DaySaved, RoundSaved, SchedulerMessage, WriterMessage
from backfilld.ports import TradeStore

log = structlog.get_logger()


async def run_writer(
    days: trio.MemoryReceiveChannel[WriterMessage],
    events: trio.MemorySendChannel[SchedulerMessage],
    store: TradeStore,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Save every stretch in turn until there are no more. A save in progress is not cancelled."""
    async with days, events:
        async for message in days:
            if isinstance(message, DayMerged):
                await events.send(await _save(message, store, clock))
            else:
                await events.send(RoundSaved(message.instrument))


async def _save(message: DayMerged, store: TradeStore, clock: Callable[[], float]) -> DaySaved:
    began = clock()
    with trio.CancelScope(shield=True):
        saved = await store.save(message.instrument, message.day, message.new.trades, message.day_starts)
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
