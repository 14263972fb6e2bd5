"""What the archive leaves open is asked of REST where that is wanted, and named where it is not available. Run by
``make test-fleet``."""

import json
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from backfilld.adapters.object_store import RemoteLocation
from binance_simulator import ArchiveDefect, Exchange, ExchangeOptions
from tests.e2e.test_archive import downloads
from tests.fleet.fleet_fill import digests
from tests.fleet.world import SYMBOLS, Fleet, archive_of, free_port, span, weight_of

SPOT, FUTURES = SYMBOLS[0], SYMBOLS[10]
SPOILED = (1, 5, 6, 17, 30)
"""The days of June whose files lack ids, or the ends of the day."""


def spoiled(*defects: ArchiveDefect) -> ExchangeOptions:
    days = {f"{each}/2026-06-{day:02}": defects for each in (SPOT, FUTURES) for day in SPOILED}
    return ExchangeOptions(archive_delay_s=0, archive_defects=days)


async def filled(fleet: Fleet, first: date, last: date, *more: str) -> tuple[int, dict[str, Any]]:
    run = await fleet.run("fill", *span(first, last, [SPOT, FUTURES]), "--json", *more)
    assert run.code in (0, 1), run
    return run.code, json.loads(run.stdout)


def days_of(report: dict[str, Any]) -> dict[str, str]:
    return {each["day"]: each["reason"] for each in report["unsealed"]}


def assert_rest_filled_spot(report: dict[str, Any], exchange: Exchange) -> None:
    """The futures answer nothing of days so long ago, and are not asked: what the archive lacks of them is named."""
    assert report["weight"] == weight_of(exchange) > 0
    assert not [each for each in exchange.requests if str(each.market) != "spot" or each.status != 200]
    assert report["pushed"] + report["stored"] + len(report["unsealed"]) == 60
    assert all(day.startswith(str(FUTURES)) for day in days_of(report))
    assert all("answers nothing of days so long ago" in reason for reason in days_of(report).values())


@pytest.mark.parametrize("machines", [0, 2])
async def test_rest_fills_what_the_archive_lacks(tmp_path: Path, location: RemoteLocation, machines: int) -> None:
    """In this process without a scheduler, and by workers."""
    options = spoiled(ArchiveDefect.HOLES, ArchiveDefect.TRUNCATED_DAY)
    async with archive_of([SPOT, FUTURES], 1, rows=300, options=options) as (exchange, first, last):
        fleet, port = Fleet(exchange, location, tmp_path), free_port()
        with ExitStack() as stack:
            more = ["--scheduler", f"tcp://127.0.0.1:{port}"] if machines else []
            if machines:
                stack.enter_context(fleet.scheduler(port))
            for number in range(machines):
                stack.enter_context(fleet.worker(port, f"node-{number}"))
            code, without = await filled(fleet, first, last, *more)
            assert (code, without["weight"], weight_of(exchange)) == (1, 0, 0)
            left = [day for day in days_of(without) if day.startswith(str(SPOT))]
            assert len(left) >= len(SPOILED)

            asked = downloads(exchange)
            code, report = await filled(fleet, first, last, "--rest", *more)
            assert code == 1
            assert_rest_filled_spot(report, exchange)
            # What the bucket has is not downloaded once more, but for the days beside those that are filled.
            again = downloads(exchange) - asked
            assert len(again) <= 3 * len(days_of(without))
            code, report = await filled(fleet, first, last, "--rest", *more)
            assert (code, report["pushed"]) == (1, 0)
        assert len(await digests(location)) == 60 - len(report["unsealed"])
        assert fleet.scratch() == []


async def test_files_that_are_not_there_or_cannot_be_used_are_named(tmp_path: Path, location: RemoteLocation) -> None:
    """With REST the spot market's days come from there."""
    async with archive_of([SPOT, FUTURES], 1, rows=300, options=spoiled(ArchiveDefect.CUT_ZIP)) as (
        exchange,
        first,
        last,
    ):
        fleet = Fleet(exchange, location, tmp_path)
        _, report = await filled(fleet, first, last)
        assert [reason for reason in days_of(report).values() if "cut or damaged" in reason]
        _, report = await filled(fleet, first, last, "--rest")
        assert_rest_filled_spot(report, exchange)
        assert len(await digests(location)) == 60 - len(report["unsealed"])
        assert fleet.scratch() == []
