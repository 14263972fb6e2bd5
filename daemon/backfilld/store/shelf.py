"""The day files of one instrument as sources of a scan, and what they lack of a stretch of time.

Owns what counts as complete for a stretch of time. Reads certificates, and rows only where a day is not sealed; takes
no lock and changes nothing.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.day.anomalies import MARKER
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY, has_no_room
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, day_of, day_start_ms, day_stop_ms, days_from, iso
from backfilld.errors import DayLocked, StoreError
from backfilld.store.atomic import is_there
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import Key
from backfilld.store.layout import state_directory
from backfilld.store.manager import BackfillCacheManager, manager_of
from backfilld.store.shown_state import load_shown
from backfilld.store.written_days import WrittenDays

_HIVE = ("market", "symbol")


@dataclass(frozen=True, slots=True)
class _File:
    """A day file, and the key that opens it."""

    path: Path
    key: Key | None


def lazy_of(sources: Sequence["_File | pl.LazyFrame"]) -> pl.LazyFrame:
    """Files of one key that follow each other are one scan, so that a filter skips those without a match."""
    frames: list[pl.LazyFrame] = []
    for (is_file, key), group in groupby(sources, _kind_of):
        members = list(group)
        files = [each.path for each in members if isinstance(each, _File)]
        frames += [_of_files(files, key)] if is_file else [each for each in members if isinstance(each, pl.LazyFrame)]
    return pl.concat(frames) if frames else empty_trades().lazy().with_columns(pl.lit("").alias(name) for name in _HIVE)


def lazy_pieces(pieces: Callable[[], Iterator[pl.DataFrame]], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """Frames of this schema that are made when the result is collected."""

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, most_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        for piece in pieces():
            rows = piece if predicate is None else piece.filter(predicate)
            rows = rows if most_rows is None else rows.head(most_rows)
            most_rows = None if most_rows is None else most_rows - rows.height
            yield rows if columns is None else rows.select(columns)
            if most_rows == 0:
                return

    return register_io_source(read, schema=schema)


def _kind_of(source: "_File | pl.LazyFrame") -> tuple[bool, Key | None]:
    return (True, source.key) if isinstance(source, _File) else (False, None)


def _of_files(paths: list[Path], key: Key | None) -> pl.LazyFrame:
    # polars takes every "key=value" above the files for a partition, and wants the types of all of them.
    keys = {part.partition("=")[0]: pl.String() for path in paths for part in path.parent.parts if "=" in part}
    decryption = None if key is None else pl.ParquetDecryptionProperties(footer_key=key.secret)
    frame = pl.scan_parquet(paths, glob=False, hive_partitioning=True, hive_schema=keys, decryption=decryption)
    return frame.select([*SCHEMA, *_HIVE])


@dataclass(frozen=True)
class Shelf:
    """The day files of one instrument."""

    root: Path
    instrument: Instrument
    encoding: Encoding
    is_strict: bool

    @cached_property
    def _manager(self) -> BackfillCacheManager:
        return manager_of(self.root, self.instrument, self.encoding)

    @cached_property
    def _facts(self) -> "_Certificates":
        days = WrittenDays(self._manager, state_directory(self.root))
        return _Certificates(days, is_strict=self.is_strict)

    def sources(self, start_ms: int, stop_ms: int) -> "Iterator[_File | pl.LazyFrame]":
        """The files that have something of the span; a day with a journal is read by this program."""
        days = _days(start_ms, stop_ms)
        beside = self._beside(days)
        return (source for day in sorted({*days, *beside}) for source in self._sources_of(day))

    def are_exactly(self, start_ms: int, stop_ms: int) -> bool:
        """Whether the files have this time and nothing else: whole days in which times never go back."""
        if start_ms != day_start_ms(day_of(start_ms)) or stop_ms != day_start_ms(day_of(stop_ms)):
            return False
        days = _days(start_ms, stop_ms)
        stored = [(day, facts) for day in days if (facts := self._facts.get(day)) is not None]
        return not self._beside(days) and all(
            isinstance(facts, Certificate)
            and "time_inversions" not in facts.findings
            and not is_there(self._manager.journal_path(day))
            for day, facts in stored
        )

    def _beside(self, days: Sequence[date]) -> list[date]:
        """The days before and after these that may hold rows of them."""
        return [day for day in (days[0] - ONE_DAY, days[-1] + ONE_DAY) if self._goes_back(day)]

    def _goes_back(self, day: date) -> bool:
        """Whether times of the day go back: as a range of ids, it may hold rows of the other side of its midnights."""
        known = self._manager.known(day)
        return known is not None and "time_inversions" in known.findings

    def _sources_of(self, day: date) -> "Iterator[_File | pl.LazyFrame]":
        if isinstance(self._facts.get(day), Certificate):
            has_journal = is_there(self._manager.journal_path(day))
            file = _File(self._manager.get_cache_path(day), self._facts.key_of(day))
            yield self._joined(day) if has_journal else file

    def _joined(self, day: date) -> pl.LazyFrame:
        """A day of which a part is in the journal: read when collected, whatever was rewritten since."""
        names = {"market": str(self.instrument.market), "symbol": self.instrument.symbol}
        frame = lazy_pieces(partial(self._manager.row_groups, day), SCHEMA)
        return frame.with_columns(pl.lit(text).alias(name) for name, text in names.items())

    def gaps(self, start_ms: int, stop_ms: int) -> Iterator[str]:
        """What could be missing of the span, day by day."""
        for day in _days(start_ms, stop_ms):
            facts = self._facts.get(day)
            missing: Iterable[str] = ()
            if facts is None:
                missing = () if self._is_proven_empty(day) else ("no file",)
            elif isinstance(facts, str):
                missing = (facts,)
            elif not (facts.sealed or (self._is_last_until(facts, stop_ms) and replace(facts, closed=True).sealed)):
                missing = self._gaps_of(day, facts, max(start_ms, day_start_ms(day)), min(stop_ms, day_stop_ms(day)))
            yield from (f"{self.instrument} {day}: {each}" for each in missing)

    def _gaps_of(self, day: date, facts: Certificate, start_ms: int, stop_ms: int) -> list[str]:
        try:
            return list(_gaps_of(lazy_of(list(self._sources_of(day))), facts, start_ms, stop_ms))
        except (pl.exceptions.PolarsError, OSError) as reason:
            return [f"the file cannot be used, {str(reason).splitlines()[0][:120]}"]

    @cached_property
    def _shown(self) -> ShownEnd:
        try:
            return load_shown(self.root, self.instrument) or ShownEnd()
        except StoreError:
            # Only its owner may read it.
            return ShownEnd()

    def _is_last_until(self, facts: Certificate, stop_ms: int) -> bool:
        """Whether a backfill found that no trade came after this day's last one until then."""
        return facts.last_id == self._shown.agreed_id and stop_ms <= self._shown.agreed_ms

    def _is_proven_empty(self, day: date) -> bool:
        """Whether the ids of the days around adjoin, or the later one begins with the first id that its market gives:
        then nothing was traded between them, or before it. A backfill may also have found that nothing came before the
        first trade, or after the last one."""
        earlier, later = self._facts.beside(day)
        if earlier is None and isinstance(later, Certificate):
            is_after_silence = later.first_id == self._shown.first_id and self._shown.empty_from_ms <= day_start_ms(day)
            return is_after_silence or later.first_id == RULES[self.instrument.market].first_id
        if later is None and isinstance(earlier, Certificate):
            return self._is_last_until(earlier, day_stop_ms(day))
        if not (isinstance(earlier, Certificate) and isinstance(later, Certificate)):
            return False
        return has_no_room(earlier, later)


class _Certificates:
    """The certificates of an instrument's days, each read once and only if somebody asks for it; there is none to be
    trusted of a file that was altered. If it ``is_strict``, DayLocked is raised for a day that no key opens."""

    def __init__(self, written: WrittenDays, *, is_strict: bool) -> None:
        self._written, self._manager = written, written.manager
        self._is_strict = is_strict
        self._days = self._manager.days()
        self._known: dict[date, Certificate | str | None] = {}

    def get(self, day: date) -> Certificate | str | None:
        """The certificate of the day, why there is none to be trusted, or None for no file."""
        if day not in self._known:
            self._known[day] = self._read(day)
        return self._known[day]

    def key_of(self, day: date) -> Key | None:
        """The key that opens the day's file; None for a plain one."""
        return self._manager.opened(day)[1] if self._manager.encoding.keys.keys else None

    def beside(self, day: date) -> tuple[Certificate | str | None, Certificate | str | None]:
        """Those of the nearest stored days before and after a day without a file."""
        at = bisect_left(self._days, day)
        earlier = self.get(self._days[at - 1]) if at else None
        return earlier, self.get(self._days[at]) if at < len(self._days) else None

    def _read(self, day: date) -> Certificate | str | None:
        at = bisect_left(self._days, day)
        if self._days[at : at + 1] != [day]:
            return None
        try:
            return self._written.certificate(day)
        except (UntrustedFile, DayLocked, StoreError) as reason:
            if self._is_strict and isinstance(reason, DayLocked):
                raise
            return f"the file cannot be used, {reason}"


def _days(start_ms: int, stop_ms: int) -> list[date]:
    return days_from(day_of(start_ms), day_of(stop_ms - 1))


def _gaps_of(trades: pl.LazyFrame, facts: Certificate, start_ms: int, stop_ms: int) -> Iterator[str]:
    """What could be missing of the span in a day that is not sealed."""
    edges = [trade_id for hole in facts.holes for trade_id in (hole.first_id - 1, hole.last_id + 1)]
    rows = trades.select(["a", "T", "p", "q", "f", "l"])
    ends = rows.filter(~MARKER).select(first=pl.col("T").first(), last=pl.col("T").last())
    beside = rows.filter(pl.col("a").is_in(edges)).select("a", "T")
    (first_ms, last_ms), *_ = ends.collect().rows()
    times = dict(beside.collect().rows())
    if not facts.opened and not (first_ms is not None and first_ms < start_ms):
        yield (
            "the first trades are not proven to be stored" if first_ms is None else f"stored from {iso(first_ms)} only"
        )
    for hole in facts.holes:
        if times[hole.first_id - 1] < stop_ms and times[hole.last_id + 1] >= start_ms:
            yield f"ids {hole.first_id} to {hole.last_id} are missing"
    if not facts.closed and not (last_ms is not None and last_ms >= stop_ms):
        yield "the last trades are not proven to be stored" if last_ms is None else f"stored up to {iso(last_ms)} only"
