"""``backfilld verify``: what verifying and repairing found, as a table and a line, or as one JSON document."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backfilld.core.backfill.outcome import overall_exit_code
from backfilld.core.model import IdRange, Instrument
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE, EXIT_SETTINGS
from backfilld.services.verify import Verified, day_files, verify_files
from backfilld.settings import Settings
from backfilld.settings.encoding import keys_of
from backfilld.store.upkeep.inspection import Finding
from backfilld.surfaces.bar import progress_bar
from backfilld.surfaces.table import Column, table_lines, terminal_width
from backfilld.surfaces.words import counted, say

if TYPE_CHECKING:
    from backfilld.adapters.archive_comparison import Comparison

MOST_ALIKE = 10
"""How many findings of a kind the table names for a day; JSON has them all."""

COLUMNS = (Column("instrument"), Column("day"), Column("kind", rank=1), Column("what is wrong", wraps=True))


def verify(
    settings: Settings, instruments: Sequence[Instrument] | None, *, against_archive: bool, as_json: bool
) -> int:
    """Verify the cache and print what was found; return the exit code.

    Raises SettingsError where there is nothing to verify, and ExchangeError for an archive that cannot be reached.
    """
    files = day_files(settings.cache_dir, instruments)
    with progress_bar(quiet=as_json) as watch:
        verified = verify_files(files, watch, keys_of(settings))
        if against_archive:
            import trio  # noqa: PLC0415 - verifying offline needs neither trio nor HTTP

            from backfilld.services.compare_archive import compare_with_archive  # noqa: PLC0415

            began = time.perf_counter()
            comparisons = trio.run(compare_with_archive, settings, verified.days, watch)
            verified = verified.with_comparisons(comparisons, time.perf_counter() - began)
    _print(settings.cache_dir, verified, as_json=as_json)
    return _exit_code(verified)


def repair(
    settings: Settings, instruments: Sequence[Instrument] | None, *, against_archive: bool, as_json: bool
) -> int:
    """Verify, repair, verify again and print what was done; return the exit code.

    Raises CacheLocked while another instance uses the cache, and what :func:`verify` raises.
    """
    import trio  # noqa: PLC0415

    from backfilld.services.repair import repair_cache  # noqa: PLC0415
    from backfilld.surfaces.logs import complain, configure_logs  # noqa: PLC0415

    configure_logs(settings.log_format, "critical")
    with progress_bar(quiet=as_json) as watch:
        repaired = trio.run(partial(repair_cache, settings, instruments, against_archive=against_archive, watch=watch))
    if not as_json:
        for each in repaired.steps:
            say(f"{each.instrument} {each.day}: {each.sentence}")
    steps = [
        {"instrument": str(each.instrument), "day": each.day.isoformat(), "done": each.sentence}
        for each in repaired.steps
    ]
    _print(settings.cache_dir, repaired.verified, as_json=as_json, also={"repairs": steps})
    if not repaired.verified.findings:
        return EXIT_DONE
    for reason in repaired.reasons:
        complain(reason)
    return max(overall_exit_code(repaired.outcomes), _exit_code(repaired.verified))


def _exit_code(verified: Verified) -> int:
    """A locked file is the operator's: only a key opens it."""
    if any(each.kind == "locked" for each in verified.findings):
        return EXIT_SETTINGS
    return EXIT_INCOMPLETE if verified.findings else EXIT_DONE


def _print(cache_dir: Path, verified: Verified, *, as_json: bool, also: Mapping[str, object] | None = None) -> None:
    if as_json:
        click.echo(json.dumps(_document(cache_dir, verified) | dict(also or {}), ensure_ascii=False))
        return
    for line in table_lines(COLUMNS, list(_rows(verified.findings)), terminal_width()):
        say(line)
    for sentence in _remarks(verified.comparisons or ()):
        say(sentence)
    say(_summary(verified))


def _document(cache_dir: Path, verified: Verified) -> dict[str, object]:
    document: dict[str, object] = {
        "cache_dir": str(cache_dir),
        "files": len(verified.days),
        "rows": sum(each.rows for each in verified.days),
        "bytes": sum(each.bytes for each in verified.days),
        "seconds": round(verified.seconds, 3),
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
    if verified.comparisons is not None:
        document["archive"] = [_compared(each) for each in verified.comparisons]
    return document


def _compared(each: "Comparison") -> dict[str, object]:
    return {
        "instrument": str(each.instrument),
        "day": each.day.isoformat(),
        "verdict": each.verdict,
        "sha256": each.sha256,
        "republished": each.is_republished,
        "differs": _count(each.differences.differs),
        "missing": _count(each.differences.missing),
        "settled": each.differences.settled,
        "reason": each.reason,
    }


def _count(ranges: Sequence[IdRange]) -> int:
    return sum(map(len, ranges))


def _summary(verified: Verified) -> str:
    rows, size = sum(each.rows for each in verified.days), sum(each.bytes for each in verified.days)
    counts = (
        f"{counted(len(verified.days), 'file')}, {counted(rows, 'trade')}, {size:,} bytes in {verified.seconds:.1f} s"
    )
    good = "every file is what it claims" if verified.comparisons is None else "nothing is wrong"
    outcome = counted(len(verified.findings), "finding") if verified.findings else good
    return f"{counts}: {outcome}"


def _remarks(comparisons: "Sequence[Comparison]") -> Iterator[str]:
    """What the archive has otherwise, a sentence a day for what is not plainly equal."""
    for each in comparisons:
        what = f"{each.instrument} {each.day}"
        if each.reason is not None:
            yield f"{what}: not compared: {each.reason}"
        if each.is_republished:
            yield f"{what}: republished: its rows came from a file with another checksum than is published now"
        if each.differences.settled:
            yield f"{what}: {each.differences.settled:,} rows differ from the archive's; the exchange's own are stored"
    if comparisons:
        counts = Counter(each.verdict for each in comparisons)
        verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(counts.items()))
        yield f"days against the archive: {verdicts}"


def _rows(findings: Sequence[Finding]) -> Iterator[tuple[str, str, str, str]]:
    for (instrument, day, kind), group in groupby(findings, key=lambda each: (each.instrument, each.day, each.kind)):
        alike = list(group)
        for each in alike[:MOST_ALIKE]:
            yield str(instrument), day.isoformat(), kind, each.sentence
        if len(alike) > MOST_ALIKE:
            yield str(instrument), day.isoformat(), kind, f"and {len(alike) - MOST_ALIKE:,} more"
