"""A day file against the published file of the day, row by row at bounded memory. Reads, and changes nothing.

Owns which differences count against us: rows that differ and ids that we lack. Ids that the archive lacks, rows of it
that cannot be trades or are another day's, and conflicts that REST has decided already, do not.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from backfilld.core.day.certificate import Certificate, Source
from backfilld.core.frame import SCHEMA
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from backfilld.store.archive_import.archive_findings import IdTally
from backfilld.store.archive_import.archive_take import Feed
from backfilld.store.archive_import.archivefile import ArchiveDay
from backfilld.store.archive_import.neighbours import neighbourhood
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.inspection import Inspected

ARCHIVE, REST = "archive", "rest"


@dataclass(frozen=True, slots=True)
class Differences:
    """``differs`` are ids under which the two have different rows, ``missing`` those that only the archive has;
    ``settled`` counts the ids that differ and of which the exchange's own version is stored."""

    differs: tuple[IdRange, ...] = ()
    missing: tuple[IdRange, ...] = ()
    settled: int = 0

    def __bool__(self) -> bool:
        return bool(self.differs or self.missing)


NO_DIFFERENCES = Differences()


def is_copy(inspected: Inspected, sha256: str) -> bool:
    """Whether every row of the day came from the file of this checksum, and is as it was taken."""
    facts = inspected.facts
    if facts is None or not facts.sealed or inspected.findings:
        return False
    return all(each.source == Source(ARCHIVE, sha256) for each in facts.sources)


def is_republished(facts: Certificate, sha256: str) -> bool:
    """Whether the day has rows of the archive, and all of other files than that of this checksum."""
    sums = {each.source.sha256 for each in facts.sources if each.source.name == ARCHIVE}
    return bool(sums) and sha256 not in sums


def compare_day(manager: BackfillCacheManager, path: Path, inspected: Inspected) -> Differences:
    """Compare the day with the published file at ``path``.

    Raises ArchiveError if that cannot be used, StoreError for a day file that cannot be read.
    """
    within = neighbourhood(manager, inspected.day, None).within
    published = ArchiveDay(path, inspected.day, within=within)
    differs, missing = published.read(lambda rows: _differing(manager.row_groups(inspected.day), rows))
    open_ranges = tuple(_open(differs, _settled(inspected.facts)))
    settled = sum(map(len, differs)) - sum(map(len, open_ranges))
    return Differences(open_ranges, missing, settled)


def _differing(
    stored: Iterator[pl.DataFrame], published: Iterator[pl.DataFrame]
) -> tuple[tuple[IdRange, ...], tuple[IdRange, ...]]:
    """The ids whose rows differ, and those that are only published, of two streams that ascend strictly in ``a``."""
    differs, missing = IdTally(), IdTally()
    ours, theirs = Feed(stored), Feed(published)
    while theirs.rows.height:
        if ours.rows.is_empty():
            missing.add(theirs.rest()["a"])
            continue
        last_id = min(ours.rows["a"][-1], theirs.rows["a"][-1])
        mine, others = ours.upto(last_id), theirs.upto(last_id)
        odd = others.join(mine, on=list(SCHEMA), how="anti", maintain_order="left")["a"]
        is_stored = odd.is_in(mine["a"].implode())
        differs.add(odd.filter(is_stored))
        missing.add(odd.filter(~is_stored))
    return differs.finding().ranges, missing.finding().ranges


def _settled(facts: Certificate | None) -> IdSet:
    """The ids of which two versions came, and REST's is stored."""
    if facts is None:
        return IdSet()
    others = IdSet.of(each.ids for each in facts.sources if each.source.name != REST)
    return IdSet.of(facts.conflicting) - others


def _open(differs: Iterable[IdRange], settled: IdSet) -> Iterator[IdRange]:
    return (part for ids in differs for part in settled.missing(ids))
