"""``backfilld fill`` as a process: the plan is what it costs, any span goes on where others left off."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from backfilld.core.model import Instrument, day_start_ms, day_stop_ms
from binance_simulator import ArchiveDefect, Exchange, ExchangeOptions, Tape
from tests.e2e.world import BTC, TODAY, Daemon, Ended, at_hour, exchange_at, served_twice
from tests.surfaces.commands import backfilld

ROWS = 1_300
FUTURES = Instrument.parse("um:BTCUSDT")


def ago(days: int) -> date:
    """So many days before TODAY."""
    return TODAY - timedelta(days=days)


def tape_of(days: int, *, rows: int = ROWS, seed: int = 1) -> Tape:
    """``rows`` trades a day, from two days before the first of them up to noon of TODAY."""
    return Tape.generate_days(first_day=ago(days + 2), stop_ms=at_hour(12), trades_per_day=rows, seed=seed)


def options_of(*missing: tuple[Instrument, date]) -> ExchangeOptions:
    """An archive that has all past days but these."""
    defects = {f"{instrument}/{day}": [ArchiveDefect.MISSING] for instrument, day in missing}
    return ExchangeOptions(archive_delay_s=0, archive_defects=defects)


def daemon_on(exchange: Exchange, directory: Path) -> Daemon:
    """The command line with all instruments of the exchange."""
    known = {"ARCHIVE_URL": exchange.url, "INSTRUMENTS": " ".join(map(str, exchange.tapes))}
    return Daemon(exchange, directory / "cache", known)


async def fill(daemon: Daemon, first: date, last: date, *options: str) -> Ended:
    """Run it over a span, well; the requests so far are forgotten before."""
    daemon.exchange.requests.clear()
    daemon.exchange.archive_requests.clear()
    ended = await daemon.run("fill", "--from", str(first), "--to", str(last), *options)
    assert ended.code == 0, ended.stderr
    return ended


async def plan(daemon: Daemon, first: date, last: date) -> dict[str, Any]:
    """The plan as a document."""
    return dict(json.loads((await fill(daemon, first, last, "--dry-run", "--json")).stdout))


def is_exact(daemon: Daemon, days: Sequence[date], instrument: Instrument = BTC) -> bool:
    """Whether the days are sealed and hold what the exchange has."""
    visible = daemon.exchange.visible(str(instrument))
    return all(
        daemon.manager(instrument).facts(day).sealed
        and daemon.stored(day, instrument).equals(
            visible.filter(pl.col("T").is_between(day_start_ms(day), day_stop_ms(day), closed="left"))
        )
        for day in days
    )


def downloads(exchange: Exchange) -> Counter[str]:
    """How often each zip was asked for."""
    return Counter(
        each.path.rpartition("/")[2]
        for each in exchange.archive_requests
        if each.method == "GET" and each.path.endswith(".zip")
    )


async def test_the_plan_of_a_month_of_ten_instruments_is_what_it_costs(tmp_path: Path) -> None:
    """One day in five is missing in the archive. Requests and weight are right to a third, the rest exactly."""
    instruments = [Instrument.parse(f"spot:S{number}USDT") for number in range(10)]
    random = Random(7)
    missing = [(each, ago(n)) for each in instruments for n in range(1, 31) if random.random() < 0.2]
    tapes = {each: tape_of(30, seed=seed) for seed, each in enumerate(instruments)}
    async with exchange_at(12, tapes, options_of(*missing)) as exchange:
        daemon = daemon_on(exchange, tmp_path)
        planned = await plan(daemon, ago(30), ago(1))
        assert not list((tmp_path / "cache").glob("market=*")), "a plan writes no day"
        ended = await fill(daemon, ago(30), ago(1))
        real = len(exchange.requests)
        trouble = [each["event"] for each in ended.events if each["level"] in {"warning", "error"}]
        assert Counter(trouble) == {"archive_refused": len(missing)}
        assert real > 2 * len(missing) * 0.9
        assert abs(planned["requests"] - real) < real / 3, f"{planned['requests']} planned, {real} asked"
        weight = sum(record.weight for record in exchange.requests)
        assert abs(planned["weight"] - weight) < weight / 3
        assert planned["bytes"] == sum(exchange_bytes(exchange))
        sources = Counter(day["source"] for each in planned["instruments"] for day in each["days"])
        assert sources == {"archive": 300 - len(missing), "rest": len(missing)}
        assert all(is_exact(daemon, [ago(n) for n in range(1, 31)], each) for each in instruments)
        assert served_twice_by_symbol(exchange) == 0

        again = await plan(daemon, ago(30), ago(1))
        assert {day["source"] for each in again["instruments"] for day in each["days"]} == {"held"}
        await fill(daemon, ago(30), ago(1))
        # A second one because the exchange's clock is hours off this machine's: another answer must agree.
        assert len(exchange.requests) <= 2
        assert again["requests"] <= 1 + len(instruments)
        assert list(exchange.archive_requests) == []


def exchange_bytes(exchange: Exchange) -> list[int]:
    """The bytes of the zips that were sent."""
    return [
        each.bytes
        for each in exchange.archive_requests
        if each.method == "GET" and each.path.endswith(".zip") and each.status == 200
    ]


def served_twice_by_symbol(exchange: Exchange) -> int:
    """How many rows of pages were sent more than once; questions for a single row locate."""
    served: Counter[tuple[str, int]] = Counter()
    for record in exchange.requests:
        if record.first_id is not None and record.last_id is not None and record.rows > 1:
            served.update((record.query.split("&")[0], each) for each in range(record.first_id, record.last_id + 1))
    return sum(times > 1 for times in served.values())


@pytest.mark.time_of_day("which days are past")
async def test_a_fill_goes_on_earlier_and_later_and_fetches_nothing_again(tmp_path: Path) -> None:
    """No file twice, and no id but in the one page that shows where a span ends, which reaches over it."""
    missing = [(BTC, ago(9)), (BTC, ago(5)), (BTC, ago(2))]
    async with exchange_at(12, {BTC: tape_of(12)}, options_of(*missing)) as exchange:
        daemon = daemon_on(exchange, tmp_path)
        zips: Counter[str] = Counter()
        requests = []
        for first, last in ((7, 4), (10, 8), (3, 1), (12, 1)):
            await fill(daemon, ago(first), ago(last))
            zips += downloads(exchange)
            requests += list(exchange.requests)
        assert set(zips.values()) == {1}
        assert len(zips) == 12 - len(missing)
        exchange.requests.clear()
        exchange.requests.extend(requests)
        assert [each for each in served_twice(exchange) if each not in ends(requests)] == []
        assert is_exact(daemon, [ago(n) for n in range(1, 13)])


def ends(requests: Sequence[Any]) -> set[int]:
    """The ids of answers of one row: they locate the ends of spans."""
    return {record.first_id for record in requests if record.rows == 1}


@pytest.mark.time_of_day("which days are past")
async def test_days_that_neither_source_has_are_nowhere_in_the_plan(tmp_path: Path) -> None:
    """The futures answer nothing of a week ago, and the archive lacks a day of then."""
    async with exchange_at(12, {FUTURES: tape_of(8)}, options_of((FUTURES, ago(6)))) as exchange:
        planned = await plan(daemon_on(exchange, tmp_path), ago(7), ago(5))
        (instrument,) = planned["instruments"]
        assert [day["source"] for day in instrument["days"]] == ["archive", "nowhere", "archive"]


async def test_a_symbol_that_does_not_exist_has_no_plan(tmp_path: Path) -> None:
    async with exchange_at(12, {BTC: tape_of(2)}, options_of()) as exchange:
        daemon = daemon_on(exchange, tmp_path)
        daemon.settings["INSTRUMENTS"] = "spot:NOSUCHUSDT"
        ended = await daemon.run("fill", "--from", str(ago(2)), "--dry-run")
        assert (ended.code, ended.stderr.count("\n")) == (78, 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "2025-03-02", "--to", "2025-03-01"), "--from 2025-03-02 is after --to 2025-03-01"),
        (("--from", "2025-03-02", "--to", "2999-01-01"), "--to 2999-01-01 lies in the future"),
        (("--from", "2999-01-01"), "--from 2999-01-01 is after --to"),
        (("--from", "1969-12-31"), "--from 1969-12-31 is before 2017-07-14"),
        (("--from", "2025-13-01"), "Invalid value for '--from'"),
        ((), "Missing option '--from'"),
        (("--from", "2025-03-02", "--json"), "--json goes with --dry-run"),
    ],
)
def test_a_span_that_cannot_be_is_a_sentence_and_78(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = backfilld("fill", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
    assert done.stderr.startswith(f"backfilld: {sentence}")
    assert list(tmp_path.iterdir()) == []


async def test_a_plan_of_futures_invents_no_trades_before_the_first_that_the_exchange_shows(tmp_path: Path) -> None:
    """The first day of the window lies beyond the lookback and is on disk, unsealed: its ids are not asked for by
    number from 0 on."""
    async with exchange_at(
        12, {FUTURES: tape_of(8)}, options_of(*((FUTURES, ago(n)) for n in range(1, 9)))
    ) as exchange:
        daemon = daemon_on(exchange, tmp_path)
        visible = exchange.visible(str(FUTURES))
        day = ago(7)
        rows = visible.filter(pl.col("T").is_between(day_start_ms(day), day_stop_ms(day), closed="left"))
        daemon.manager(FUTURES).append(day, rows, ())
        planned = await plan(daemon, ago(7), ago(1))
        (instrument,) = planned["instruments"]
        assert 0 < instrument["trades"] <= visible.height
        assert instrument["requests"] <= visible.height // 1000 + 12
