"""Taking times: contenders in turn, medians, and processes with their CPU and peak memory."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True)
class Run:
    """One process from start to exit: wall time, its own CPU time (user and system, all threads), peak memory."""

    seconds: float
    cpu_s: float
    peak_mb: float
    stdout: str
    stderr: str


def in_turn(rounds: int, *contenders: Callable[[], T]) -> list[list[T]]:
    """What each contender returned, round by round: A B A B, so that a busy machine meets all of them alike."""
    results: list[list[T]] = [[] for _ in contenders]
    for _ in range(rounds):
        for result, contender in zip(results, contenders, strict=True):
            result.append(contender())
    return results


def medians_ms(rounds: int, *deeds: Callable[[], object]) -> list[float]:
    """The median wall time of each deed in ms, taken in turn after one round of warming up."""
    return _medians_ms(rounds, time.perf_counter, deeds)


def medians_cpu_ms(rounds: int, *deeds: Callable[[], object]) -> list[float]:
    """The same in CPU time of all threads of this process."""
    return _medians_ms(rounds, time.process_time, deeds)


def _medians_ms(rounds: int, clock: Callable[[], float], deeds: Sequence[Callable[[], object]]) -> list[float]:
    def timed(deed: Callable[[], object]) -> float:
        began = clock()
        deed()
        return (clock() - began) * 1000

    for deed in deeds:
        deed()
    return [statistics.median(times) for times in in_turn(rounds, *[lambda deed=deed: timed(deed) for deed in deeds])]


def median_of(runs: Iterable[T], figure: Callable[[T], float]) -> float:
    """The median of one figure of several runs."""
    return statistics.median(map(figure, runs))


def run_process(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Run:
    """Run this Python with ``arguments`` in an empty directory. Raises RuntimeError if it fails.

    A small launcher starts it: the peak memory that Linux tells of a child counts the memory of whoever forked it.
    """
    with tempfile.TemporaryDirectory(prefix="backfilld-bench-") as directory:
        report = Path(directory) / "report.json"
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_LAUNCHER), str(report), sys.executable, *arguments],
            env=_clean_environment() | dict(environment or {}),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(arguments)[:200]} ended with {done.returncode}: {done.stderr or done.stdout}"
            )
        return Run(**json.loads(report.read_text()), stdout=done.stdout, stderr=done.stderr)


def _clean_environment() -> dict[str, str]:
    """Ours, without settings of the daemon's, and with this package's parent importable.

    Python may keep the bytecode of what it imports, as it does of an installed package: to compile 190 modules anew
    takes 0.15 s, which no user waits for.
    """
    hidden = ("BACKFILL_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(hidden)}
    return kept | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
