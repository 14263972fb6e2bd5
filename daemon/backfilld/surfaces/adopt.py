"""``backfilld adopt``: the flat day files of an earlier program become the cache's, with certificates."""

import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import click

from backfilld.core.backfill.outcome import EXIT_DONE, EXIT_INCOMPLETE
from backfilld.core.model import Instrument
from backfilld.errors import SettingsError, StoreError
from backfilld.store import BackfillCacheManager
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import day_file_name, days_in, instrument_directory
from backfilld.store.lock import locked
from backfilld.store.upkeep.adoption import Adopted, NotTaken, adopt_file, join_days


def adopt(directory: Path, cache_dir: Path, instrument: Instrument, encoding: Encoding) -> int:
    """Take over the files of ``directory``, say what became of each, and return the exit code.

    Raises CacheLocked while a daemon runs on the cache, and SettingsError for a directory without such files.
    """
    days = days_in(directory)
    if not days:
        raise SettingsError(f"{directory}: there is no file backfill_YYYY-MM-DD.parquet in this directory")
    target = instrument_directory(cache_dir, instrument)
    if directory.resolve() == target.resolve():
        raise SettingsError(
            f"{directory}: this is where the cache keeps {instrument}; name the directory to adopt from"
        )
    with locked(cache_dir):
        manager = BackfillCacheManager(target, instrument, encoding)
        taken, refused = _adopt(manager, directory, days)
        sealed = join_days(manager, {day for each in taken for day in each.days})
    if taken:
        _print_table(taken)
    for sentence in [*_remarks(taken), *refused]:
        click.echo(sentence)
    click.echo(_summary(taken, refused, instrument, sealed))
    return EXIT_INCOMPLETE if refused else EXIT_DONE


def _adopt(manager: BackfillCacheManager, directory: Path, days: Sequence[date]) -> tuple[list[Adopted], list[str]]:
    taken: list[Adopted] = []
    refused: list[str] = []
    for day in _tracked(days):
        path = directory / day_file_name(day)
        try:
            taken.append(adopt_file(manager, path, day))
        except (NotTaken, StoreError) as reason:
            refused.append(f"{path} was not taken: {reason}")
    return taken, refused


def _tracked(days: Sequence[date]) -> Iterable[date]:
    """The days, with a bar on a terminal's stderr."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import track  # noqa: PLC0415

    return track(days, "adopt", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _remarks(taken: Sequence[Adopted]) -> list[str]:
    said = []
    for each in taken:
        if each.strays:
            where = ", ".join(f"{rows:,} to {day}" for day, rows in sorted(each.strays.items()))
            said.append(f"{each.path.name} holds rows of other days, which went there: {where}")
        if each.conflicts:
            said.append(
                f"{each.path.name} holds {each.conflicts:,} rows that differ from others of the same ids, which stayed"
            )
    return said


def _summary(taken: Sequence[Adopted], refused: Sequence[str], instrument: Instrument, sealed: Sequence[date]) -> str:
    added, rows = sum(each.added for each in taken), sum(each.rows for each in taken)
    left = f", {len(refused)} files not taken" if refused else ""
    return (
        f"{len(taken)} files with {rows:,} rows taken over for {instrument}: {added:,} trades added, "
        f"{len(sealed)} days sealed by their neighbours{left}; the originals are as they were"
    )


def _print_table(taken: Sequence[Adopted]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("file")
    for name in ("rows", "doubled", "of other days", "conflicts", "added"):
        table.add_column(name, justify="right")
    for each in taken:
        figures = (each.rows, each.doubled, sum(each.strays.values()), each.conflicts, each.added)
        table.add_row(each.path.name, *(f"{figure:,}" for figure in figures))
    # In a pipe nobody folds the table; rich would take eighty columns.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
