"""BackfillCacheManager: the day files of one instrument, in one directory.

Owns loading, saving, quarantine and retention, on top of the file format and of atomic replacement. Synchronous: the
adapter puts it on a thread.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import polars as pl
import structlog

from backfilld.core.day.certificate import REST, Certificate, Provenance, Source, Suspicion
from backfilld.core.ids import IdSet
from backfilld.core.merge import deduplicate, merge, typed
from backfilld.core.model import IdRange, Instrument, day_start_ms, day_stop_ms, empty_trades
from backfilld.core.retention import expired_days
from backfilld.errors import DayDamaged, SettingsError, StoreError, TradeConflict
from backfilld.store.atomic import move_aside, replace_file, translated
from backfilld.store.format.dayfile import DayReader, DayWriter, Encoding
from backfilld.store.format.footer import DayFacts, UntrustedFile
from backfilld.store.layout import day_file_name, days_in, instrument_of

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


class BackfillCacheManager:
    """The day files ``backfill_<day>.parquet`` of one instrument in ``directory``, which need not exist yet.

    The instrument is read off a directory in Hive's form if it is not given; without one, files of any instrument are
    accepted. Days are UTC; a datetime is taken for the UTC day it falls in.
    """

    def __init__(
        self, directory: str | Path, instrument: Instrument | None = None, encoding: Encoding | None = None
    ) -> None:
        self.directory = Path(directory)
        self.instrument = instrument or instrument_of(self.directory.absolute())
        self.encoding = encoding or Encoding()

    def get_cache_path(self, date: dt.date) -> Path:
        """Where the day's file is, whether it exists or not."""
        return self.directory / day_file_name(_utc_day(date))

    def load_cached_trades(self, date: dt.date) -> pl.DataFrame | None:
        """All trades held of the day, by id; None if there is no file, or one that cannot be trusted.

        Such a file is moved aside as ``<name>.bad-<utc time>`` and logged. Raises StoreError if the disk refuses, or
        for a file of a newer version of this program, which is left where it is.
        """
        return self._read(_utc_day(date), DayReader.trades)

    def save_trades_to_cache(self, trades: Trades, date: dt.date) -> Path:
        """Merge trades into the day's file and replace it; return its path.

        Raises TradeConflict if a trade differs from another, given or held, under the same id, and StoreError if a
        trade is of another day or the disk refuses; the file is then as before.
        """
        day = _utc_day(date)
        new = self.deduplicate_trades(trades)
        _refuse_other_days(new, day)
        self.record(day)
        if not new.is_empty():
            self.append(day, new, refuse_conflicts=True)
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
        """Delete the files of days more than ``keep_days`` days ago (0 deletes none); return the paths deleted."""
        if keep_days < 0:
            raise SettingsError(f"keep_days = {keep_days}: it must be 0, to keep all, or more")
        today = today or dt.datetime.now(dt.UTC).date()
        return [self.delete(day) for day in expired_days(self.days(), today, keep_days)]

    # -- what the daemon needs besides

    def days(self) -> list[dt.date]:
        """The days that have a file, ascending."""
        with translated(self.directory, "list"):
            return days_in(self.directory)

    def delete(self, day: dt.date) -> Path:
        """Delete the day's file."""
        path = self.get_cache_path(day)
        with translated(path, "delete"):
            path.unlink(missing_ok=True)
        return path

    def distrust(self, day: dt.date, reason: str) -> None:
        """Move the day's file aside, as one that is not to be believed."""
        path = self.get_cache_path(day)
        moved = move_aside(path)
        log.warning("day_quarantined", file=str(path), moved_to=moved.name, reason=reason)

    def record(self, day: dt.date) -> Certificate | None:
        """What the day's file holds, after reading and checking all of it; None as for load_cached_trades."""
        return self._read(day, DayReader.recorded)

    def peek(self, day: dt.date) -> Certificate | None:
        """The same, and a file that cannot be trusted stays where it is."""
        try:
            with translated(self.get_cache_path(day), "read"), self._open(day) as reader:
                return reader.recorded()
        except UntrustedFile:
            return None

    def facts(self, day: dt.date) -> DayFacts:
        """What the day's file says of itself, its rows unread. Raises UntrustedFile, StoreError."""
        with translated(self.get_cache_path(day), "read"), self._open(day) as reader:
            return reader.facts

    def glance(self, day: dt.date) -> tuple[DayFacts, tuple[int, int] | None]:
        """The same, and the lowest and the highest T as the file's statistics have them."""
        with translated(self.get_cache_path(day), "read"), self._open(day) as reader:
            return reader.facts, reader.bounds_ms()

    def row_groups(self, day: dt.date) -> Iterator[pl.DataFrame]:
        """The trades of the day, a row group at a time; none if there is no file. Raises StoreError."""
        path = self.get_cache_path(day)
        if not path.exists():
            return
        try:
            with translated(path, "read"), self._open(day) as reader:
                yield from reader.row_groups()
        except UntrustedFile as error:
            raise self._damaged(day, error) from error

    def append(
        self,
        day: dt.date,
        new: pl.DataFrame,
        day_starts: Collection[int] = (),
        *,
        source: Source = REST,
        absent: Iterable[IdRange] = (),
        suspected: Iterable[Suspicion] = (),
        refuse_conflicts: bool = False,
    ) -> Appended:
        """Merge trades that ascend strictly in ``a`` and came from ``source`` into the day's file, a row group at a
        time, and replace it.

        ``day_starts`` are ids known to begin a day; ``absent`` and ``suspected`` are added to what the file knows of.
        With no trades only the metadata is renewed. On a conflict the held row stays and the other is returned, or
        TradeConflict raised. Raises StoreError; the file is then as before.
        """
        path = self.get_cache_path(day)
        tally = _Tally()
        records: list[Certificate] = []
        sizes: list[int] = []

        def write(temporary: Path) -> None:
            known, last_id = self._known(day)
            last_id = max(last_id, new["a"][-1] if new.height else -1)
            starts = {*day_starts, *known.day_starts}
            # A day that goes on needs no digest, which would cost a fifth of writing it.
            with DayWriter(temporary, self.encoding, digested=any(start > last_id for start in starts)) as writer:
                for piece in _spliced(self.row_groups(day), new, tally):
                    writer.add(piece)
                if refuse_conflicts:
                    _refuse_conflicts(tally.conflicts)
                known = replace(
                    known,
                    absent=(*known.absent, *absent),
                    suspected=(*known.suspected, *suspected),
                    conflicting=(*known.conflicting, *IdSet.of_ids(tally.conflicts["a"].unique().sort()).ranges),
                )
                records.append(writer.finish(day, self.instrument, starts, source=source, known=known))
            # Not of ``path`` later: it may be removed by then.
            sizes.append(temporary.stat().st_size)

        replace_file(path, write)
        return Appended(records[0], sizes[0], tally.cached, tally.duplicates, tally.conflicts)

    def _known(self, day: dt.date) -> tuple[Provenance, int]:
        """What the day's file tells besides its rows, and its last id; nothing and -1 if there is no file."""
        if not self.get_cache_path(day).exists():
            return Provenance(), -1
        try:
            facts = self.facts(day)
        except UntrustedFile as error:
            raise self._damaged(day, error) from error
        return facts.testimony(), facts.last_id

    def _damaged(self, day: dt.date, reason: UntrustedFile) -> DayDamaged:
        return DayDamaged(f"{self.get_cache_path(day)} was damaged while in use: {reason}")

    def _open(self, day: dt.date) -> DayReader:
        return DayReader(self.get_cache_path(day), day, self.instrument)

    def _read(self, day: dt.date, read: Callable[[DayReader], T]) -> T | None:
        path = self.get_cache_path(day)
        try:
            with translated(path, "read"), self._open(day) as reader:
                return read(reader)
        except UntrustedFile as reason:
            self.distrust(day, str(reason))
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        return None


@dataclass(slots=True)
class _Tally:
    """What a splice has come across."""

    cached: int = 0
    duplicates: int = 0
    conflicts: pl.DataFrame = field(default_factory=empty_trades)


def _spliced(held: Iterator[pl.DataFrame], new: pl.DataFrame, tally: _Tally) -> Iterator[pl.DataFrame]:
    """Both, in order of ``a``; only the row groups that ``new`` reaches into are merged, the others pass through."""
    for group in held:
        tally.cached += group.height
        upto = int(new["a"].search_sorted(group["a"][-1], side="right")) if new.height else 0
        merged = merge(group, new[:upto])
        tally.duplicates += merged.duplicates
        tally.conflicts = pl.concat([tally.conflicts, merged.conflicts])
        new = new[upto:]
        yield merged.trades
    if new.height:
        yield new


def _refuse_conflicts(conflicts: pl.DataFrame) -> None:
    if conflicts.height:
        ids = ", ".join(str(trade_id) for trade_id in conflicts["a"].head(5))
        raise TradeConflict(f"two different trades under one aggregate trade id: {ids} ({conflicts.height} in all)")


def _refuse_other_days(trades: pl.DataFrame, day: dt.date) -> None:
    real = trades.filter(pl.col("p") > 0)
    others = real.filter(~pl.col("T").is_between(day_start_ms(day), day_stop_ms(day), closed="left"))
    if others.height:
        raise StoreError(f"{others.height} of the trades to save are not of {day}, such as id {others['a'][0]}")


def _utc_day(day: dt.date) -> dt.date:
    if not isinstance(day, dt.datetime):
        return day
    return (day if day.tzinfo is None else day.astimezone(dt.UTC)).date()
