"""A fleet fills a bucket: whole, byte for byte the same whoever does it, and without any request weight. Run by
``make test-fleet``."""

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from tests.fleet.world import SYMBOLS, Fleet, archive_of, free_port, span, weight_of


async def digests(location: RemoteLocation) -> dict[str, str]:
    """The digest of each day in the bucket, by key."""
    store = open_object_store(location)
    found = {}
    for each in await store.objects(""):
        if "backfill_" in each.key:
            content = await store.tail(each.key, tail_bytes=8)
            assert content is not None
            found[each.key] = content.attributes["digest"]
    return found


async def test_a_month_here_without_a_scheduler(tmp_path: Path, location: RemoteLocation) -> None:
    async with archive_of(SYMBOLS[:2], 1, rows=300) as (exchange, first, last):
        fleet = Fleet(exchange, location, tmp_path)
        names = tmp_path / "symbols.txt"
        names.write_text("".join(f"{each}  # a comment\n" for each in SYMBOLS[:2]))
        wanted = ["--from", str(first), "--to", str(last), "--instruments", f"@{names}"]
        run = await fleet.run("plan", *wanted, "--json")
        plan = json.loads(run.stdout)
        assert [(each["month"], each["days"]) for each in plan["tasks"]] == [("2026-06", 30)] * 2
        run = await fleet.run("fill", *wanted, "--json")
        assert run.code == 0, run
        found = json.loads(run.stdout)
        assert (found["pushed"], found["unsealed"], found["findings"]) == (60, [], [])
        assert weight_of(exchange) == 0
        assert len(await digests(location)) == 60
        run = await fleet.run("status", "--json")
        states = json.loads(run.stdout)["instruments"]
        assert [(each["days"], each["first"], each["last"], each["unjoined"], each["trades"]) for each in states] == [
            (30, str(first), str(last), 0, 9000)
        ] * 2
        assert fleet.scratch() == []


async def test_twenty_instruments_of_three_months_by_one_worker_and_by_two(
    tmp_path: Path, location: RemoteLocation
) -> None:
    """The same bucket by digests, every day sealed and joined, no request weight; and again, over what is there."""
    found: list[dict[str, str]] = []
    async with archive_of(SYMBOLS, 3, rows=100) as (exchange, first, last):
        days = (last - first).days + 1
        await Fleet(exchange, location, tmp_path / "warm").run("plan", *span(first, last, SYMBOLS))
        for machines in (1, 2):
            own, before_s = replace(location, url=f"{location.url}/{machines}"), sum(os.times()[2:4])
            fleet, port = Fleet(exchange, own, tmp_path / str(machines)), free_port()
            with ExitStack() as stack:
                stack.enter_context(fleet.scheduler(port))
                for number in range(machines):
                    stack.enter_context(fleet.worker(port, f"node-{number}"))
                fill = ["fill", *span(first, last, SYMBOLS), "--scheduler", f"tcp://127.0.0.1:{port}", "--json"]
                run = await fleet.run(*fill)
                assert run.code == 0, run
                report = json.loads(run.stdout)
                assert (report["pushed"], report["unsealed"], report["findings"]) == (days * 20, [], [])
                assert report["weight"] == 0
                found.append(await digests(own))
                asked = len(exchange.archive_requests)
                again = json.loads((await fleet.run(*fill)).stdout)
                assert (again["pushed"], again["stored"], again["downloaded_bytes"]) == (0, days * 20, 0)
                assert again["seconds"] <= 0.2 * 20
                assert not [each for each in list(exchange.archive_requests)[asked:] if each.path.endswith(".zip")]
            assert fleet.scratch() == []
            # On a machine with as many cores as workers the second is faster; the CPU seconds show what it did.
            cpu_s = sum(os.times()[2:4]) - before_s
            print(f"{machines} workers: {report['seconds']} s, {cpu_s:.0f} s of CPU, then {again['seconds']} s")
        assert weight_of(exchange) == 0
    assert len(found[0]) == days * 20
    assert found[0] == found[1]
