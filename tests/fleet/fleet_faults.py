"""Whatever is done to a fleet, it ends complete: nothing is overwritten, and nothing is left in scratch. Run by
``make test-fleet``."""

import json
import os
import signal
import subprocess
from contextlib import ExitStack, suppress
from datetime import date
from os import kill
from pathlib import Path

import trio

from backfilld.adapters.object_store import RemoteLocation
from binance_simulator import Exchange
from tests.e2e.world import Ended
from tests.fleet.fleet_fill import digests
from tests.fleet.world import SYMBOLS, Fleet, archive_of, free_port, span, weight_of
from tests.remote.faulty_proxy import proxy_with_outage

MOST_OF_A_START_S = 3.0
"""CPU seconds of a worker; its libraries take half of them."""
INSTRUMENTS = SYMBOLS[:3] + SYMBOLS[10:12]


def fill_of(first: date, last: date, port: int) -> list[str]:
    return ["fill", *span(first, last, INSTRUMENTS), "--scheduler", f"tcp://127.0.0.1:{port}", "--json"]


def children_of(process: "subprocess.Popen[bytes]") -> list[int]:
    """The processes that a worker's command has started."""
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    return []


def cpu_s(process: int) -> float:
    """The CPU seconds of a process; 0 of one that has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def assert_complete(fleet: Fleet, exchange: Exchange, run: Ended, first: date, last: date) -> None:
    assert run.code == 0, run
    report = json.loads(run.stdout)
    assert (report["unsealed"], report["findings"], report["weight"]) == ([], [], 0)
    assert len(await digests(fleet.location)) == ((last - first).days + 1) * len(INSTRUMENTS)
    assert weight_of(exchange) == 0


async def test_workers_killed_every_few_seconds(tmp_path: Path, location: RemoteLocation) -> None:
    async with archive_of(INSTRUMENTS, 1, rows=3000) as (exchange, first, last):
        fleet, port, kills = Fleet(exchange, location, tmp_path), free_port(), 0
        with ExitStack() as stack:
            stack.enter_context(fleet.scheduler(port))
            workers = [stack.enter_context(fleet.worker(port, f"node-{number}")) for number in range(2)]

            async def kill_now_and_then() -> None:
                nonlocal kills
                while True:
                    await trio.sleep(5)
                    for child in children_of(workers[kills % 2]):
                        # On a machine so busy that a worker has not even started in five seconds none would ever work.
                        while 0 < cpu_s(child) < MOST_OF_A_START_S:
                            await trio.sleep(0.2)
                        with suppress(ProcessLookupError):
                            kill(child, signal.SIGKILL)
                    kills += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_now_and_then)
                run = await fleet.run(*fill_of(first, last, port))
                nursery.cancel_scope.cancel()
        assert kills > 0
        await assert_complete(fleet, exchange, run, first, last)
        assert fleet.scratch() == []


async def test_a_scheduler_that_starts_again(tmp_path: Path, location: RemoteLocation) -> None:
    async with archive_of(INSTRUMENTS, 1, rows=300) as (exchange, first, last):
        fleet, port, runs = Fleet(exchange, location, tmp_path), free_port(), list[Ended]()
        with ExitStack() as stack:
            scheduler = stack.enter_context(fleet.scheduler(port))
            stack.enter_context(fleet.worker(port, "node"))
            async with trio.open_nursery() as nursery:

                async def fill() -> None:
                    runs.append(await fleet.run(*fill_of(first, last, port)))

                nursery.start_soon(fill)
                with trio.fail_after(300):
                    while len(await digests(location)) < 5:
                        await trio.sleep(0.2)
                kill(scheduler.pid, signal.SIGKILL)
                await trio.sleep(1)
                stack.enter_context(fleet.scheduler(port))
        await assert_complete(fleet, exchange, runs[0], first, last)
        assert fleet.scratch() == []


async def test_a_bucket_that_is_down_for_ten_seconds_and_the_same_fleet_twice_at_once(
    tmp_path: Path, location: RemoteLocation
) -> None:
    async with archive_of(INSTRUMENTS, 1, rows=300) as (exchange, first, last):
        port, runs = free_port(), list[Ended]()
        with ExitStack() as stack:
            proxied, fall_for = stack.enter_context(proxy_with_outage(location))
            fleet = Fleet(exchange, proxied, tmp_path)
            stack.enter_context(fleet.scheduler(port))
            for number in range(2):
                stack.enter_context(fleet.worker(port, f"node-{number}"))

            async def fill() -> None:
                runs.append(await fleet.run(*fill_of(first, last, port)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fill)
                nursery.start_soon(fill)
                with trio.fail_after(300):
                    while len(await digests(location)) < 5:
                        await trio.sleep(0.2)
                before = await digests(location)
                fall_for(10)
        fleet.location = location  # the proxy is gone
        reports = [json.loads(run.stdout) for run in runs]
        assert sum(each["pushed"] for each in reports) == ((last - first).days + 1) * len(INSTRUMENTS)
        for run in runs:
            await assert_complete(fleet, exchange, run, first, last)
        assert before.items() <= (await digests(location)).items()
        assert fleet.scratch() == []
