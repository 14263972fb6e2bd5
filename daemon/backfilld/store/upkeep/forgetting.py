"""Taking out of a day file what is known to be wrong in it, so that exactly that is fetched anew.

Owns the rewriting. Rows that are taken out are kept in the report of conflicts beside the day.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import date

import polars as pl

from backfilld.core.day.certificate import Provenance, Sourced, Suspicion
from backfilld.core.day.start import DayStart
from backfilld.core.frame import empty_trades
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from backfilld.store.archive_import.archive_findings import MOST_CONFLICTS
from backfilld.store.archive_import.archive_take import add_to_report, names_of_sources
from backfilld.store.format.dayfile import rewriting
from backfilld.store.manager import BackfillCacheManager


class _NothingLeft(Exception):
    """Every row is wrong: there can be no such file."""


def forget(
    manager: BackfillCacheManager, day: date, ids: Iterable[IdRange] = (), day_starts: Collection[DayStart] = ()
) -> int:
    """Remove the rows with these ids from the day's file, and what it says of absent ones among them; let it claim
    these ``day_starts`` no longer. Return how many rows were removed; a file without any left is moved aside.

    Raises UntrustedFile and StoreError; the file is then as before.
    """
    gone = IdSet.of(ids)
    removed = [empty_trades()]
    file = manager.get_cache_path(day)

    try:
        with rewriting(file, day, manager.instrument, manager.encoding) as writer:
            known = manager.facts(day).provenance()
            kept = 0
            for piece in manager.row_groups(day):
                wrong = gone.marked(piece["a"])
                removed.append(piece.filter(wrong))
                kept += piece.height - removed[-1].height
                if removed[-1].height < piece.height:
                    writer.add(piece.filter(~wrong))
            add_to_report(file, _versions(pl.concat(removed), known.sources), manager.encoding.keys)
            if not kept:
                raise _NothingLeft  # noqa: TRY301 - the rewrite must fail, so that the file stays
            writer.finish(_untold(known, gone, day_starts))
        manager.drop_journal(day)
    except _NothingLeft:
        manager.distrust(day, "every row of it is wrong")
    return sum(piece.height for piece in removed)


def _versions(removed: pl.DataFrame, sources: Collection[Sourced]) -> pl.DataFrame:
    first = removed.head(MOST_CONFLICTS)
    return first.with_columns(names_of_sources(first["a"], sources).alias("source"), kept=pl.lit(value=False))


def _untold(known: Provenance, gone: IdSet, day_starts: Collection[DayStart]) -> Provenance:
    """What is known without what is no longer believed."""
    return replace(
        known,
        day_starts=set(known.day_starts) - set(day_starts),
        absent=tuple(part for each in known.absent for part in gone.missing(each)),
        suspected=tuple(Suspicion(part, each.asked_ms) for each in known.suspected for part in gone.missing(each.ids)),
    )
