"""Verifying a cache: is every day file what its certificate claims, and what the archive publishes?

Takes no lock and changes nothing.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from backfilld.core.model import IdRange, Instrument
from backfilld.errors import SettingsError
from backfilld.services.progress import Progress, Watch, unwatched
from backfilld.store.format.keys import NO_KEYS, KeyRing
from backfilld.store.layout import (
    day_file_name,
    days_in,
    instrument_directory,
    instruments_in,
    journal_directory,
    journal_name,
)
from backfilld.store.upkeep.inspection import Finding, Inspected, chain_findings
from backfilld.store.upkeep.small_days import DayFile, groups_of, inspect_days

if TYPE_CHECKING:
    from backfilld.adapters.archive_comparison import Comparison

MAX_WORKERS = 4
"""How many groups of files are read at a time. Each keeps a row group in memory; four of them keep a disk busy."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The days that were read, by instrument and day, and all that is wrong with them. ``comparisons`` are those with
    the archive; None where nobody asked for them."""

    days: tuple[Inspected, ...]
    findings: tuple[Finding, ...]
    seconds: float = 0.0
    comparisons: "tuple[Comparison, ...] | None" = None

    def with_findings(self, more: Iterable[Finding]) -> "Verified":
        """The same days, with what else is wrong."""
        return replace(self, findings=_sorted([*self.findings, *more]))

    def with_comparisons(self, comparisons: "Sequence[Comparison]", seconds: float) -> "Verified":
        """The same days, compared with the archive too; comparing took ``seconds``."""
        findings = _sorted([*self.findings, *_findings_of(comparisons)])
        return replace(self, findings=findings, comparisons=tuple(comparisons), seconds=self.seconds + seconds)


def day_files(cache_dir: Path, instruments: Sequence[Instrument] | None) -> list[DayFile]:
    """The day files of the instruments (None: of all). Raises SettingsError where there is nothing to verify."""
    if not cache_dir.is_dir():
        raise SettingsError(f"cache_dir = {cache_dir}: there is no such directory")
    found: list[DayFile] = []
    for instrument in instruments_in(cache_dir) if instruments is None else instruments:
        directory = instrument_directory(cache_dir, instrument)
        days = days_in(directory)
        if not days and instruments is not None:
            raise SettingsError(f"instrument {instrument}: the cache {cache_dir} has no day file of it")
        journals = journal_directory(directory)
        found += [(directory / day_file_name(day), day, instrument, journals / journal_name(day)) for day in days]
    return found


def verify_files(files: Sequence[DayFile], watch: Watch = unwatched, keys: KeyRing = NO_KEYS) -> Verified:
    """Inspect the files, several at a time, and how neighbouring days join."""
    began = time.perf_counter()
    sizes = [_size(path) for path, *_ in files]
    total = sum(sizes)
    done: list[Inspected] = []
    with ThreadPoolExecutor(min(MAX_WORKERS, os.cpu_count() or 1)) as pool:
        groups = groups_of(zip(files, sizes, strict=True))
        for inspected in chain.from_iterable(pool.map(partial(inspect_days, keys=keys), groups)):
            if inspected is not None:
                done.append(inspected)
                name = f"{inspected.instrument} {inspected.day}"
                watch(Progress("verify", name, inspected.bytes, total))
    done.sort(key=lambda each: (each.instrument, each.day))
    findings = [finding for each in done for finding in each.findings]
    for _, days in groupby(done, key=lambda each: each.instrument):
        findings += chain_findings(days)
    return Verified(tuple(done), _sorted(findings), time.perf_counter() - began)


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _findings_of(comparisons: "Sequence[Comparison]") -> Iterator[Finding]:
    for each in comparisons:
        for ids in each.differences.differs:
            sentence = f"{_named(ids)}: the published file has another row"
            yield Finding(each.instrument, each.day, "differs", sentence, ids)
        for ids in each.differences.missing:
            yield Finding(each.instrument, each.day, "missing", f"{_named(ids)}: published, but not in the cache", ids)


def _named(ids: IdRange) -> str:
    return f"id {ids.first_id}" if len(ids) == 1 else f"ids {ids.first_id} to {ids.last_id}"


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda each: (each.instrument, each.day)))
