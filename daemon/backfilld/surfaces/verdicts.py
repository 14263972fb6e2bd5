"""What ``backfilld verify`` says: a table of what is wrong and a line, or one JSON document."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backfilld.core.model import IdRange
from backfilld.store.upkeep.inspection import Finding
from backfilld.surfaces.verify import Verified

if TYPE_CHECKING:
    from backfilld.adapters.archive_comparison import Comparison

MOST_ALIKE = 10
"""How many findings of a kind the table names for a day; JSON has them all."""


def print_verdicts(
    cache_dir: Path, verified: Verified, *, as_json: bool, also: Mapping[str, object] | None = None
) -> None:
    """Print what was found; ``also`` goes into the document."""
    if as_json:
        click.echo(json.dumps(_document(cache_dir, verified) | dict(also or {}), ensure_ascii=False))
        return
    if verified.findings:
        _print_table(verified.findings)
    for sentence in _remarks(verified.comparisons or ()):
        click.echo(sentence)
    click.echo(_summary(verified))


def _document(cache_dir: Path, verified: Verified) -> dict[str, object]:
    document: dict[str, object] = {
        "cache_dir": str(cache_dir),
        "files": len(verified.days),
        "rows": sum(each.rows for each in verified.days),
        "bytes": sum(each.bytes for each in verified.days),
        "files_of_version_1": _of_version_1(verified),
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


def _of_version_1(verified: Verified) -> int:
    return sum(each.facts is not None and each.facts.schema == 1 for each in verified.days)


def _summary(verified: Verified) -> str:
    rows, size = sum(each.rows for each in verified.days), sum(each.bytes for each in verified.days)
    counts = f"{len(verified.days):,} files, {rows:,} trades, {size:,} bytes in {verified.seconds:.1f} s"
    good = "every file is what it says" if verified.comparisons is None else "nothing is wrong"
    outcome = f"{len(verified.findings):,} findings" if verified.findings else good
    older = _of_version_1(verified)
    untold = f"; {older:,} files are of version 1, which has no digest: the next save adds it" if older else ""
    return f"{counts}: {outcome}{untold}"


def _remarks(comparisons: "Sequence[Comparison]") -> Iterator[str]:
    """What the archive said, a sentence a day for what is not plainly equal."""
    for each in comparisons:
        what = f"{each.instrument} {each.day}"
        if each.reason is not None:
            yield f"{what}: not compared: {each.reason}"
        if each.is_republished:
            yield f"{what}: republished: its rows came from a file with another checksum than is published now"
        if each.differences.settled:
            yield f"{what}: {each.differences.settled:,} rows differ from the archive's; the exchange's own are held"
    if comparisons:
        counts = Counter(each.verdict for each in comparisons)
        said = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(counts.items()))
        yield f"days against the archive: {said}"


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
