"""From a published zip on disk to a day file: joined by id with what the day file holds, in one streaming pass.

Owns who wins where two versions of a trade differ: rows of REST stay, rows of an earlier archive file give way. Both
versions are kept in a report beside the day. Memory does not grow with the day.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import polars as pl
import structlog

from backfilld.core.day.certificate import Certificate, Provenance, Source, Sourced
from backfilld.core.day.division import placed
from backfilld.core.day.start import DayStart
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.ids import IdSet
from backfilld.core.merge import merge
from backfilld.core.model import INT64_MAX, IdRange
from backfilld.errors import ArchiveError
from backfilld.store.archive_import.archive_findings import ANY_ID, MOST_CONFLICTS, Findings
from backfilld.store.archive_import.archivefile import ArchiveDay
from backfilld.store.atomic import is_there, move_aside, replacing
from backfilld.store.format.dayfile import DayWriter
from backfilld.store.format.footer import ImpossibleDay, UntrustedFile
from backfilld.store.format.keys import NO_KEYS, KeyRing
from backfilld.store.format.tables import table_as_bytes, table_from_bytes
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.state_file import read_state

REPORT_SUFFIX = ".conflicts"
"""Follows the day file's name. It does not end in .parquet: who reads all day files must not read it too."""

_MOST_REPORT_BYTES = 64 << 20
"""The largest report that is read: that of MOST_CONFLICTS has about 5 MB."""

REPORT_SCHEMA = pl.Schema({**SCHEMA, "source": pl.String(), "kept": pl.Boolean()})

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking a published day came to: the day as it stands now, its file's size, how many rows it had before,
    how many of the zip's were among them, the rows that were refused or gave way, the report of both versions if there
    is one, what was found in the zip, and the days ``beside`` that got rows of it."""

    record: Certificate
    bytes: int
    cached: int
    duplicates: int
    conflicts: pl.DataFrame
    report: Path | None
    findings: Findings
    beside: tuple[Certificate, ...] = ()


def take_archive(
    manager: BackfillCacheManager,
    path: Path,
    day: date,
    sha256: str,
    day_starts: Collection[DayStart] = (),
    *,
    within: IdRange = ANY_ID,
    behind_id: int = INT64_MAX,
) -> Taken:
    """Merge the zip at ``path``, whose published checksum is ``sha256``, into the day's file, and replace it.

    ``day_starts`` say where days begin, and ``within`` those that this day can have: rows of others are left
    out, published or stored. So are rows near the end of the day from ``behind_id`` on, which the next day has, and
    rows that cannot be trades.

    Raises ArchiveError if the zip cannot be used and StoreError if the disk refuses; the day is then as before.
    """
    archive = ArchiveDay(path, day, within=within, behind_id=behind_id)
    known = _known(manager, day)
    source = Source("archive", sha256)
    file = manager.get_cache_path(day)
    earlier, later = manager.nearest(day)

    with _possible(path), replacing(file) as temporary:
        # A zip whose rows do not ascend is read once more, sorted: each attempt begins a file and a join of its own.
        def write(published: Iterator[pl.DataFrame]) -> tuple[Certificate, _Join]:
            join = _Join(known.sources, source)
            with DayWriter(temporary, day, manager.instrument, manager.encoding, ahead=True) as writer:
                for piece in join.pieces(_only(within, manager.row_groups(day)), published):
                    writer.add(piece)
                joined = join.provenance(known, archive.findings)
                starts = {*joined.day_starts, *day_starts}
                return writer.finish(replace(joined, day_starts=starts, source=source), earlier, later), join

        certificate, join = archive.read(write)
        size = temporary.stat().st_size
        # Write the report before the day file: after a crash in between, the same conflicts are found again. The other
        # sequence could lose them.
        report = add_to_report(file, join.versions(archive.findings), manager.encoding.keys)
    beside = _mended(manager, day, archive.strays, source)
    return Taken(certificate, size, join.cached, join.duplicates, join.losers, report, archive.findings, beside)


@contextmanager
def _possible(path: Path) -> Iterator[None]:
    """A zip whose rows make a day impossible is of no use; waiting mends nothing."""
    try:
        yield
    except ImpossibleDay as error:
        raise ArchiveError(f"{path.name}: {error}", kind="value") from error


def _mended(manager: BackfillCacheManager, day: date, strays: pl.DataFrame, source: Source) -> tuple[Certificate, ...]:
    """Give the days beside those rows that they lack: archive days are cut by time, stored ones by ids, and time may go
    back over a midnight. Only holes are filled. The days that got some are returned."""
    if strays.is_empty():
        return ()
    known = {each.day: each for each in manager.nearest(day) if each is not None}
    ordered = strays.unique("a", keep="none").sort("a")
    return tuple(
        manager.append(each, lacking, source=source).record
        for each, rows in placed(ordered, day, *manager.nearest(day))
        if each in known and (lacking := rows.filter(_in_holes(rows["a"], known[each]))).height
    )


def _in_holes(ids: pl.Series, certificate: Certificate) -> pl.Series:
    return IdSet(certificate.holes).marked(ids)


def _known(manager: BackfillCacheManager, day: date) -> Provenance:
    """What the day's file knows besides its rows; one that cannot be trusted is moved aside first."""
    certificate = manager.record(day)
    return Provenance() if certificate is None else certificate.provenance()


def _only(within: IdRange, stored: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    if within == ANY_ID:
        return stored
    return (group.filter(pl.col("a").is_between(within.first_id, within.last_id)) for group in stored)


@dataclass(slots=True)
class _Join:
    """Joins two streams that ascend strictly in ``a``, and remembers where they differed."""

    sources: tuple[Sourced, ...]
    source: Source
    cached: int = 0
    duplicates: int = 0
    losers: pl.DataFrame = field(default_factory=empty_trades)
    replaced: IdSet = field(default_factory=IdSet)
    conflicting: IdSet = field(default_factory=IdSet)
    _versions: list[pl.DataFrame] = field(default_factory=list)

    def pieces(self, stored: Iterator[pl.DataFrame], published: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """Both, in order of ``a``, each id once."""
        ours, theirs = Feed(stored, self._count), Feed(published)
        while ours.rows.height and theirs.rows.height:
            last_id = min(ours.rows["a"][-1], theirs.rows["a"][-1])
            yield self._joined(ours.upto(last_id), theirs.upto(last_id))
        while ours.rows.height or theirs.rows.height:
            yield (ours if ours.rows.height else theirs).rest()

    def provenance(self, known: Provenance, findings: Findings) -> Provenance:
        """What is known of the day now. The first source that is named of an id is the one that holds."""
        replaced = tuple(Sourced(self.source, ids) for ids in self.replaced.ranges)
        conflicting = (*known.conflicting, *self.conflicting.ranges, *findings.conflicting.ranges)
        return replace(known, sources=(*replaced, *known.sources), conflicting=conflicting)

    def versions(self, findings: Findings) -> pl.DataFrame:
        """Both versions of the rows that differed, between the two and within the zip."""
        within = findings.conflicts.select(*SCHEMA, pl.lit(_named(self.source)).alias("source"), "kept")
        return pl.concat([*self._versions, within])

    def _count(self, stored: pl.DataFrame) -> None:
        self.cached += stored.height

    def _joined(self, stored: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
        merged = merge(stored, published)
        self.duplicates += merged.duplicates
        if merged.conflicts.is_empty():
            return merged.trades
        refused = merged.conflicts
        before = stored.filter(pl.col("a").is_in(refused["a"].implode()))
        names = names_of_sources(before["a"], self.sources)
        gives_way = names.str.starts_with("archive")
        self._remember(before, refused, names, gives_way)
        winners = refused.filter(gives_way)
        stay = merged.trades.filter(~pl.col("a").is_in(winners["a"].implode()))
        return merge(stay, winners).trades

    def _remember(self, before: pl.DataFrame, new: pl.DataFrame, names: pl.Series, gives_way: pl.Series) -> None:
        """``before`` and ``new`` are the two versions of the same ids."""
        self.conflicting |= IdSet.of_ids(new["a"])
        self.replaced |= IdSet.of_ids(new["a"].filter(gives_way))
        room = MOST_CONFLICTS - self.losers.height
        if room <= 0:
            return
        self.losers = pl.concat([self.losers, before.filter(gives_way), new.filter(~gives_way)]).head(MOST_CONFLICTS)
        ours = before.with_columns(source=names, kept=~gives_way)
        theirs = new.with_columns(source=pl.lit(_named(self.source)), kept=gives_way)
        self._versions.append(pl.concat([ours, theirs]).sort("a", maintain_order=True).head(2 * room))


class Feed:
    """A stream of frames that is taken from up to some id at a time. ``rows`` are those at hand: none at its end."""

    def __init__(self, frames: Iterator[pl.DataFrame], seen: Callable[[pl.DataFrame], None] | None = None) -> None:
        self._frames = frames
        self._seen = seen
        self.rows = empty_trades()
        self._refill()

    def upto(self, last_id: int) -> pl.DataFrame:
        """The rows at hand up to the id."""
        count = int(self.rows["a"].search_sorted(last_id, side="right"))
        taken, self.rows = self.rows[:count], self.rows[count:]
        self._refill()
        return taken

    def rest(self) -> pl.DataFrame:
        """All rows at hand."""
        taken, self.rows = self.rows, empty_trades()
        self._refill()
        return taken

    def _refill(self) -> None:
        while self.rows.is_empty() and (frame := next(self._frames, None)) is not None:
            self.rows = frame
            if self._seen is not None:
                self._seen(frame)


def names_of_sources(ids: pl.Series, sources: Collection[Sourced]) -> pl.Series:
    """Where each id came from, by name; ids ascend."""
    ordered = sorted(sources, key=lambda each: each.ids)
    firsts = pl.Series([each.ids.first_id for each in ordered], dtype=pl.Int64)
    names = pl.Series([_named(each.source) for each in ordered], dtype=pl.String)
    return names.gather(firsts.search_sorted(ids, side="right").cast(pl.Int64) - 1)


def _named(source: Source) -> str:
    return source.name if source.sha256 is None else f"{source.name}:{source.sha256}"


def add_to_report(file: Path, versions: pl.DataFrame, keys: KeyRing = NO_KEYS) -> Path | None:
    """Add to the day's report of conflicts what is not in it; return its path, None if there is none."""
    path = file.with_name(file.name + REPORT_SUFFIX)
    exists = is_there(path)
    if versions.is_empty():
        return path if exists else None
    earlier = _report(path, keys) if exists else []
    whole = pl.concat([*earlier, versions]).unique(maintain_order=True).sort("a", maintain_order=True)
    with replacing(path) as temporary:
        temporary.write_bytes(table_as_bytes(whole, keys))
    return path


def report_body(path: Path) -> bytes:
    """The bytes of a report. Raises UntrustedFile for a link, a pipe, and what is larger than any report, and
    StoreError."""
    try:
        return read_state(path, _MOST_REPORT_BYTES) or b""
    except ValueError as error:
        raise UntrustedFile("it is not a file of the size of a report") from error


def _report(path: Path, keys: KeyRing) -> list[pl.DataFrame]:
    """What the report has so far; one that cannot be read is moved aside, and another one begun. Raises DayLocked for
    one that no key opens."""
    try:
        report = table_from_bytes(report_body(path), keys, path).frame
    except UntrustedFile:
        report = pl.DataFrame()
    if report.schema == REPORT_SCHEMA:
        return [report]
    moved = move_aside(path)
    log.warning("report_quarantined", file=str(path), moved_to=moved.name, reason="it is not a report of conflicts")
    return []
