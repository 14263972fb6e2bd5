"""``python -m tests.benchmarks``: run the benchmarks, print their tables, write all figures as JSON."""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks import (
    archive_day,
    ceiling,
    cold_backfill,
    day_file,
    economy,
    encryption,
    file_size,
    history,
    instruments,
    live_day,
    live_lag,
    live_many,
    pipeline,
    resume,
    serve_pages,
    serve_streams,
    start_up,
)
from tests.benchmarks.figures import Figure, print_figures
from tests.benchmarks.sizes import FULL, QUICK, Sizes

BENCHMARKS = {
    "day-file": day_file,
    "file-size": file_size,
    "encryption": encryption,
    "cold": cold_backfill,
    "resume": resume,
    "pipeline": pipeline,
    "economy": economy,
    "start-up": start_up,
    "history": history,
    "instruments": instruments,
    "live-day": live_day,
    "ceiling": ceiling,
    "archive-day": archive_day,
    "live-lag": live_lag,
    "live-many": live_many,
    "serve-pages": serve_pages,
    "serve-streams": serve_streams,
}
LIBRARIES = ("httpx", "msgspec", "polars", "pyarrow", "pydantic-settings", "structlog", "trio")


def main() -> None:
    """Run what was asked for. The goals are those of the full sizes."""
    arguments = _arguments()
    console = Console(width=None if os.isatty(1) else 160)
    machine = _machine()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items() if not isinstance(value, dict)))
    sizes = QUICK if arguments.quick else FULL
    results = [_run(name, sizes, console) for name in arguments.only or BENCHMARKS]
    _print_verdict(results, console)
    if arguments.json:
        document = {"machine": machine, "quick": arguments.quick, "benchmarks": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(BENCHMARKS), help="run this one; repeatable")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: a look, no measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    return parser.parse_args()


def _run(name: str, sizes: Sizes, console: Console) -> dict[str, Any]:
    benchmark = BENCHMARKS[name]
    measure: Callable[[Sizes], list[Figure]] = benchmark.measure
    began = time.perf_counter()
    figures = measure(sizes)
    if sizes is QUICK:
        figures = [replace(figure, most=None, most_ratio=None) for figure in figures]
    seconds = time.perf_counter() - began
    print_figures(f"{benchmark.TITLE} ({name}, {seconds:.0f} s)", figures, console)
    return {"name": name, "seconds": seconds, "figures": [figure.as_json() for figure in figures]}


def _print_verdict(results: Iterable[dict[str, Any]], console: Console) -> None:
    figures = [figure for result in results for figure in result["figures"] if figure["met"] is not None]
    missed = [figure["name"] for figure in figures if not figure["met"]]
    console.print(
        f"{len(figures) - len(missed)} of {len(figures)} goals met" + "".join(f"; missed: {n}" for n in missed)
    )


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }


if __name__ == "__main__":
    main()
