"""``backfilld verify``: is every day file of the cache what it says? Reads without the lock and moves nothing."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path

import click

from backfilld.cache.inspection import Finding, Inspected, chain_findings, inspect_day
from backfilld.cache.layout import day_file_name, days_in, instrument_directory, instruments_in
from backfilld.core.model import Instrument
from backfilld.core.outcome import EXIT_DONE, EXIT_INCOMPLETE
from backfilld.errors import SettingsError

MAX_THREADS = 4
"""Each holds a row group; more than a disk feeds are of no use."""

MOST_ALIKE = 10
"""How many findings of a kind the table names for a day; JSON has them all."""

_Place = tuple[Path, date, Instrument]


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read, and what is wrong with it, in order of instrument and day."""

    files: int
    rows: int
    bytes: int
    of_version_1: int
    findings: tuple[Finding, ...]


def verify(cache_dir: Path, instruments: Sequence[Instrument] | None, *, as_json: bool) -> int:
    """Verify the cache and print what was found; return the exit code."""
    began = time.perf_counter()
    places = day_files(cache_dir, instruments)
    with _progress(sum(path.stat().st_size for path, _, _ in places if path.exists()), quiet=as_json) as advance:
        verified = verify_files(places, advance)
    seconds = time.perf_counter() - began
    if as_json:
        click.echo(json.dumps(_document(cache_dir, verified, seconds), ensure_ascii=False))
    else:
        _print(verified, seconds)
    return EXIT_INCOMPLETE if verified.findings else EXIT_DONE


def day_files(cache_dir: Path, instruments: Sequence[Instrument] | None) -> list[_Place]:
    """The day files of the instruments (None: of all). Raises SettingsError where there is nothing to look at."""
    if not cache_dir.is_dir():
        raise SettingsError(f"cache_dir = {cache_dir}: there is no such directory")
    found: list[_Place] = []
    for instrument in instruments_in(cache_dir) if instruments is None else instruments:
        directory = instrument_directory(cache_dir, instrument)
        days = days_in(directory)
        if not days and instruments is not None:
            raise SettingsError(f"instrument {instrument}: {cache_dir} holds no day file of it")
        found += [(directory / day_file_name(day), day, instrument) for day in days]
    return found


def verify_files(places: Sequence[_Place], advance: Callable[[Inspected], None] = lambda _: None) -> Verified:
    """Inspect the files, several at a time, and how they join."""
    done: list[Inspected] = []
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for inspected in pool.map(lambda place: inspect_day(*place), places):
            if inspected is not None:
                done.append(inspected)
                advance(inspected)
    done.sort(key=lambda each: (each.instrument, each.day))
    findings = [finding for each in done for finding in each.findings]
    for _, days in groupby(done, key=lambda each: each.instrument):
        findings += chain_findings(days)
    findings.sort(key=lambda each: (each.instrument, each.day))
    of_version_1 = sum(each.facts is not None and each.facts.schema == 1 for each in done)
    rows, size = sum(each.rows for each in done), sum(each.bytes for each in done)
    return Verified(len(done), rows, size, of_version_1, tuple(findings))


@contextmanager
def _progress(total_bytes: int, *, quiet: bool) -> Iterator[Callable[[Inspected], None]]:
    """A bar on a terminal's stderr, nothing elsewhere."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("verify", total=total_bytes)

        def advance(inspected: Inspected) -> None:
            bar.update(task, advance=inspected.bytes, description=f"{inspected.instrument} {inspected.day}")

        yield advance


def _document(cache_dir: Path, verified: Verified, seconds: float) -> dict[str, object]:
    return {
        "cache_dir": str(cache_dir),
        "files": verified.files,
        "rows": verified.rows,
        "bytes": verified.bytes,
        "files_of_version_1": verified.of_version_1,
        "seconds": round(seconds, 3),
        "findings": [
            {
                "instrument": str(each.instrument),
                "day": each.day.isoformat(),
                "kind": each.kind,
                "sentence": each.sentence,
                "first_id": each.ids and each.ids.first_id,
                "last_id": each.ids and each.ids.last_id,
            }
            for each in verified.findings
        ],
    }


def _print(verified: Verified, seconds: float) -> None:
    if verified.findings:
        _print_table(verified.findings)
    counts = f"{verified.files:,} files, {verified.rows:,} trades, {verified.bytes:,} bytes in {seconds:.1f} s"
    outcome = f"{len(verified.findings):,} findings" if verified.findings else "every file is what it says"
    older = verified.of_version_1
    untold = f"; {older:,} files are of version 1, which has no digest: the next save adds it" if older else ""
    click.echo(f"{counts}: {outcome}{untold}")


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("instrument", "day", "kind", "what is wrong")
    for (instrument, day, kind), group in groupby(findings, key=lambda each: (each.instrument, each.day, each.kind)):
        alike = list(group)
        for each in alike[:MOST_ALIKE]:
            table.add_row(str(instrument), day.isoformat(), kind, each.sentence)
        if len(alike) > MOST_ALIKE:
            table.add_row(str(instrument), day.isoformat(), kind, f"and {len(alike) - MOST_ALIKE:,} more")
    # In a pipe nobody folds the table; rich would take eighty columns.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
