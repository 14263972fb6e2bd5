"""The cache directory as a TradeStore: one BackfillCacheManager per instrument, each call on a worker thread.

Owns the thread hop and nothing else.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl
import structlog
import trio

from backfilld.adapters.threads import in_thread
from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.division import is_near_midnight, placed
from backfilld.core.day.figures import Figures
from backfilld.core.frame import empty_trades
from backfilld.core.model import Instrument, day_of
from backfilld.errors import ArchiveError, StoreError
from backfilld.ports import DayPublished, Saved
from backfilld.store.atomic import sweep_state_directory, sweep_temporary_files, translated
from backfilld.store.format.dayfile import Encoding, warm_up
from backfilld.store.journal import remove_journal
from backfilld.store.known_days import KnownDays
from backfilld.store.layout import FullStamp, Stamp, full_stamp, stamp_of, state_directory
from backfilld.store.manager import Appended, BackfillCacheManager, manager_of
from backfilld.store.shown_state import load_shown, save_shown
from backfilld.store.waiting_days import WaitingDays

log = structlog.get_logger()
SAVE_S = 300.0
"""How long a row may wait in a journal before the day file is rewritten, unless the settings name another time."""


class ParquetStore:
    """Day files below ``cache_dir``. Implements :class:`backfilld.ports.TradeStore`.

    ``hold_lock`` is called before each save. It raises CacheLocked once another process has the cache.
    """

    def __init__(
        self,
        cache_dir: Path,
        encoding: Encoding,
        save_s: float = SAVE_S,
        hold_lock: Callable[[], None] = lambda: None,
        state_dir: Path | None = None,
    ) -> None:
        self._hold_lock = hold_lock
        self._cache_dir = cache_dir
        self._state_dir = state_dir
        self._encoding = encoding
        self.may_delete: Callable[[Instrument, date], bool] = lambda _instrument, _day: True
        """Whether a day file may be deleted for its age; asked on a thread."""
        self._seen: dict[tuple[Instrument, date], Stamp | None] = {}
        self._waiting = WaitingDays(save_s)
        self._known: dict[Instrument, KnownDays] = {}
        self._remembered: set[Instrument] = set()

    def manager(self, instrument: Instrument) -> BackfillCacheManager:
        """The day files of an instrument, to be used on a thread."""
        return manager_of(self._cache_dir, instrument, self._encoding)

    async def open(self) -> None:
        """Create the directory; sweep temporary files that a crash left there and in the state directory."""

        def prepare() -> list[Path]:
            with translated(self._cache_dir, "use the cache directory"):
                self._cache_dir.mkdir(parents=True, exist_ok=True)
            state = [] if self._state_dir is None else sweep_state_directory(self._state_dir)
            return sweep_temporary_files(self._cache_dir) + state

        swept = await _on_thread(prepare)
        trio.lowlevel.start_thread_soon(warm_up, lambda _: None)
        log.info("cache_opened", dir=str(self._cache_dir))
        for path in swept:
            log.info("temporary_file_swept", file=str(path))

    async def days(self, instrument: Instrument) -> list[date]:
        """The days that have a file."""
        return await _on_thread(self.manager(instrument).days)

    async def load(self, instrument: Instrument, day: date) -> Certificate | None:
        """Read and check a day file; one that cannot be trusted is moved aside."""
        manager, now_s = self.manager(instrument), trio.current_time()
        began = time.perf_counter()

        def read() -> Certificate | None:
            stamp = full_stamp(manager.get_cache_path(day))
            certificate = manager.record(day)
            self._waiting.loaded(manager, day, now_s)
            self._note(instrument, certificate, stamp)
            return certificate

        record = await _on_thread(read)
        self.see(instrument, day)
        if record is not None:
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            file = str(manager.get_cache_path(day))
            log.info("day_loaded", instrument=str(instrument), file=file, trades=record.rows, ms=milliseconds)
        return record

    async def load_known(self, instrument: Instrument, days: Collection[date]) -> Mapping[date, Certificate]:
        """The certificates of the days that were read in full before, and whose files have not changed since."""
        began = time.perf_counter()
        found = await _on_thread(lambda: self._known_days(instrument).certificates(days))
        for day in found:
            self.see(instrument, day)
        if found:
            milliseconds = round((time.perf_counter() - began) * 1000, 1)
            trades = sum(each.rows for each in found.values())
            log.info("days_loaded", instrument=str(instrument), days=len(found), trades=trades, ms=milliseconds)
        return found

    async def peek(self, instrument: Instrument, day: date) -> Certificate | None:
        """What a day file holds, for a reader that must not touch it; None for one that cannot be trusted."""
        return await _on_thread(lambda: self.manager(instrument).peek(day))

    async def placed(
        self, instrument: Instrument, day: date, trades: pl.DataFrame
    ) -> Sequence[tuple[date, pl.DataFrame]]:
        """Trades of a day by their time, with the days that they belong to; the disk is asked near a midnight only."""
        if trades.is_empty() or not is_near_midnight(trades, day):
            return [(day, trades)]
        manager = self.manager(instrument)
        return await _on_thread(lambda: placed(trades, day, *manager.nearest(day)))

    async def save(self, addition: Addition) -> Saved:
        """Merge trades into a day file and replace it, unless the file says it all already."""
        manager = self.manager(addition.instrument)
        return await self._saved(addition, partial(self._waiting.save, manager, addition))

    async def append(self, addition: Addition) -> Saved:
        """The same; the rows may wait in the journal of the day."""
        manager, now_s = self.manager(addition.instrument), trio.current_time()
        return await self._saved(addition, partial(self._waiting.append, manager, addition, now_s))

    def waiting(self) -> Mapping[tuple[Instrument, date], float]:
        """When the file of each day is to be rewritten that has rows in its journal."""
        return self._waiting.due_at()

    async def leave(self, instrument: Instrument) -> None:
        """Keep nothing on disk for the next rewrite of an instrument that was removed."""
        await _on_thread(partial(self._waiting.leave, self.manager(instrument)))

    async def _saved(self, addition: Addition, save: Callable[[], Appended]) -> Saved:
        instrument, day = addition.instrument, addition.day

        # A caller that must not wait for a disk that hangs may leave it: a file is replaced whole or not at all.
        def saved() -> Appended:
            self._hold_lock()
            appended = save()
            if not appended.is_in_journal:
                self._note(instrument, appended.record)
            return appended

        done = await in_thread(saved)
        self.see(instrument, day)
        file = None if done.is_in_journal else str(self.manager(instrument).get_cache_path(day))
        return Saved(done.record, file, done.bytes, done.cached, done.duplicates, done.conflicts)

    async def take(self, taken: DayPublished) -> Saved:
        """Join a published day with the day file, whose neighbours on disk prove its ends."""
        # Most starts need no archive.
        from backfilld.store.archive_import.archive_take import Taken, take_archive  # noqa: PLC0415
        from backfilld.store.archive_import.neighbours import ids_to_take, neighbourhood  # noqa: PLC0415

        instrument, day, following = taken.instrument, taken.day, taken.following
        manager, path = self.manager(instrument), Path(taken.published.path)

        def join() -> Taken:
            next_path = None if following is None else Path(following.path)
            beside = neighbourhood(manager, day, next_path, known_starts=taken.day_starts)
            try:
                within = ids_to_take(
                    manager, day, path, beside.within, is_first=taken.is_first, known_starts=taken.day_starts
                )
                starts = beside.day_starts | taken.day_starts
                done = take_archive(
                    manager, path, day, taken.published.sha256, starts, within=within, behind_id=beside.behind_id
                )
            except ArchiveError:
                path.unlink(missing_ok=True)
                raise
            path.unlink(missing_ok=True)
            remove_journal(manager.journal_path(day))
            self._waiting.forget(manager, day)
            self._note(instrument, done.record)
            return done

        done = await in_thread(join)
        self.see(instrument, day)
        findings = {name: found.count for name, found in done.findings.defects.items()}
        file = str(manager.get_cache_path(day))
        for each in done.beside:
            self.see(instrument, each.day)
        return Saved(done.record, file, done.bytes, done.cached, done.duplicates, done.conflicts, findings, done.beside)

    async def context(self, instrument: Instrument, start_ms: int, stop_ms: int, bin_size: float) -> Figures:
        """Add up the figures of the span, a row group at a time."""

        def add_up() -> Figures:
            total = Figures(bin_size)
            for piece in self._pieces(instrument, start_ms, stop_ms):
                total += Figures.of(piece, bin_size)
            return total

        return await _on_thread(add_up)

    async def read(self, instrument: Instrument, start_ms: int, stop_ms: int) -> pl.DataFrame:
        """The trades of the span."""
        return await _on_thread(
            lambda: pl.concat([empty_trades(), *self._pieces(instrument, start_ms, stop_ms)], rechunk=True)
        )

    async def distrust(self, instrument: Instrument, day: date, reason: str) -> None:
        """Move a day file aside."""
        await _on_thread(lambda: self.manager(instrument).distrust(day, reason))
        self.see(instrument, day)

    async def delete(self, instrument: Instrument, day: date) -> bool:
        """Delete a day file, unless it may not be deleted yet or no key opens it."""

        def delete() -> bool:
            manager = self.manager(instrument)
            may = self.may_delete(instrument, day) and not manager.may_be_locked(day)
            if may:
                manager.delete(day)
            return may

        is_deleted = await _on_thread(delete)
        self.see(instrument, day)
        return is_deleted

    async def recall(self, instrument: Instrument) -> ShownEnd | None:
        """What a process before this one has kept."""
        return await _on_thread(partial(load_shown, self._cache_dir, instrument))

    async def remember(self, instrument: Instrument, shown: ShownEnd) -> None:
        """Keep it beside the lock. It must outlive a loss of power while a trade is owed, and the first time: later,
        the rows up to the end that was agreed on are on disk."""
        synced = not (shown.is_settled and instrument in self._remembered)
        await in_thread(partial(save_shown, self._cache_dir, instrument, shown, synced=synced))
        self._remembered.add(instrument)

    async def altered(self, instrument: Instrument) -> frozenset[date]:
        """The days whose file is another one than was seen here last."""
        manager = self.manager(instrument)

        def stamps() -> dict[date, Stamp | None]:
            days = {*manager.days(), *(day for owner, day in self._seen if owner == instrument)}
            return {day: stamp_of(manager.get_cache_path(day)) for day in days}

        found = await _on_thread(stamps)
        return frozenset(day for day, stamp in found.items() if self._seen.get((instrument, day)) != stamp)

    def see(self, instrument: Instrument, day: date) -> None:
        """Note the day file as it is: this program has just read or written it."""
        self._seen[instrument, day] = stamp_of(self.manager(instrument).get_cache_path(day))

    def _known_days(self, instrument: Instrument) -> KnownDays:
        if instrument not in self._known:
            self._known[instrument] = KnownDays(state_directory(self._cache_dir), self.manager(instrument))
        return self._known[instrument]

    def _note(self, instrument: Instrument, certificate: Certificate | None, stamp: FullStamp | None = None) -> None:
        """Remember a day that was read in full or written. It only saves time: a disk that refuses it stops nothing."""
        if certificate is None or not certificate.sealed:
            return
        stamp = stamp or full_stamp(self.manager(instrument).get_cache_path(certificate.day))
        with suppress(StoreError):
            self._known_days(instrument).note(certificate, stamp)

    def _pieces(self, instrument: Instrument, start_ms: int, stop_ms: int) -> Iterator[pl.DataFrame]:
        manager, first, last = self.manager(instrument), day_of(start_ms), day_of(stop_ms - 1)
        for day in manager.days():
            if first <= day <= last:
                for trades in manager.row_groups(day):
                    yield within(trades, start_ms, stop_ms)


def within(trades: pl.DataFrame, start_ms: int, stop_ms: int) -> pl.DataFrame:
    """The rows with start_ms <= T < stop_ms."""
    return trades.filter(pl.col("T").is_between(start_ms, stop_ms, closed="left"))


_on_thread = partial(in_thread, is_waited_for=True)
