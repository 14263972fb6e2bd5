"""The reader: looks at day files for the scheduler, which must not stand still while they are read.

Owns the sequence of its requests: one at a time, first come first served. Must not write trades; the writer does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import structlog
import trio

from backfilld.actors.messages import (
    AddUp,
    FiguresRead,
    ReaderMessage,
    RetireDays,
    SchedulerMessage,
    SyncAction,
    SyncEvent,
)
from backfilld.core.backfill.adjoining import goes_back
from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.figures import Figures
from backfilld.core.model import Instrument, day_of, day_start_ms, day_stop_ms
from backfilld.core.retention import expired_days
from backfilld.core.sync.events import (
    DayDeleted,
    DaysAltered,
    DaysLoaded,
    DaysUnreadable,
    Distrust,
    Leave,
    LoadDays,
    LookAtFiles,
    Remember,
)
from backfilld.errors import DayDamaged, DayLocked, StoreError
from backfilld.ports import TradeStore

log = structlog.get_logger()

SETTLING_S = 0.2
"""A file that this process is just replacing looks altered until the writer has noted it."""


class Reading:
    """A reader from outside. ``is_busy`` while a request is not answered yet, for it rests only when there is none;
    ``steps`` counts the days that it has read, added up or deleted, and its answers."""

    def __init__(self) -> None:
        self.is_busy = False
        self.steps = 0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is being answered."""
        self.is_busy = True
        try:
            yield
        finally:
            self.is_busy = False
            self.steps += 1


async def run_reader(
    requests: trio.MemoryReceiveChannel[ReaderMessage],
    events: trio.MemorySendChannel[SchedulerMessage],
    store: TradeStore,
    reading: Reading,
    stop: trio.Event,
) -> None:
    """Open the store, then answer requests until there are no more. After ``stop`` nothing is begun."""
    async with requests, events:
        with reading.busy():
            await store.open()
        reader = _Reader(events, store, reading, stop)
        async for request in requests:
            if not stop.is_set() or (isinstance(request, SyncAction) and isinstance(request.action, Remember)):
                with reading.busy():
                    await reader.answer(request)


class _Reader:
    def __init__(
        self,
        events: trio.MemorySendChannel[SchedulerMessage],
        store: TradeStore,
        reading: Reading,
        stop: trio.Event,
    ) -> None:
        self._events = events
        self._store = store
        self._reading = reading
        self._stop = stop

    async def answer(self, request: ReaderMessage) -> None:
        match request:
            case SyncAction(instrument, LoadDays(days)):
                await self._read(instrument, days)
            case SyncAction(instrument, LookAtFiles()):
                altered = await self._store.altered(instrument)
                if altered:
                    await trio.sleep(SETTLING_S)
                    altered &= await self._store.altered(instrument)
                if altered:
                    await self._events.send(SyncEvent(instrument, DaysAltered(altered)))
            case SyncAction(instrument, Distrust(day, reason)):
                await self._store.distrust(instrument, day, reason)
            case SyncAction(instrument, Leave()):
                await self._store.leave(instrument)
            case AddUp():
                await self._events.send(await self._added_up(request))
            case RetireDays():
                await self._retire(request)
            case SyncAction(instrument, Remember(shown)):
                await self._remember(instrument, shown)

    async def _read(self, instrument: Instrument, days: tuple[date, ...]) -> None:
        stored = set(await self._store.days(instrument))
        records: dict[date, Certificate | None] = dict.fromkeys(days)
        shown = await self._store.recall(instrument)
        known = await self._store.load_known(instrument, [day for day in days if day in stored])
        records.update(known)
        self._reading.steps += len(known)
        try:
            for day in days:
                if self._stop.is_set():
                    return
                if day in stored and day not in known:
                    records[day] = await self._loaded(instrument, day)
                    self._reading.steps += 1
        except DayLocked as error:
            await self._events.send(SyncEvent(instrument, DaysUnreadable(error)))
        else:
            await self._events.send(SyncEvent(instrument, DaysLoaded(records, shown)))

    async def _loaded(self, instrument: Instrument, day: date) -> Certificate | None:
        """A process that was killed may have left pages that contradict each other: nothing is proven of such a day."""
        record = await self._store.load(instrument, day)
        if record is None or record.opened or len(record.coverage.ranges) == record.rows:
            return record
        if goes_back(await self._store.read(instrument, day_start_ms(day), day_stop_ms(day))) is None:
            return record
        await self._store.distrust(instrument, day, "it has trades whose times contradict each other")
        return None

    async def _remember(self, instrument: Instrument, shown: ShownEnd) -> None:
        """A disk that fails now fails the writer too, and then nothing is complete."""
        try:
            await self._store.remember(instrument, shown)
        except StoreError as error:
            log.warning("shown_unsaved", instrument=str(instrument), error=str(error))

    async def _added_up(self, request: AddUp) -> FiguresRead:
        instrument = request.instrument
        try:
            figures = await self._sum(request)
        except (DayDamaged, DayLocked) as error:
            log.warning("day_damaged", instrument=str(instrument), error=str(error))
            return FiguresRead(instrument, None, is_damaged=True)
        return FiguresRead(instrument, figures, is_whole=request.is_whole)

    async def _sum(self, request: AddUp) -> Figures:
        """Day by day: years take minutes, in which those who watch must see that it moves."""
        total, instrument = Figures(request.tick), request.instrument
        first, last = day_of(request.start_ms), day_of(request.stop_ms - 1)
        for day in await self._store.days(instrument):
            if first <= day <= last:
                start_ms = max(request.start_ms, day_start_ms(day))
                stop_ms = min(request.stop_ms, day_stop_ms(day))
                total += await self._store.context(instrument, start_ms, stop_ms, request.tick)
                self._reading.steps += 1
        return total

    async def _retire(self, request: RetireDays) -> None:
        for instrument in request.instruments:
            for day in expired_days(await self._store.days(instrument), request.today, request.keep_days):
                is_deleted = await self._store.delete(instrument, day)
                self._reading.steps += 1
                if is_deleted:
                    log.info("day_deleted", instrument=str(instrument), day=day.isoformat())
                    await self._events.send(SyncEvent(instrument, DayDeleted(day)))
                else:
                    log.debug("day_kept", instrument=str(instrument), day=day.isoformat())
