"""What a command costs before it does anything: ``--help``, ``--version``, completion and the status of an empty cache,
beside a bare interpreter that imports click."""

import tempfile
from collections.abc import Mapping, Sequence

from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import Run, in_turn, median_of, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "Start-up"
MOST_BEYOND_CLICK_MS = 60.0
MOST_STATUS_MS = 150.0
COMPLETION = {"COMP_WORDS": "backfilld sta", "COMP_CWORD": "1", "_BACKFILLD_COMPLETE": "bash_complete"}


def measure(sizes: Sizes) -> list[Figure]:
    """CPU of each command, by medians."""
    with tempfile.TemporaryDirectory() as cache_dir:
        commands: Mapping[str, Sequence[str]] = {
            "--help": ["--help"],
            "--version": ["--version"],
            "completion": [],
            "status of an empty cache": ["status", "--cache-dir", cache_dir],
        }
        bare, *found = in_turn(
            sizes.rounds,
            lambda: run_process(["-c", "import click"]),
            *(lambda name=name, words=words: _run(name, words) for name, words in commands.items()),
        )
    click_ms = _cpu_ms(bare)
    goals = [click_ms + MOST_BEYOND_CLICK_MS] * 3 + [MOST_STATUS_MS]
    return [
        Figure(f"{name}, CPU", _cpu_ms(runs), "ms", "importing click", click_ms, most=goal)
        for name, runs, goal in zip(commands, found, goals, strict=True)
    ]


def _run(name: str, words: Sequence[str]) -> Run:
    return run_process(["-c", _PROGRAM, *words], COMPLETION if name == "completion" else None)


_PROGRAM = "import sys; sys.argv[0] = 'backfilld'; from backfilld.__main__ import main; main()"


def _cpu_ms(runs: Sequence[Run]) -> float:
    return median_of(runs, lambda run: run.cpu_s * 1000)
