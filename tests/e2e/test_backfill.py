"""Cold, warm, and every shape of day: the day file is the exchange's tape, at the least number of requests."""

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
import trio

from backfilld.core.day.start import DayStart
from backfilld.core.model import MS_PER_DAY, Instrument, day_of
from binance_simulator import ExchangeOptions, Tape, open_exchange
from binance_simulator.exchange import host_ms
from tests.e2e.world import (
    BTC,
    HOUR_MS,
    START_MS,
    TODAY,
    Daemon,
    allowed_requests,
    at_hour,
    exchange_at,
    generated,
    kill,
    locates,
    served_twice,
    tape_at,
    trade_requests,
)


@pytest.mark.time_of_day("the day of host and exchange, at different hours")
async def test_cold_start_fetches_every_trade_once_and_the_restart_only_the_new_ones(tmp_path: Path) -> None:
    """The guide's first two startups, counted by the exchange."""
    async with exchange_at(16, {BTC: generated(40_000, live_rate_per_s=200)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        cold = await daemon.once()
        stored = daemon.stored()
        assert stored.equals(daemon.tape_of_today().head(stored.height))
        assert len(exchange.requests) <= allowed_requests(stored.height)
        assert cold.event("backfill_started")["strategy"] == "full"
        assert cold.event("backfill_completed")["trades"] == stored.height

        cold_requests = len(exchange.requests)
        warm = await daemon.once()
        grown = daemon.stored()
        assert grown.height > stored.height
        assert grown.equals(daemon.tape_of_today().head(grown.height))
        assert len(exchange.requests) - cold_requests <= 4 + (grown.height - stored.height) // 1000
        assert warm.event("backfill_started")["strategy"] == "resume"
        assert warm.event("gap_found")["missing_ids"] <= grown.height - stored.height
        assert warm.event("trades_merged")["cached"] == stored.height
        assert served_twice(exchange) == []


def _dense() -> Tape:
    return generated(30_000)


def _sparse() -> Tape:
    return generated(120)


def _burst() -> Tape:
    """2,500 trades in one millisecond, which no paging by time can get through."""
    times = [at_hour(-1), *([at_hour(1)] * 700), *([at_hour(2) + 5] * 2_500), *([at_hour(2) + 6] * 400)]
    return tape_at(times)


def _quiet() -> Tape:
    """Three silent hours: a silence is no hole."""
    before = [at_hour(-1) + step * 4_000 for step in range(2_700)]
    return tape_at([*before, *(at_hour(5) + step * 10_000 for step in range(3_000))])


def _exact_page() -> Tape:
    return tape_at([at_hour(-1), *(at_hour(1) + step for step in range(1_000))])


def _empty() -> Tape:
    return tape_at([at_hour(-2), at_hour(-1)])


@pytest.mark.parametrize("shape", [_dense, _sparse, _burst, _quiet, _exact_page], ids=lambda shape: shape.__name__)
async def test_day_file_equals_the_tape_row_for_row(tmp_path: Path, shape: Callable[[], Tape]) -> None:
    """Whatever the density, all rows are there, in order, for ceil(n / 1000) requests and a handful."""
    async with exchange_at(16, {BTC: shape()}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        await daemon.once()
        tape = daemon.tape_of_today()
        assert daemon.stored().equals(tape)
        is_silent = tape["T"][-1] < at_hour(15)
        assert len(exchange.requests) <= allowed_requests(tape.height, is_silent=is_silent)
        asked = len(exchange.requests)
        await daemon.once()
        assert len(exchange.requests) - asked <= 3
        assert daemon.stored().equals(tape)


@pytest.mark.parametrize("days_off", [-385, -1, 1, 40])
async def test_an_exchange_of_another_day_than_the_host_costs_no_request_more(tmp_path: Path, days_off: int) -> None:
    """Its day counts, once two answers have named it; nothing is stored outside of its window."""
    start_ms = START_MS + days_off * MS_PER_DAY
    now_ms = start_ms + 16 * HOUR_MS
    shift_ms = now_ms - host_ms()
    tape = Tape.generate(start_ms=start_ms - MS_PER_DAY - HOUR_MS, stop_ms=now_ms, trades=9_000, seed=3)
    async with open_exchange({str(BTC): tape}, clock_ms=lambda: host_ms() + shift_ms) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"DAYS": "1"})
        await daemon.once()
        days = [day_of(start_ms - MS_PER_DAY), day_of(start_ms)]
        assert sorted(path.name[9:19] for path in daemon.cache_dir.rglob("*.parquet")) == [str(day) for day in days]
        stored = [daemon.stored(day=day) for day in days]
        assert pl.concat(stored).equals(tape.frame.filter(pl.col("T") >= start_ms - MS_PER_DAY))
        cold = len(exchange.requests)
        assert cold <= allowed_requests(sum(each.height for each in stored))
        await daemon.once()
        assert len(exchange.requests) - cold <= 3


@pytest.mark.time_of_day("how long today has lasted")
async def test_a_day_without_trades_is_complete(tmp_path: Path) -> None:
    """Nothing to hold is no failure, and no file."""
    async with exchange_at(16, {BTC: _empty()}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        done = await daemon.once()
        assert done.event("backfill_completed")["trades"] == 0
        assert not daemon.day_file().exists()


async def test_marker_rows_are_kept_and_left_out_of_the_figures(tmp_path: Path) -> None:
    """P = q = 0 and f = l = -1: without them their ids would look like holes."""
    tape = Tape.generate(start_ms=at_hour(-1), stop_ms=at_hour(16), trades=5_000, seed=4, markers=40)
    async with exchange_at(16, {BTC: tape}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        done = (await daemon.once()).event("backfill_completed")
        stored = daemon.stored()
        assert stored.filter(pl.col("p") == 0).height > 0
        real = stored.filter(pl.col("p") > 0)
        assert done["trades"] == stored.height
        prices, quantities = real["p"].to_list(), real["q"].to_list()
        notional = sum(price * quantity for price, quantity in zip(prices, quantities, strict=True))
        assert done["vwap"] == pytest.approx(notional / sum(quantities))
        assert done["range_today"] == pytest.approx(max(prices) - min(prices))


@pytest.mark.time_of_day("which days are before today")
async def test_two_markets_and_days_before_today(tmp_path: Path) -> None:
    """Each instrument has its own files; a day that is over and chained to the next is sealed."""
    um = Instrument.parse("um:BTCUSDT")
    start_ms = at_hour(-40)
    tapes = {
        BTC: Tape.generate(start_ms=start_ms, stop_ms=at_hour(3), trades=9_000, seed=1),
        um: Tape.generate(start_ms=start_ms, stop_ms=at_hour(3), trades=5_000, seed=2, lot="0.001"),
    }
    async with exchange_at(3, tapes) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"DAYS": "1", "INSTRUMENTS": f"{BTC} {um}"})
        await daemon.once()
        yesterday = TODAY - timedelta(days=1)
        for instrument in (BTC, um):
            manager = daemon.manager(instrument)
            both = pl.concat([daemon.stored(yesterday, instrument), daemon.stored(TODAY, instrument)])
            assert both.equals(exchange.visible(str(instrument)).filter(pl.col("T") >= at_hour(-24)))
            assert manager.facts(yesterday).sealed
            assert not manager.facts(TODAY).sealed
        assert served_twice(exchange) == []


async def test_cache_off_fetches_all_again_and_touches_no_disk(tmp_path: Path) -> None:
    """BACKFILL_CACHE_ENABLED=false: the same backfill, no file, and the log says so."""
    async with exchange_at(16, {BTC: generated(6_000)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"CACHE_ENABLED": "false"})
        first = await daemon.once()
        second = await daemon.once()
        assert first.event("cache_disabled")
        assert first.event("backfill_started")["strategy"] == "uncached"
        tape = daemon.tape_of_today()
        for done in (first, second):
            assert done.event("backfill_completed")["trades"] == tape.height
        assert list(tmp_path.iterdir()) == []


async def test_holes_in_the_cache_are_fetched_and_nothing_else(tmp_path: Path) -> None:
    """What a crash in mid-download leaves: some pages here, some there. Only what is missing is asked for."""
    async with exchange_at(16, {BTC: generated(20_000)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        tape = daemon.tape_of_today()
        manager = daemon.manager()
        for start, stop in ((0, 2_000), (3_000, 7_000), (9_500, 12_345)):
            manager.append(TODAY, tape[start:stop], {DayStart(TODAY, tape["a"][0])})
        stored = 2_000 + 4_000 + 2_845
        await daemon.once()
        assert daemon.stored().equals(tape)
        assert sum(record.rows for record in trade_requests(exchange) if not locates(record)) == tape.height - stored
        assert served_twice(exchange) == []


@pytest.mark.parametrize("damage", ["half", "zeros", "zeros inside", "empty", "symbol", "schema"])
async def test_a_file_that_cannot_be_trusted_is_moved_aside_and_the_day_filled_again(
    tmp_path: Path, damage: str
) -> None:
    """Quarantined with its content, reported, downloaded again, exit 0."""
    async with exchange_at(16, {BTC: generated(8_000)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        await daemon.once()
        path = daemon.day_file()
        whole = path.read_bytes()
        match damage:
            case "half":
                path.write_bytes(whole[: len(whole) // 2])
            case "zeros":
                path.write_bytes(bytes(len(whole)))
            case "zeros inside":
                path.write_bytes(whole[:8_000] + bytes(500) + whole[8_500:])
            case "empty":
                path.write_bytes(b"")
            case "symbol":
                ether = Instrument.parse("spot:ETHUSDT")
                daemon.manager(ether).append(TODAY, daemon.stored())
                path.write_bytes(daemon.manager(ether).get_cache_path(TODAY).read_bytes())
            case _:
                pl.DataFrame({"time": [1], "price": [2.0]}).write_parquet(path)
        bad = path.read_bytes()
        again = await daemon.once()
        assert again.event("day_quarantined")["moved_to"].startswith(f"{path.name}.bad-")
        (moved,) = path.parent.glob("*.bad-*")
        assert moved.read_bytes() == bad
        assert daemon.stored().equals(daemon.tape_of_today())


@pytest.mark.time_of_day("the day of the host")
async def test_the_exchange_names_the_day_not_the_host(tmp_path: Path) -> None:
    """The host's clock is two days behind the exchange here; the files carry the exchange's day."""
    tape = Tape.generate(start_ms=at_hour(40), stop_ms=at_hour(64), trades=3_000)
    async with exchange_at(64, {BTC: tape}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        done = await daemon.once()
        day = TODAY + timedelta(days=2)
        assert done.event("host_clock_wrong")["server_day"] == day.isoformat()
        assert day in daemon.manager().days()
        assert daemon.stored(day).equals(exchange.visible(str(BTC)).filter(pl.col("T") >= at_hour(48)))


async def test_many_killed_runs_lose_little_and_end_exact(tmp_path: Path) -> None:
    """Kill -9 twenty times at random moments: every file whole in between, and few requests more than one clean run."""
    chance = random.Random(20)
    tape = generated(60_000)
    async with exchange_at(16, {BTC: tape}) as exchange:
        clean = Daemon(exchange, tmp_path / "clean")
        await clean.once()
        clean_requests = len(exchange.requests)

    async with exchange_at(16, {BTC: tape}, ExchangeOptions(latency_s=0.1)) as exchange:
        checkpoint_s = 0.3
        daemon = Daemon(exchange, tmp_path / "cache", {"CHECKPOINT_SECONDS": str(checkpoint_s)})
        stored = 0
        for _ in range(20):
            process = daemon.start("run", "--once")
            await trio.sleep(0.6 + chance.random())
            await kill(process)
            if daemon.day_file().exists():
                rows = daemon.stored().height
                assert rows >= stored
                stored = rows
        assert list(daemon.day_file().parent.glob("*.bad-*")) == []
        await daemon.once()
        assert daemon.stored().equals(daemon.tape_of_today())
        assert list(daemon.cache_dir.rglob("*.tmp-*")) == []
        per_checkpoint = 5 * (checkpoint_s / 0.1 + 2)
        assert len(exchange.requests) <= clean_requests + 20 * (per_checkpoint + 4)
