"""The registry: all syncs, whose turn it is, and what is on disk for each.

Owns the set of syncs for the scheduler: loading them from the store, dealing questions in turn, retiring days.
Must not know channels; the scheduler does.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import structlog

from backfilld.actors.announcements import log_start
from backfilld.actors.instrument_sync import InstrumentSync, Phase
from backfilld.actors.messages import (
    ArchiveDayEnded,
    DescribeMarket,
    FetchJob,
    Followed,
    GivenUp,
    RowsArrived,
    Spent,
    Statistics,
    TakeFromArchive,
)
from backfilld.core.backfill.outcome import exit_code
from backfilld.core.backfill.sources import archive_days, seam_days, within_reach
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.figures import Figures
from backfilld.core.ids import IdSet
from backfilld.core.markets import RULES
from backfilld.core.model import MS_PER_DAY, Instrument, Market, day_of, day_start_ms, day_stop_ms
from backfilld.core.retention import expired_days
from backfilld.core.sync.spec import RunSpec
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.fair_queue import Rank
from backfilld.errors import EXIT_SETTINGS, DayDamaged, DayLocked
from backfilld.ports import TradeStore

log = structlog.get_logger()

ARCHIVE_AGAIN_S = 3 * 3600.0
"""How often the archive is asked again for a day that is not complete."""


@dataclass(frozen=True, slots=True)
class Times:
    """One instant by three clocks: ``now_ms`` is the best guess of the exchange's time, ``server_ms`` the same once an
    answer has named it and None before, ``monotonic_s`` trio's time."""

    now_ms: int
    server_ms: int | None
    monotonic_s: float


class SyncRegistry:
    """The syncs of the spec's instruments."""

    def __init__(self, spec: RunSpec, store: TradeStore) -> None:
        self.spec = spec
        self._store = store
        self._syncs: dict[Instrument, InstrumentSync] = {}
        self._turns: deque[InstrumentSync] = deque()
        self.last_error: str | None = None
        self._reach_ms: dict[Instrument, int] = {}
        self._unanswered: set[Instrument] = set()
        self.followed: set[Instrument] = set()
        self._asked: set[tuple[Instrument, date]] = set()
        self._answered: set[tuple[Instrument, date]] = set()
        self._locked: dict[Instrument, str] = {}

    def __iter__(self) -> Iterator[InstrumentSync]:
        return iter(self._syncs.values())

    def __contains__(self, instrument: Instrument) -> bool:
        return instrument in self._syncs

    def __getitem__(self, instrument: Instrument) -> InstrumentSync:
        return self._syncs[instrument]

    async def load(self, today: date, times: "Times") -> None:
        """Read and check what is on disk, and plan what is missing of the window that ends now."""
        for instrument in self.spec.instruments:
            await self.add(instrument, today, times)

    async def add(self, instrument: Instrument, today: date, times: "Times") -> InstrumentSync:
        """Plan for one instrument, from what is on disk, in place of the plan there was."""
        self.drop(instrument)
        try:
            sync = await self._load(instrument, today, times)
            self._locked.pop(instrument, None)
        except DayLocked as locked:
            sync = self._without_records(instrument, today, times, locked)
        self._syncs[instrument] = sync
        self._turns.append(sync)
        return sync

    def drop(self, instrument: Instrument) -> None:
        """Forget an instrument's plan, if there is one."""
        sync = self._syncs.pop(instrument, None)
        if sync is not None:
            self._turns.remove(sync)

    def heed_live(self, message: Followed | RowsArrived | GivenUp) -> None:
        """The live side looks after an instrument, has brought rows of it, or has gone on without some."""
        sync = self._syncs.get(message.instrument)
        match message:
            case Followed(instrument) if sync is not None:
                self.followed.add(instrument)
                sync.is_followed = True
            case RowsArrived(found=found) if sync is not None:
                sync.plan.arrived(found)
                sync.newest(found.last_ms)
            case GivenUp(ids=ids, is_passed_over=True) if sync is not None:
                sync.plan.absent |= IdSet((ids,))
            case _:
                pass

    async def apply(self, spec: RunSpec) -> tuple[Instrument, ...]:
        """Mark the plans that another spec, or altered files, make stale; return the instruments to add."""
        days_differ = (spec.days, spec.window) != (self.spec.days, self.spec.window)
        self.spec = spec
        for instrument, sync in self._syncs.items():
            sync.is_removed = instrument not in spec.instruments
            self.followed -= {instrument} if sync.is_removed else set()
            altered = await self._store.altered(instrument)
            if altered:
                log.info("files_changed", instrument=str(instrument), days=sorted(day.isoformat() for day in altered))
            sync.is_stale |= days_differ or bool(altered)
        return tuple(each for each in spec.instruments if each not in self._syncs)

    async def _load(self, instrument: Instrument, today: date, times: "Times") -> InstrumentSync:
        spec, now_ms = self.spec, times.now_ms
        window = spec.window or TimeSpan(day_start_ms(today - timedelta(days=spec.days)))
        stop_ms = window.stop_ms or now_ms
        records = await self._records(instrument, _days(window.start_ms, stop_ms))
        neighbours = await self._neighbours(instrument, window)
        wanted = self._from_archive(instrument, window, now_ms, records | {each.day: each for each in neighbours})
        today_ms, reach_ms = day_start_ms(today), self._reach_ms.get(instrument, 0)
        if window.start_ms < reach_ms < stop_ms:
            window = TimeSpan(reach_ms, window.stop_ms)
        # What comes from the archive is planned around when it is there; meanwhile today is asked for.
        part = TimeSpan(max(window.start_ms, today_ms), window.stop_ms) if wanted and stop_ms > today_ms else window
        sync = InstrumentSync(
            instrument,
            part,
            [*(record for day, record in records.items() if day_stop_ms(day) > part.start_ms), *neighbours],
            now_ms=now_ms,
            server_ms=times.server_ms,
            began_at=times.monotonic_s,
            max_concurrent=spec.max_concurrent,
            # The day before today is asked for later, and would be sent twice.
            proves_first=part is window,
        )
        sync.is_followed = instrument in self.followed
        sync.seams_were_tried = instrument in self._unanswered
        if reach_ms == window.start_ms and sync.plan.first_id != RULES[instrument.market].first_id:
            sync.unreachable_before_ms = reach_ms
        if wanted:
            sync.await_archive(wanted, alone=part is window)
            sync.log.info("archive_planned", days=[day.isoformat() for day in wanted])
        strategy = "uncached" if spec.uncached else "resume" if sync.cached else "full"
        log_start(sync.log, part.start_ms, stop_ms, strategy)
        return sync

    def _without_records(
        self, instrument: Instrument, today: date, times: "Times", locked: DayLocked
    ) -> InstrumentSync:
        """A sync that asks nothing: fetching anew what a locked file holds would need another place for it."""
        window = self.spec.window or TimeSpan(day_start_ms(today))
        now_ms, server_ms, began_at = times.now_ms, times.server_ms, times.monotonic_s
        sync = InstrumentSync(
            instrument, window, (), now_ms=now_ms, server_ms=server_ms, began_at=began_at, max_concurrent=1
        )
        sync.lock(locked)
        if self._locked.get(instrument) != str(locked):
            self._locked[instrument] = str(locked)
            sync.log.error("day_locked", error=str(locked))
        return sync

    async def _records(self, instrument: Instrument, days: Iterable[date]) -> dict[date, Certificate]:
        records = {}
        for day in days:
            record = await self._store.load(instrument, day)
            if record is not None:
                records[day] = record
            elif not self.spec.uncached:
                log.info("cache_missed", instrument=str(instrument), day=day.isoformat())
        return records

    async def _neighbours(self, instrument: Instrument, window: TimeSpan) -> list[Certificate]:
        """The days beside the window, as far as they are held: they may prove its ends, and it theirs."""
        days = [day_of(window.start_ms - 1)] if window.start_ms % MS_PER_DAY == 0 else []
        if window.stop_ms is not None and window.stop_ms % MS_PER_DAY == 0:
            days.append(day_of(window.stop_ms))
        held = await self._store.days(instrument) if days else []
        records = [await self._store.load(instrument, day) for day in days if day in held]
        return [record for record in records if record is not None]

    def _from_archive(
        self, instrument: Instrument, window: TimeSpan, now_ms: int, records: Mapping[date, Certificate]
    ) -> tuple[date, ...]:
        if not self.spec.uses_archive:
            return ()
        answered = {day for held, day in self._answered if held == instrument}
        days = archive_days(window, now_ms, records, answered)
        unanswered = instrument in self._unanswered
        seams = seam_days(window, now_ms, instrument.market, records, unanswered=unanswered)
        return tuple(sorted({*days, *seams} - answered))

    def archive_jobs(self) -> Iterator[TakeFromArchive]:
        """What the archive has not been asked for yet, of what plans await of it."""
        for instrument, sync in self._syncs.items():
            days = tuple(day for day in sorted(sync.archive_days) if (instrument, day) not in self._asked)
            if days:
                self._asked |= {(instrument, day) for day in days}
                yield TakeFromArchive(instrument, days)

    def archive_answered(self, event: ArchiveDayEnded) -> None:
        """The archive's day is held, or it has none; it is not asked again before :meth:`look_again`."""
        instrument, day = event.instrument, event.day
        if event.refusal is not None:
            log.warning("archive_refused", instrument=str(instrument), day=day.isoformat(), reason=event.refusal)
        self._asked.discard((instrument, day))
        self._answered.add((instrument, day))
        if instrument in self._syncs:
            self._syncs[instrument].archive_day_ended(day)

    def look_again(self, sync: InstrumentSync, today: date, now_s: float, now_ms: int) -> None:
        """Now and then: a day that was not published may be by now, ids that were passed over may be there, and the
        window begins a day later."""
        sync.is_stale |= sync.known_days.second_look_is_due(now_ms)
        if self.spec.window is None:
            sync.is_stale |= sync.known_days.may_slide_to(day_start_ms(today - timedelta(days=self.spec.days)))
        if sync.archive_asked_at + ARCHIVE_AGAIN_S <= now_s and sync.lacks_past:
            self._reach_ms.pop(sync.instrument, None)
            self._answered = {each for each in self._answered if each[0] != sync.instrument}
            sync.is_stale = True

    def symbols(self) -> dict[Market, tuple[str, ...]]:
        """The symbols of each market that may be asked about."""
        named = self.askable()
        markets = dict.fromkeys(instrument.market for instrument in named)
        return {market: tuple(each.symbol for each in named if each.market is market) for market in markets}

    def askable(self) -> tuple[Instrument, ...]:
        """The instruments of which something may be asked: those without a locked day."""
        return tuple(each.instrument for each in self if not each.is_locked)

    def next_job(self, described: Collection[Instrument]) -> FetchJob | None:
        """The most urgent question; syncs with questions alike take turns.

        Pages are only asked for of instruments whose market's limits are known, which are the ``described`` ones.
        """
        chosen: tuple[Rank, InstrumentSync] | None = None
        for sync in self._turns:
            rank = sync.rank(pages=sync.instrument in described)
            if rank is not None and (chosen is None or rank < chosen[0]):
                chosen = rank, sync
            if rank is Rank.TOP_UP:
                break
        if chosen is None:
            return None
        rank, sync = chosen
        query = sync.take(pages=sync.instrument in described)
        self._turns.remove(sync)
        self._turns.append(sync)
        if query is None:
            return None
        return FetchJob(sync.instrument, query, sync.window.stop_ms, rank)

    def next_round_at(self) -> float:
        """When the next top-up is due, in trio's time."""
        return min((each.rests_until for each in self if each.phase is Phase.RESTING), default=math.inf)

    def is_over(self) -> bool:
        """Whether the spec is done, or no instrument can be fetched as it stands."""
        ended = all(sync.rounds for sync in self)
        hopeless = all(sync.error and exit_code(sync.error) == EXIT_SETTINGS for sync in self)
        return ended and (self.spec.once or hopeless)

    def charge(self, job: DescribeMarket, spent: Spent) -> None:
        """Book what exchangeInfo has cost on one of the instruments it was read for."""
        described = (each for each in self if each.instrument.market is job.market)
        payer = next((each for each in described if each.instrument.symbol in job.symbols), None)
        if payer is not None:
            payer.spend(spent)

    async def retire_days(self, today: date) -> None:
        """Delete the days that have outlived their time."""
        for instrument in self._syncs if self.spec.keep_days else ():
            for day in expired_days(await self._store.days(instrument), today, self.spec.keep_days):
                if not await self._store.delete(instrument, day):
                    log.debug("day_kept", instrument=str(instrument), day=day.isoformat())
                    continue
                self._syncs[instrument].known_days.records.pop(day, None)
                log.info("day_deleted", instrument=str(instrument), day=day.isoformat())

    async def context(self, sync: InstrumentSync, tick: float, stop_ms: int) -> Figures | None:
        """The figures of what is held of the sync's window, up to ``stop_ms`` if it is open."""
        window, instrument = sync.window, sync.instrument
        try:
            return await self._store.context(instrument, window.start_ms, window.stop_ms or stop_ms, tick)
        except DayDamaged as error:
            log.warning("day_damaged", instrument=str(instrument), error=str(error))
            sync.is_stale = True
            return None

    async def heed_answers(self, sync: InstrumentSync, now_ms: int) -> None:
        """Where the exchange refused to answer for the start of a window, the next plan begins later; what it
        contradicted is moved aside."""
        if sync.distrusted is not None:
            await self._store.distrust(sync.instrument, *sync.distrusted)
        if sync.needs_seams:
            self._unanswered.add(sync.instrument)
        if sync.is_out_of_reach:
            start_ms, market = sync.window.start_ms, sync.instrument.market
            held_ms = [day_start_ms(day) for day in sync.known_days.records if day_start_ms(day) > start_ms]
            # Not beyond the last day: where even that is refused, the sync is lost, and not planned anew.
            last_ms = day_start_ms(day_of((sync.window.stop_ms or now_ms) - 1))
            self._reach_ms[sync.instrument] = min([within_reach(start_ms, now_ms, market), last_ms, *held_ms])

    def statistics(self) -> Statistics:
        """Sums over all syncs."""
        return Statistics(
            wanted=sum(each.fetched + each.to_fetch for each in self),
            fetched=sum(each.fetched for each in self),
            cached=sum(each.cached for each in self),
            requests=sum(each.requests for each in self),
            weight=sum(each.weight for each in self),
            instruments=len(self._syncs),
            complete=sum(each.is_complete for each in self),
            last_error=self.last_error,
            archive_days=sum(len(each.archive_days) for each in self),
            rests_until=self.next_round_at() if all(each.phase is Phase.RESTING for each in self) else -math.inf,
            standings={each.instrument: each.standing() for each in self},
        )


def _days(start_ms: int, stop_ms: int) -> Iterable[date]:
    first = day_of(start_ms)
    return (first + timedelta(days=n) for n in range((day_of(max(start_ms, stop_ms - 1)) - first).days + 1))
