"""The daemon on streams that do everything a stream can do wrong: day file and followers equal the tape."""

import fcntl
import json
import signal
import stat
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import trio

from backfilld import FollowEnded, Settings, follow
from backfilld.core.model import Instrument
from backfilld.store.lock import writer_of
from binance_simulator import Cut, Exchange, ExchangeOptions, Market, Pool, StreamOptions, Tape, open_exchange
from binance_simulator.exchange import host_ms
from tests.e2e.world import BTC, START_MS, Daemon, at_hour, ended, kill, trade_requests

PROMPT = StreamOptions(delay_ms=dict.fromkeys(Market, 0))
UM = Instrument.parse("um:BTCUSDT")


def streamed(exchange: Exchange, cache_dir: Path, **settings: str) -> Daemon:
    """A daemon that is live on the exchange's streams."""
    urls = exchange.streams.urls
    live = {
        "LIVE": "true",
        "SPOT_STREAM_URL": urls[Market.SPOT],
        "UM_STREAM_URL": urls[Market.UM] + "/market",
        "CM_STREAM_URL": urls[Market.CM] + "/market",
        "CHECKPOINT_SECONDS": "1",
    }
    return Daemon(exchange, cache_dir, live | settings)


@asynccontextmanager
async def live_exchange(
    rate: float, streams: StreamOptions = PROMPT, *, rest_lag_s: float = 0.0, speed: float = 1.0, hour: float = 10.0
) -> AsyncIterator[Exchange]:
    """An exchange at that hour of today, whose clock runs ``speed`` times as fast; ``rate`` trades a (real) second."""
    began_ms, start_ms = host_ms(), at_hour(hour)

    def clock_ms() -> int:
        return start_ms + round((host_ms() - began_ms) * speed)

    tape = Tape.generate(
        start_ms=START_MS - 3_600_000, stop_ms=start_ms, trades=3000, first_id=1000, live_rate_per_s=rate / speed
    )
    options = ExchangeOptions(rest_lag_s=rest_lag_s * speed)
    async with open_exchange({str(BTC): tape}, options, clock_ms=clock_ms, streams=streams) as exchange:
        yield exchange


def settings_of(daemon: Daemon) -> Settings:
    """What a program beside the daemon has."""
    return Settings(
        cache_dir=daemon.cache_dir,
        spot_url=daemon.exchange.url,
        archive_url=daemon.exchange.url,
        spot_stream_url=daemon.settings["SPOT_STREAM_URL"],
        instruments=(str(BTC),),
        live=daemon.settings["LIVE"] == "true",
    )


async def until_served(daemon: Daemon) -> None:
    """Wait for the daemon's socket."""
    with trio.fail_after(60):
        while not (daemon.cache_dir / ".backfilld" / "live.sock").exists():
            await trio.sleep(0.05)


async def until_attached(daemon: Daemon, instrument: Instrument = BTC) -> None:
    """Wait until a follower would begin at once."""
    await until_served(daemon)
    async with aclosing(follow(instrument, settings=settings_of(daemon))) as frames:
        with trio.fail_after(90):
            await anext(frames)


@asynccontextmanager
async def live_daemon(
    directory: Path, rate: float, streams: StreamOptions = PROMPT, *, hour: float = 10.0, **settings: str
) -> "AsyncIterator[tuple[Daemon, subprocess.Popen[bytes]]]":
    """A daemon that is attached to the streams of a live exchange, and its process."""
    async with live_exchange(rate, streams, hour=hour) as exchange:
        daemon = streamed(exchange, directory / "cache", **settings)
        process = daemon.start("run")
        await until_attached(daemon)
        yield daemon, process


async def followed(daemon: Daemon, rows: int, from_id: int | None = None) -> list[int]:
    """The ids that a follower gets until there are so many."""
    ids: list[int] = []
    async with aclosing(follow(BTC, from_id=from_id, settings=settings_of(daemon))) as frames:
        with trio.fail_after(120):
            async for frame in frames:
                ids += frame["a"].to_list()
                if len(ids) >= rows:
                    break
    return ids


async def end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0


def is_contiguous(ids: list[int]) -> bool:
    return ids == list(range(ids[0], ids[0] + len(ids)))


def assert_equals_tape(daemon: Daemon, least: int) -> None:
    """The day file is the beginning of the tape's day, and has at least that many rows."""
    stored = daemon.stored()
    assert stored.height >= least
    assert stored.equals(daemon.tape_of_today().head(stored.height))


async def test_a_follower_gets_history_and_live_without_a_seam_and_the_file_equals_the_tape(tmp_path: Path) -> None:
    async with live_daemon(tmp_path, 200) as (daemon, process):
        mode = (daemon.cache_dir / ".backfilld" / "live.sock").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        first_id = int(daemon.tape_of_today()["a"][0])
        ids = await followed(daemon, 3600, first_id)
        assert ids[0] == first_id
        assert is_contiguous(ids)
        await end(process)
        assert_equals_tape(daemon, len(ids))


async def test_a_day_squeezed_in_time_with_every_fault_of_the_stream_comes_out_whole(tmp_path: Path) -> None:
    """Dropped, doubled, shuffled, garbled and cut, with a silent connection, before a REST that lies behind."""
    faults = replace(
        PROMPT,
        drop_share=0.002,
        double_share=0.002,
        shuffle_share=0.05,
        garbage_share=0.01,
        cut_every_s=4.0,
        silent_connections=frozenset({2}),
        seed=5,
    )
    async with live_exchange(2000, faults, rest_lag_s=0.4, speed=10) as exchange:
        daemon = streamed(exchange, tmp_path / "cache", LIVE_SILENCE_SECONDS="2", POLL_SECONDS="2")
        process = daemon.start("run")
        await until_served(daemon)
        before = len(trade_requests(exchange))
        ids = await followed(daemon, 40_000)
        assert is_contiguous(ids)
        assert len(trade_requests(exchange)) - before < 150
        await end(process)
        assert len({record.number for record in exchange.streams.records}) > 3
        assert_equals_tape(daemon, 30_000)


async def test_an_attached_instrument_is_not_polled(tmp_path: Path) -> None:
    async with live_daemon(tmp_path, 20, POLL_SECONDS="1") as (daemon, process):
        await trio.sleep(1)
        before = len(trade_requests(daemon.exchange))
        await trio.sleep(5)
        assert len(trade_requests(daemon.exchange)) == before
        await end(process)


async def live_side(daemon: Daemon) -> Any:
    return json.loads((await daemon.run("status", "--json")).stdout)["live"]


async def test_status_asks_the_running_daemon_how_its_live_side_stands(tmp_path: Path) -> None:
    """Its state file is written every 15 s only; a lag of that age says nothing."""
    async with live_daemon(tmp_path, 100) as (daemon, process):
        daemon.exchange.streams.cut(Cut.RESET)
        await followed(daemon, 300)
        live = await live_side(daemon)
        with trio.fail_after(30):
            while (live["attached"], live["connects"]) != (1, 2):
                live = await live_side(daemon)
        assert list(live["instruments"]) == [str(BTC)]
        assert live["holes_found"] == live["holes_healed"]  # a cut need not lose a trade
        assert 0 <= live["instruments"][str(BTC)]["lag_ms"] < 10_000
        (line,) = [each for each in (await daemon.run("status")).stdout.splitlines() if each.startswith("live: ")]
        assert line.startswith("live: 1 of 1 instruments attached, lag ")
        assert "as of" not in line
        await end(process)
        assert await live_side(daemon) is None


async def test_a_quiet_instrument_costs_the_silence_probe_and_no_more(tmp_path: Path) -> None:
    async with live_exchange(0) as exchange:
        daemon = streamed(exchange, tmp_path / "cache", POLL_SECONDS="1", LIVE_SILENCE_SECONDS="3")
        process = daemon.start("run")
        await until_served(daemon)
        await trio.sleep(8)
        before = len(trade_requests(exchange))
        await trio.sleep(6)
        assert len(trade_requests(exchange)) - before <= 2
        await end(process)


async def test_a_silent_stream_is_found_by_rest_and_left_for_the_next_address(tmp_path: Path) -> None:
    async with live_exchange(50, replace(PROMPT, silent_connections=frozenset({1}))) as exchange:
        daemon = streamed(exchange, tmp_path / "cache", LIVE_SILENCE_SECONDS="1", POLL_SECONDS="1")
        process = daemon.start("run")
        await until_served(daemon)
        assert is_contiguous(await followed(daemon, 1200))
        await end(process)
        assert len(exchange.streams.records) >= 2


@pytest.mark.parametrize("how", ["kill", "term"])
async def test_a_daemon_that_ends_is_followed_through_its_restart(tmp_path: Path, how: str) -> None:
    async with live_daemon(tmp_path, 100) as (daemon, process):
        ids: list[int] = []
        async with trio.open_nursery() as nursery:

            async def restart() -> None:
                await trio.sleep(2)
                await (kill(process) if how == "kill" else end(process))
                restarted.append(daemon.start("run"))

            restarted: list[subprocess.Popen[bytes]] = []
            nursery.start_soon(restart)
            ids = await followed(daemon, 1200)
        assert is_contiguous(ids)
        await end(restarted[0])
        assert_equals_tape(daemon, 1000)


async def test_a_follower_says_where_it_stopped_when_no_daemon_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfilld.services.following.RETURN_WAIT_S", 1.0)
    async with live_daemon(tmp_path, 100) as (daemon, process):
        got: list[pl.DataFrame] = []
        with pytest.raises(FollowEnded) as stopped, trio.fail_after(30):
            async with aclosing(follow(BTC, settings=settings_of(daemon))) as frames:
                async for frame in frames:
                    if not got:
                        await kill(process)
                    got.append(frame)
        assert stopped.value.next_id == got[-1]["a"][-1] + 1
        assert str(stopped.value.next_id) in str(stopped.value)


async def test_a_follower_of_a_frozen_daemon_says_so_and_goes_on_when_it_thaws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backfilld.adapters.live_socket.STILL_S", 1.0)
    monkeypatch.setattr("backfilld.services.following.RETURN_WAIT_S", 2.0)
    async with live_daemon(tmp_path, 100) as (daemon, process):
        process.send_signal(signal.SIGSTOP)
        try:
            assert "it stands still" in (await daemon.run("status")).stdout
            with pytest.raises(FollowEnded, match="the daemon stands still") as stopped, trio.fail_after(30):
                async with aclosing(follow(BTC, settings=settings_of(daemon))) as frames:
                    assert [frame async for frame in frames] == []
        finally:
            process.send_signal(signal.SIGCONT)
        assert stopped.value.next_id is None, "not a trade came"
        assert is_contiguous(await followed(daemon, 200))
        await end(process)


async def test_without_a_daemon_a_follower_brings_its_own_stream_and_leaves_the_cache_whole(tmp_path: Path) -> None:
    async with live_exchange(200) as exchange:
        daemon = streamed(exchange, tmp_path / "cache")
        ids = await followed(daemon, 400)
        assert is_contiguous(ids)
        assert_equals_tape(daemon, 100)
        again = daemon.start("run")
        await until_attached(daemon)
        await end(again)


async def test_a_follower_leaves_the_cache_to_a_daemon_that_starts_and_goes_on_with_it(tmp_path: Path) -> None:
    async with live_exchange(200) as exchange:
        daemon, ids, frames_of_daemon = streamed(exchange, tmp_path / "cache"), list[int](), 0
        async with aclosing(follow(BTC, settings=settings_of(daemon))) as frames:
            ids += (await anext(frames))["a"].to_list()
            process = daemon.start("run")
            with trio.fail_after(60):
                while frames_of_daemon < 3:
                    ids += (await anext(frames))["a"].to_list()
                    frames_of_daemon += writer_of(daemon.cache_dir) == process.pid
        assert is_contiguous(ids)
        await end(process)
        assert not (daemon.cache_dir / ".backfilld" / "lock.wanted").exists()


async def test_a_reload_adds_an_instrument_to_the_connection_that_stands(tmp_path: Path) -> None:
    eth = Instrument.parse("spot:ETHUSDT")
    now_ms = host_ms()
    tapes = {
        str(each): Tape.generate(
            start_ms=now_ms - 60_000, stop_ms=now_ms, trades=100, seed=seed, first_id=500, live_rate_per_s=50
        )
        for seed, each in enumerate((BTC, eth))
    }
    config = tmp_path / "config.toml"
    config.write_text('instruments = ["spot:BTCUSDT"]\n')
    async with open_exchange(tapes, streams=PROMPT) as exchange:
        daemon = streamed(exchange, tmp_path / "cache")
        process = daemon.start("run", "--config", str(config))
        await until_attached(daemon)
        config.write_text('instruments = ["spot:BTCUSDT", "spot:ETHUSDT"]\n')
        process.send_signal(signal.SIGHUP)
        with trio.fail_after(20):
            while not exchange.streams.records[0].names > {"btcusdt@aggTrade"}:
                await trio.sleep(0.05)
        config.write_text('instruments = ["spot:ETHUSDT"]\n')
        process.send_signal(signal.SIGHUP)
        with trio.fail_after(20):
            while exchange.streams.records[0].names != {"ethusdt@aggTrade"}:
                await trio.sleep(0.05)
        assert len(exchange.streams.records) == 1
        await end(process)


async def test_a_ban_during_a_hole_ends_in_a_whole_file(tmp_path: Path) -> None:
    async with live_daemon(tmp_path, 100, LIVE_PATIENCE_SECONDS="2", POLL_SECONDS="2") as (daemon, process):
        daemon.exchange.ban(Pool.SPOT, 5)
        daemon.exchange.streams.cut(Cut.RESET)
        assert is_contiguous(await followed(daemon, 900)), "nobody could ask, so nothing was given up"
        await end(process)
        assert_equals_tape(daemon, 900)


async def test_an_outage_that_takes_longer_to_heal_than_the_patience_gives_nothing_up(tmp_path: Path) -> None:
    """Twenty pages, with one request in flight, which the older days want as well."""
    began_ms, start_ms = host_ms(), at_hour(10)
    tape = Tape.generate(
        start_ms=START_MS - 86_400_000, stop_ms=start_ms, trades=300_000, first_id=1000, live_rate_per_s=2000
    )
    options = ExchangeOptions(latency_s=0.2, archive_delay_s=1e7)
    clock_ms = lambda: start_ms + host_ms() - began_ms  # noqa: E731
    async with open_exchange({str(BTC): tape}, options, clock_ms=clock_ms, streams=PROMPT) as exchange:
        daemon = streamed(exchange, tmp_path / "cache", DAYS="1", MAX_CONCURRENT="1", LIVE_PATIENCE_SECONDS="2")
        process = daemon.start("run")
        await until_attached(daemon)
        async with trio.open_nursery() as nursery:

            async def lose() -> None:
                await trio.sleep(1)
                exchange.streams.options = replace(PROMPT, drop_share=1.0)
                await trio.sleep(10)
                exchange.streams.options = PROMPT

            nursery.start_soon(lose)
            ids = await followed(daemon, 40_000)
        assert is_contiguous(ids), "a hole that is given up ends its followers"
        await end(process)
        assert set(ids) <= set(daemon.stored()["a"])


async def test_tail_prints_trades_as_json_from_an_id_on(tmp_path: Path) -> None:
    async with live_daemon(tmp_path, 200) as (daemon, process):
        first_id = int(daemon.tape_of_today()["a"][0])
        lines = await lines_of(daemon, 1200, "tail", str(BTC), "--from-id", str(first_id), "--json")
        rows = [json.loads(line) for line in lines]
        assert [row["a"] for row in rows] == list(range(first_id, first_id + len(rows)))
        assert rows[0] == daemon.tape_of_today().row(0, named=True)
        await end(process)


async def test_a_tail_that_nobody_reads_ends_when_it_is_stopped(tmp_path: Path) -> None:
    async with live_daemon(tmp_path, 200) as (daemon, process):
        first_id = int(daemon.tape_of_today()["a"][0])
        async with trio.open_nursery() as nursery:
            arguments = ("tail", str(BTC), "--from-id", str(first_id))
            tail = await nursery.start(start_captured, daemon, arguments)
            with trio.fail_after(120):
                while waiting_bytes(tail.stdout.fileno()) < 60_000:
                    await trio.sleep(0.1)
            await trio.sleep(1)
            tail.terminate()
            with trio.fail_after(10):
                assert await tail.wait() == 0
        await end(process)


def waiting_bytes(descriptor: int) -> int:
    """How much of a pipe has been written and not been read."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


async def lines_of(daemon: Daemon, count: int, *arguments: str) -> list[str]:
    """The first lines that a command prints."""
    text = b""
    async with trio.open_nursery() as nursery:
        process = await nursery.start(start_captured, daemon, arguments)
        with trio.fail_after(120):
            while text.count(b"\n") < count:
                text += await process.stdout.receive_some()
        process.terminate()
    return text.decode().splitlines()[:count]


async def start_captured(daemon: Daemon, arguments: tuple[str, ...], task_status: Any) -> None:
    await trio.run_process(
        daemon.command(*arguments),
        env=daemon.environment(),
        cwd=daemon.cache_dir.parent,
        stdout=subprocess.PIPE,
        check=False,
        task_status=task_status,
    )


async def test_a_flood_loses_nothing_and_pings_are_answered(tmp_path: Path) -> None:
    """20,000 messages a second for more than five seconds, with a ping in each second of them. Where other tests take
    the processor, the exchange may end a connection that reads too slowly, as it does in life."""
    pinged = replace(PROMPT, pings=dict.fromkeys(Market, (1.0, 60.0)))
    async with live_daemon(tmp_path, 20_000, pinged) as (daemon, process):
        ids = await followed(daemon, 100_000)
        assert is_contiguous(ids)
        await end(process)
        assert sum(each.pongs for each in daemon.exchange.streams.records) >= 2
        assert_equals_tape(daemon, 100_000)


async def test_older_days_do_not_hold_up_the_live_side(tmp_path: Path) -> None:
    """Attached within seconds, while a backfill of older days goes on for much longer."""
    began_ms = host_ms()
    start_ms = at_hour(10)
    tape = Tape.generate(
        start_ms=START_MS - 86_400_000, stop_ms=start_ms, trades=150_000, first_id=1000, live_rate_per_s=100
    )
    options = ExchangeOptions(latency_s=0.2, archive_delay_s=1e7)
    clock_ms = lambda: start_ms + host_ms() - began_ms  # noqa: E731
    async with open_exchange({str(BTC): tape}, options, clock_ms=clock_ms, streams=PROMPT) as exchange:
        daemon = streamed(exchange, tmp_path / "cache", DAYS="1", MAX_CONCURRENT="1")
        process = daemon.start("run")
        await until_attached(daemon)
        assert is_contiguous(await followed(daemon, 300))
        assert len(trade_requests(exchange)) < 140
        await end(process)


async def test_midnight_parts_the_days_and_no_follower_notices(tmp_path: Path) -> None:
    """The exchange's midnight comes ten seconds in; both days' files together are the tape."""
    async with live_daemon(tmp_path, 200, hour=24 - 10 / 3600, DAYS="1") as (daemon, process):
        ids = await followed(daemon, 4000)
        assert is_contiguous(ids)
        await end(process)
        files = sorted((daemon.cache_dir / "market=spot" / "symbol=BTCUSDT").glob("*.parquet"))
        days = [pl.read_parquet(file, hive_partitioning=False) for file in files[-2:]]
        assert [day.height > 1000 for day in days] == [True, True]
        assert days[0]["a"][-1] + 1 == days[1]["a"][0]
        assert [day["T"].is_between(at_hour(0), at_hour(24), closed="left").all() for day in days] == [True, False]
        assert (days[1]["T"] >= at_hour(24)).all()
        assert is_contiguous(pl.concat(days)["a"].to_list())
        assert ids[-1] <= days[1]["a"][-1]
