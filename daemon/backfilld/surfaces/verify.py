"""``backfilld verify``: is every day file of the cache what it says, and what the archive says? Takes no lock and
changes nothing."""

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
from typing import TYPE_CHECKING

from backfilld.core.backfill.outcome import EXIT_DONE, EXIT_INCOMPLETE
from backfilld.core.model import IdRange, Instrument
from backfilld.errors import SettingsError
from backfilld.settings import Settings
from backfilld.store.layout import day_file_name, days_in, instrument_directory, instruments_in
from backfilld.store.upkeep.inspection import Finding, Inspected, chain_findings, inspect_day

if TYPE_CHECKING:
    from backfilld.adapters.archive_comparison import Comparison

MAX_THREADS = 4
"""Each holds a row group; more than a disk feeds are of no use."""

_Place = tuple[Path, date, Instrument]


@dataclass(frozen=True, slots=True)
class Verified:
    """The days that were read, in order of instrument and day, how they compare with the archive (None: not asked), and
    all that is wrong with them."""

    days: tuple[Inspected, ...]
    findings: tuple[Finding, ...]
    seconds: float = 0.0
    comparisons: "tuple[Comparison, ...] | None" = None

    @property
    def exit_code(self) -> int:
        """The contract's."""
        return EXIT_INCOMPLETE if self.findings else EXIT_DONE


def verify(
    settings: Settings, instruments: Sequence[Instrument] | None, *, against_archive: bool, as_json: bool
) -> int:
    """Verify the cache and print what was found; return the exit code."""
    from backfilld.surfaces.verdicts import print_verdicts  # noqa: PLC0415

    verified = examine(settings, instruments, against_archive=against_archive, quiet=as_json)
    print_verdicts(settings.cache_dir, verified, as_json=as_json)
    return verified.exit_code


def examine(
    settings: Settings, instruments: Sequence[Instrument] | None, *, against_archive: bool, quiet: bool
) -> Verified:
    """Verify the files of the instruments (None: of all); a bar is drawn on a terminal unless ``quiet``.

    Raises SettingsError where there is nothing to look at, and ExchangeError for an archive that is out of reach.
    """
    began = time.perf_counter()
    places = day_files(settings.cache_dir, instruments)
    total = sum(path.stat().st_size for path, _, _ in places if path.exists())
    with progress("verify", total, quiet=quiet, in_bytes=True) as advance:
        verified = verify_files(places, lambda each: advance(f"{each.instrument} {each.day}", each.bytes))
    if not against_archive:
        return Verified(verified.days, verified.findings, time.perf_counter() - began)
    from backfilld.surfaces.against import compare_with_archive  # noqa: PLC0415 - offline needs no HTTP

    comparisons = compare_with_archive(settings, verified.days, quiet=quiet)
    findings = _ordered([*verified.findings, *_findings_of(comparisons)])
    return Verified(verified.days, findings, time.perf_counter() - began, comparisons)


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
    return Verified(tuple(done), _ordered(findings))


def _findings_of(comparisons: "Sequence[Comparison]") -> Iterator[Finding]:
    for each in comparisons:
        for ids in each.differences.differs:
            said = f"{_named(ids)}: the published file has another row"
            yield Finding(each.instrument, each.day, "differs", said, ids)
        for ids in each.differences.missing:
            yield Finding(each.instrument, each.day, "missing", f"{_named(ids)}: published, and not held", ids)


def _named(ids: IdRange) -> str:
    return f"id {ids.first_id}" if len(ids) == 1 else f"ids {ids.first_id} to {ids.last_id}"


def _ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda each: (each.instrument, each.day)))


@contextmanager
def progress(title: str, total: int, *, quiet: bool, in_bytes: bool = False) -> Iterator[Callable[[str, int], None]]:
    """A bar on a terminal's stderr, nothing elsewhere; it is moved on by what was done, and how much of the total."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task(title, total=total)
        yield lambda what, much: bar.update(task, advance=much, description=f"{title} {what}")
