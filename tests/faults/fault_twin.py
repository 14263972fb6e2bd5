"""Kill -9 in each system call of a rewrite that exchanges today's file with its twin."""

import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import trio
from polars.testing import assert_frame_equal

from backfilld.core.day.addition import Addition
from backfilld.store.atomic import sweep_temporary_files
from backfilld.store.waiting_days import WaitingDays
from tests.faults.twin_process import BTC, ROWS, manager_at, rows
from tests.faults.world import Injection, Running, injected
from tests.store.frames import DAY

CALLS = {
    "ftruncate": range(1, 10),
    "write": (1, 2, 15, 40),
    "fsync": range(1, 10),
    "/^link": range(1, 10),
    "/^rename": range(1, 10),
    "/^unlink": range(1, 10),
}
"""In which of them to kill, until the process survives: but for the writes, of which there are many."""
LEAST_KILLS = {"ftruncate": 2, "write": 3, "fsync": 2, "/^link": 1, "/^rename": 1, "/^unlink": 1}


@pytest.mark.parametrize("calls", CALLS)
async def test_killed_in_a_system_call_of_an_exchange(place: Path, strace: None, calls: str) -> None:
    """Every reader finds the file of before or the one of after; all rows are in file and journal; the next process
    finds nothing of the twin."""
    kills = 0
    for number in CALLS[calls]:
        directory = place / str(number)
        if not await _killed(directory, Injection(calls, "signal=SIGKILL", str(number))):
            break
        kills += 1
        _assert_whole(directory)
    assert kills >= LEAST_KILLS[calls]


async def _killed(directory: Path, injection: Injection) -> bool:
    """Whether the process was killed in that call; it ends by itself if there is none."""
    directory.mkdir()
    process = subprocess.Popen(  # noqa: ASYNC220 - a test may block its own loop
        [sys.executable, "-m", "tests.faults.twin_process", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert await trio.to_thread.run_sync(process.stdout.readline) == b"ready\n"
    run = Running(None, process, directory / "out", directory / "err")  # type: ignore[arg-type]
    with process.stdin, process.stdout:
        async with injected(run, injection):
            process.stdin.write(b"\n")
            process.stdin.flush()
            code = await run.ended()
    assert code in {0, -signal.SIGKILL}
    return code != 0


def _assert_whole(directory: Path) -> None:
    manager, everything = manager_at(directory), rows(0, sum(ROWS))
    file = pl.read_parquet(manager.get_cache_path(DAY))
    assert file.height in {sum(ROWS[:-1]), sum(ROWS)}
    assert_frame_equal(file, everything[: file.height])
    sweep_temporary_files(directory)
    assert list(directory.rglob("*.tmp-*")) == []
    assert_frame_equal(manager.load_cached_trades(DAY), everything)  # type: ignore[arg-type]
    waiting = WaitingDays(300.0)
    waiting.loaded(manager, DAY, 0.0)
    waiting.save(manager, Addition(BTC, DAY))
    assert_frame_equal(pl.read_parquet(manager.get_cache_path(DAY)), everything)
    assert list(directory.rglob("*.bad-*")) == []
