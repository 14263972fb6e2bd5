"""BackfillCacheManager: the day files of one instrument, in one directory.

Owns loading, saving, quarantine and retention, on top of the file format and of atomic replacement. Synchronous: the
adapter puts it on a thread.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import polars as pl
import structlog

from backfilld.core.day.certificate import REST, Certificate, Provenance, Source, Suspicion
from backfilld.core.day.division import astray
from backfilld.core.day.start import DayStart
from backfilld.core.ids import IdSet
from backfilld.core.merge import deduplicate, typed
from backfilld.core.model import IdRange, Instrument
from backfilld.core.retention import expired_days
from backfilld.errors import DayDamaged, SettingsError, StoreError, TradeConflict
from backfilld.store.atomic import is_there, move_aside, translated
from backfilld.store.format.dayfile import Encoding, rewriting
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.joined_day import JoinedDay, Tally, spliced
from backfilld.store.journal import remove_journal
from backfilld.store.layout import instrument_directory, instruments_in
from backfilld.store.stored_days import StoredDays, utc_day
from backfilld.store.twins import Twins

T = TypeVar("T")
log = structlog.get_logger()

Trades = pl.DataFrame | list[dict[str, object]]
"""Trades as a frame, or as Binance sends them."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What adding trades to a day came to."""

    record: Certificate
    bytes: int
    cached: int
    duplicates: int
    conflicts: pl.DataFrame
    is_in_journal: bool = False


class BackfillCacheManager(StoredDays):
    """The day files ``backfill_<day>.parquet`` of one instrument in ``directory``, which need not exist yet.

    The instrument is read off a directory in Hive's form if it is not given; without one, files of any instrument are
    accepted. Days are UTC; a datetime is taken for the UTC day it falls in. What a daemon has appended to the
    ``journals`` beside the files is read with them. The ``encoding`` has the keys of encrypted files.
    """

    def load_cached_trades(self, date: dt.date) -> pl.DataFrame | None:
        """All trades stored of the day, by id; None if there is no file, or one that cannot be trusted.

        Such a file is moved aside as ``<name>.bad-<utc time>`` and logged. Raises StoreError if the disk refuses, or
        for a file of a newer version of this program, which is left where it is; SettingsError for the directory of a
        whole cache.
        """
        trades = self._read(utc_day(date), JoinedDay.trades)
        if trades is None and self.instrument is None:
            _refuse_whole_cache(self.directory)
        return trades

    def save_trades_to_cache(self, trades: Trades, date: dt.date) -> Path:
        """Merge trades into the day's file and replace it; return its path.

        Raises TradeConflict if a trade differs from another, given or stored, under the same id, and StoreError if a
        trade is of another day or the disk refuses; the file is then as before.
        """
        day = utc_day(date)
        new = self.deduplicate_trades(trades)
        _refuse_other_days(new, day)
        self.record(day)
        if not new.is_empty():
            self._append_again_if_damaged(day, new)
        return self.get_cache_path(day)

    def get_last_cached_timestamp(self, trades: Trades) -> int | None:
        """The latest trade time in ms since the epoch, None for no trades."""
        frame = typed(trades)
        return None if frame.is_empty() else int(frame["T"].max())  # type: ignore[arg-type]

    def deduplicate_trades(self, trades: Trades) -> pl.DataFrame:
        """The trades in order of their ids, each once. Raises TradeConflict if two differ under one id."""
        merged = deduplicate(typed(trades))
        _refuse_conflicts(merged.conflicts)
        return merged.trades

    def cleanup_old_cache(self, keep_days: int, today: dt.date | None = None) -> list[Path]:
        """Delete the files of days more than ``keep_days`` days ago (0 deletes none); return the paths deleted. Files
        that no key opens stay."""
        if keep_days < 0:
            raise SettingsError(f"keep_days = {keep_days}: it must be 0, to keep all, or more")
        today = today or dt.datetime.now(dt.UTC).date()
        return [self.delete(day) for day in expired_days(self.days(), today, keep_days) if not self.may_be_locked(day)]

    # -- what the daemon needs besides

    def drop_journal(self, day: dt.date) -> None:
        """Delete the journal of the day for good, so that no row of it comes back."""
        remove_journal(self.journal_path(day), is_final=True)

    def delete(self, day: dt.date) -> Path:
        """Delete the day's journal and its file."""
        path = self.get_cache_path(day)
        self.drop_journal(day)
        with translated(path, "delete"):
            path.unlink(missing_ok=True)
        return path

    def distrust(self, day: dt.date, reason: str) -> None:
        """Move the day's file aside, as one that is not to be believed; its journal, if it has no file."""
        path = self.get_cache_path(day)
        if is_there(path):
            self.drop_journal(day)
        else:
            path = self.journal_path(day)
        moved = move_aside(path)
        log.warning("day_quarantined", file=str(path), moved_to=moved.name, reason=reason)

    def record(self, day: dt.date) -> Certificate | None:
        """The certificate of the day's file, after checking every byte of it; None as for load_cached_trades.

        A file that has ids in common with the nearest stored day is not trusted, unless it is sealed and the other one
        is not.
        """
        certificate = self._read(day, JoinedDay.checked)
        reason = None if certificate is None else self._overlap(certificate)
        if reason is None:
            return certificate
        self.distrust(day, reason)
        return None

    def append(
        self,
        day: dt.date,
        new: pl.DataFrame,
        day_starts: Collection[DayStart] = (),
        *,
        source: Source = REST,
        absent: Iterable[IdRange] = (),
        suspected: Iterable[Suspicion] = (),
        refuse_conflicts: bool = False,
        twins: Twins | None = None,
    ) -> Appended:
        """Merge trades that ascend strictly in ``a`` and came from ``source`` into the day's file, a row group at a
        time, and replace it. What the nearest stored days prove of its ends is written with it. With ``twins`` only the
        end of the file may have to be written.

        ``day_starts`` say where days begin; ``absent`` and ``suspected`` are added to what the file knows of.
        With no trades only the certificate is renewed. On a conflict the stored row stays and the other is returned, or
        TradeConflict raised. Raises StoreError and DayLocked; the file is then as before. Raises DayDamaged after
        moving aside a file that is not as it was written, and for a file that is gone if there are no trades to begin
        another.
        """
        tally = Tally()
        with self._trusted(day, tally) as stored:
            before = stored.certificate if stored else None
            if before is None and new.is_empty():
                raise DayDamaged(f"{self.get_cache_path(day)} is gone")
            known = before.provenance() if before else Provenance()
            starts = {*day_starts, *known.day_starts}
            earlier, later = self.nearest(day)
            last_id = max(before.last_id if before else -1, new["a"][-1] if new.height else -1)
            # A day that goes on needs no digest, which would cost a fifth of writing it.
            is_over = later is not None or any(start.first_id > last_id for start in starts)
            place = self.get_cache_path(day), day, self.instrument, self.encoding
            goes_on = stored is not None and not is_over and stored.goes_on(new) and self.encoding.keys.writing is None
            if twins is not None and goes_on:
                opened = twins.rewriting(*place, self.journals)
            else:
                opened = rewriting(*place, digested=is_over)
            with opened as writer:
                for piece in spliced(stored.row_groups(writer.last_id) if stored else iter(()), iter([new]), tally):
                    writer.add(piece)
                if refuse_conflicts:
                    _refuse_conflicts(tally.conflicts)
                refused = IdSet.of_ids(tally.conflicts["a"].unique().sort()).ranges
                known = replace(
                    known.with_news(day_starts, absent, suspected),
                    source=source,
                    conflicting=(*known.conflicting, *refused),
                )
                certificate = writer.finish(known, earlier, later)
        if twins is not None and not goes_on:
            twins.drop(self.get_cache_path(day))
        remove_journal(self.journal_path(day))
        cached = before.rows if before else 0
        return Appended(certificate, writer.bytes, cached, tally.duplicates, tally.conflicts)

    def _append_again_if_damaged(self, day: dt.date, new: pl.DataFrame) -> None:
        """Append; a file that turns out to be damaged is moved aside by the first attempt."""
        try:
            self.append(day, new, refuse_conflicts=True)
        except DayDamaged:
            self.append(day, new, refuse_conflicts=True)

    @contextmanager
    def _trusted(self, day: dt.date, tally: Tally) -> Iterator[JoinedDay | None]:
        """Yield a day whose file is as it was written; None if nothing is stored of it. Rows that somebody altered are
        never written anew, which would make them look right: a file that turns out to be damaged, then or in the block,
        is moved aside."""
        if not self.is_stored(day):
            yield None
            return
        try:
            with self.reading(day, tally) as reader:
                reader.checked()
                yield reader
        except UntrustedFile as error:
            self.distrust(day, str(error))
            raise self.damaged(day, error) from error

    def _overlap(self, certificate: Certificate) -> str | None:
        """Why the file cannot be right beside its nearest neighbours: no two days have an id in common."""
        earlier, later = self.nearest(certificate.day)
        for other, shared in (
            (earlier, earlier is not None and earlier.last_id >= certificate.first_id),
            (later, later is not None and later.first_id <= certificate.last_id),
        ):
            if other is not None and shared and not (certificate.sealed and not other.sealed):
                return f"it has ids in common with {other.day}"
        return None

    def _read(self, day: dt.date, read: Callable[[JoinedDay], T]) -> T | None:
        try:
            with self.reading(day) as reader:
                return read(reader)
        except UntrustedFile as reason:
            self.distrust(day, str(reason))
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        return None


def manager_of(cache_dir: Path, instrument: Instrument, encoding: Encoding | None = None) -> BackfillCacheManager:
    """The day files of an instrument in a cache directory."""
    return BackfillCacheManager(instrument_directory(cache_dir, instrument), instrument, encoding)


def managers(
    cache_dir: Path, instruments: Iterable[Instrument] | None, encoding: Encoding | None = None
) -> Iterator[BackfillCacheManager]:
    """The day files of each of the instruments (None: of all that the cache has)."""
    for instrument in instruments_in(cache_dir) if instruments is None else instruments:
        yield manager_of(cache_dir, instrument, encoding)


def _refuse_whole_cache(directory: Path) -> None:
    stored = instruments_in(directory)
    if stored:
        one = instrument_directory(directory, stored[0])
        raise SettingsError(f"{directory} is a whole cache: name the directory of one instrument, such as {one}")


def _refuse_conflicts(conflicts: pl.DataFrame) -> None:
    if conflicts.height:
        ids = ", ".join(str(trade_id) for trade_id in conflicts["a"].head(5))
        raise TradeConflict(f"two different trades under one aggregate trade id: {ids} ({conflicts.height} in all)")


def _refuse_other_days(trades: pl.DataFrame, day: dt.date) -> None:
    others = trades.filter(astray(trades, day)) if trades.height else trades
    if others.height:
        raise StoreError(f"{others.height} of the trades to save are not of {day}, such as id {others['a'][0]}")
