"""The writer: puts each stretch of a day on disk, and says so.

Owns the order of saving: one at a time, first come first served, and rewrites of day files whose turn has come while
nothing else waits (:mod:`backfilld.core.day.saving`); and the patience with a disk that fails: what it
cannot save it keeps and tries again, and meanwhile takes nothing more, which slows the fetchers down to nothing. A day
that no key opens ends only its instrument. How a file is replaced is the store's.
"""

import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import TypeVar

import structlog
import trio
from msgspec.structs import replace

from backfilld.actors.disk import Disk
from backfilld.actors.messages import (
    DayMerged,
    DayPulled,
    DaySealed,
    DaysFlushed,
    SchedulerMessage,
    SyncEvent,
    WriterMessage,
)
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.saving import next_rewrite_at
from backfilld.core.model import Instrument
from backfilld.core.sync.events import ArchiveDayEnded, DaysAltered, DayStored, Flushed
from backfilld.errors import ArchiveError, DayDamaged, DayLocked, ObjectRefused, StoreError
from backfilld.ports import DayPublished, TradeStore
from backfilld.ports.remote import RemoteDays

T = TypeVar("T")
log = structlog.get_logger()

REWRITE_S = 2.0
"""At the end no rewrite is begun so shortly before the deadline: what waits in a journal is on disk."""


async def run_writer(
    days: trio.MemoryReceiveChannel[WriterMessage],
    events: trio.MemorySendChannel[SchedulerMessage],
    store: TradeStore,
    disk: Disk,
    clock: Callable[[], float] = time.perf_counter,
    remote: RemoteDays | None = None,
    on_sealed: Callable[[DaySealed], None] = lambda _: None,
) -> None:
    """Save every stretch in turn until there are no more. A save in progress is not cancelled.

    ``remote`` puts days out of the bucket in place; ``on_sealed`` is called for every sealed day that was saved, and
    must not wait. Rows that wait in a journal are written to the day files at the end.
    """
    writer = _Writer(events, store, disk, clock, remote, on_sealed)
    async with days, events:
        while True:
            try:
                message = await writer.next_of(days)
            except trio.EndOfChannel:
                break
            if message is None:
                await writer.take_turn()
            elif not isinstance(message, DaysFlushed):
                await writer.handle(message)
            else:
                disk.trouble.value = None
                await events.send(SyncEvent(message.instrument, Flushed()))
        await writer.settle()


@dataclass(slots=True)
class _Writer:
    events: trio.MemorySendChannel[SchedulerMessage]
    store: TradeStore
    disk: Disk
    clock: Callable[[], float]
    remote: RemoteDays | None
    on_sealed: Callable[[DaySealed], None]
    urgent_at: float = -math.inf
    """From then on a rewrite whose turn has come may go before what waits."""

    async def next_of(self, days: trio.MemoryReceiveChannel[WriterMessage]) -> WriterMessage | None:
        """What waits or comes next; None if it is a rewrite's turn."""
        now = trio.current_time()
        if now < self.urgent_at or self._turn() > now:
            with suppress(trio.WouldBlock):
                return days.receive_nowait()
        with trio.move_on_at(self._turn()):
            return await days.receive()
        return None

    def _turn(self) -> float:
        is_time = trio.current_time() < self.disk.deadline - REWRITE_S
        return min(self.store.waiting().values(), default=math.inf) if is_time else math.inf

    async def take_turn(self) -> None:
        """Rewrite the file whose turn came first."""
        began = trio.current_time()
        each, day = min(self.store.waiting().items(), key=lambda item: (item[1], item[0]))[0]
        await self._rewrite(each, day)
        self.urgent_at = next_rewrite_at(began, trio.current_time())

    async def handle(self, message: DayMerged | DayPublished | DayPulled) -> None:
        """Save one stretch, and report it. A day that no key opens stays as it is: its instrument reads it again, and
        ends with that sentence. So it does with a day that is gone, of which there is nothing to save."""
        try:
            await self._save(message)
        except (DayLocked, DayDamaged) as locked:
            about = log.bind(instrument=str(message.instrument), day=message.day.isoformat())
            about.error("trades_unsaved", trades=_rows_of(message), error=str(locked))
            await self.events.send(SyncEvent(message.instrument, DaysAltered(frozenset({message.day}))))
            if not isinstance(message, DayMerged):
                await self.events.send(_refused(message, locked))

    async def _save(self, message: DayMerged | DayPublished | DayPulled) -> None:
        match message:
            case DayMerged():
                for part in await self._placed(message):
                    await self._report(await _save(part, self.store, self.disk, self.clock))
            case DayPublished():
                for event in await _take(message, self.store, self.disk, self.clock):
                    await self._report(event)
            case DayPulled() if self.remote is not None:
                await self.events.send(await _admit(message, self.store, self.disk, self.remote))

    async def _placed(self, message: DayMerged) -> list[DayMerged]:
        """One message for each day that the trades belong to; the last one counts what fell away."""
        addition = message.addition
        place = partial(self.store.placed, addition.instrument, addition.day, addition.trades)
        places = await _until_saved(place, message, addition.trades.height, self.store, self.disk)
        *others, last = addition.on_days(places)
        return [*(DayMerged(each, writes_file=message.writes_file) for each in others), replace(message, addition=last)]

    async def settle(self) -> None:
        """Write the day files whose rows wait in a journal, as far as there is time."""
        for each, day in sorted(self.store.waiting()):
            if trio.current_time() < self.disk.deadline - REWRITE_S:
                await self._rewrite(each, day)

    async def _rewrite(self, instrument: Instrument, day: date) -> None:
        await self.handle(DayMerged(Addition(instrument, day), writes_file=True))

    async def _report(self, event: SyncEvent) -> None:
        _report_sealed(event, self.on_sealed)
        await self.events.send(event)


def _rows_of(message: DayMerged | DayPublished | DayPulled) -> int:
    return message.addition.trades.height if isinstance(message, DayMerged) else 0


def _report_sealed(saved: SyncEvent, on_sealed: Callable[[DaySealed], None]) -> None:
    match saved.event:
        case DayStored(record) | ArchiveDayEnded(record=Certificate() as record) if record.sealed:
            on_sealed(DaySealed(saved.instrument, record.day))
        case _:
            pass


def _file_bytes(message: DayMerged | DayPublished | DayPulled) -> int:
    """The size of the file that is joined with what is stored."""
    match message:
        case DayPublished(published=published):
            return published.bytes
        case DayPulled(staged=staged):
            return staged.bytes
        case _:
            return 0


def _refused(message: DayPublished | DayPulled, reason: Exception) -> SyncEvent:
    return SyncEvent(message.instrument, ArchiveDayEnded(message.day, refusal=str(reason)))


async def _save(message: DayMerged, store: TradeStore, disk: Disk, clock: Callable[[], float]) -> SyncEvent:
    began = clock()
    downloaded = message.addition.trades.height
    attempt = partial(store.save if message.writes_file else store.append, message.addition)
    saved = await _until_saved(attempt, message, downloaded, store, disk)
    about = log.bind(instrument=str(message.instrument), day=message.day.isoformat())
    disk.wrote(message.addition.source.name, downloaded, saved)
    conflicts = [row for each in (message.conflicts, saved.conflicts) for row in each.rows(named=True)]
    if downloaded:
        about.info(
            "trades_merged",
            downloaded=downloaded,
            cached=saved.cached,
            duplicates=message.duplicates + saved.duplicates,
            conflicts=len(conflicts),
            total=saved.record.rows,
        )
    for row in conflicts:
        about.error("trade_conflicted", id=row["a"], refused=row)
    if saved.file is not None:
        milliseconds = round((clock() - began) * 1000, 1)
        about.info("day_saved", file=saved.file, trades=saved.record.rows, bytes=saved.bytes, ms=milliseconds)
    return SyncEvent(message.instrument, DayStored(saved.record, len(conflicts)))


async def _take(message: DayPublished, store: TradeStore, disk: Disk, clock: Callable[[], float]) -> list[SyncEvent]:
    began = clock()
    attempt = partial(store.take, message)
    about = log.bind(instrument=str(message.instrument), day=message.day.isoformat())
    try:
        saved = await _until_saved(attempt, message, 0, store, disk)
    except ArchiveError as error:
        return [_refused(message, error)]
    disk.wrote("archive", saved.record.rows - saved.cached, saved)
    about.info(
        "archive_taken",
        file=saved.file,
        trades=saved.record.rows,
        bytes=saved.bytes,
        cached=saved.cached,
        conflicts=saved.conflicts.height,
        missing_ids=sum(map(len, saved.record.holes)),
        findings=saved.findings,
        ms=round((clock() - began) * 1000, 1),
    )
    beside = [SyncEvent(message.instrument, DayStored(each)) for each in saved.beside]
    return [*beside, SyncEvent(message.instrument, ArchiveDayEnded(message.day, saved.record))]


async def _admit(message: DayPulled, store: TradeStore, disk: Disk, remote: RemoteDays) -> SyncEvent:
    """Put a day out of the bucket in its place. It is in the bucket already, so nobody has to push it."""
    about = log.bind(instrument=str(message.instrument), day=message.day.isoformat())
    attempt = partial(remote.admit, message.instrument, message.day, message.staged)
    try:
        saved = await _until_saved(attempt, message, 0, store, disk)
    except ObjectRefused as refusal:
        about.warning("remote_refused", reason=str(refusal))
        return _refused(message, refusal)
    disk.wrote("bucket", saved.record.rows - saved.cached, saved)
    about.info("day_pulled", file=saved.file, trades=saved.record.rows, bytes=saved.bytes)
    return SyncEvent(message.instrument, ArchiveDayEnded(message.day, saved.record))


async def _until_saved(
    attempt: Callable[[], Awaitable[T]],
    of: DayMerged | DayPublished | DayPulled,
    rows: int,
    store: TradeStore,
    disk: Disk,
) -> T:
    """Save, as often as it takes; a day file that was damaged meanwhile is moved aside by reading it."""
    began = trio.current_time()
    is_damaged = False
    while True:
        try:
            if is_damaged:
                with disk.waits.wait(f"reading {of.instrument} {of.day}", trio.current_time()):
                    await store.load(of.instrument, of.day)
            return await _attempted(attempt, of, disk, began)
        except DayDamaged:
            if is_damaged and not rows:
                raise
            is_damaged = True
        except StoreError as error:
            if disk.is_waited_for:
                await _wait_out(error, rows, of.day, disk)
            if not disk.is_waited_for:
                log.error("trades_unsaved", trades=rows, day=of.day.isoformat(), error=str(error))
                raise


async def _attempted(
    attempt: Callable[[], Awaitable[T]], of: DayMerged | DayPublished | DayPulled, disk: Disk, began: float
) -> T:
    saved = await disk.attempt(attempt, f"saving {of.instrument} {of.day}", _file_bytes(of))
    disk.recovered(began)
    return saved


async def _wait_out(error: StoreError, rows: int, day: date, disk: Disk) -> None:
    """Wait before the next try; a cancellation ends it, and is logged."""
    try:
        await disk.wait_out(error, rows)
    except trio.Cancelled:
        log.error("trades_unsaved", trades=rows, day=day.isoformat(), error=str(error))
        raise
