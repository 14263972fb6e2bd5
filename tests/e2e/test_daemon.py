"""The daemon as a process: topping up, ending, refusing, and meeting a disk or an exchange that will not."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import trio

from backfilld.core.model import IdRange
from binance_simulator import BanRule, ExchangeOptions, Fault, FaultPlan, Interval, Pool, Tape, TenantOptions
from tests.e2e.world import (
    BTC,
    TODAY,
    Daemon,
    at_hour,
    ended,
    exchange_at,
    generated,
    kill,
    locates,
    trade_requests,
    until_stored,
)


async def test_a_running_daemon_tops_up_and_ends_with_0_on_sigterm(tmp_path: Path) -> None:
    """Without --once it keeps asking; SIGTERM loses nothing and is no failure."""
    async with exchange_at(16, {BTC: generated(3_000, live_rate_per_s=100)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"POLL_SECONDS": "0.3"})
        process = daemon.start("run")
        await until_stored(daemon, 1)
        first = daemon.stored().height
        await until_stored(daemon, first + 100)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        stored = daemon.stored()
        assert stored.equals(daemon.tape_of_today().head(stored.height))


@pytest.mark.time_of_day("midnight")
async def test_it_turns_the_day_at_midnight_utc(tmp_path: Path) -> None:
    """The trades of the new day go to a new file; the old day is chained to it and sealed."""
    tape = generated(4_000, hours=24 - 9 / 3600, live_rate_per_s=50)
    async with exchange_at(24 - 8 / 3600, {BTC: tape}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"POLL_SECONDS": "0.2"})
        process = daemon.start("run")
        tomorrow = TODAY.fromordinal(TODAY.toordinal() + 1)
        with trio.fail_after(60):
            while not (daemon.day_file(tomorrow).exists() and daemon.day_file(TODAY).exists()):
                await trio.sleep(0.1)
            while not daemon.manager().facts(TODAY).sealed:
                await trio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        both = pl.concat([daemon.stored(TODAY), daemon.stored(tomorrow)])
        assert both.equals(daemon.tape_of_today().head(both.height))


async def test_sigterm_in_mid_download_keeps_all_that_was_fetched(tmp_path: Path) -> None:
    """The drain: what the exchange has served is on disk, but for the request in each fetcher's hand."""
    async with exchange_at(16, {BTC: generated(60_000)}, ExchangeOptions(latency_s=0.1)) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        process = daemon.start("run")
        with trio.fail_after(30):
            while len(exchange.requests) < 25:
                await trio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        served = sum(record.rows for record in trade_requests(exchange) if not locates(record))
        assert daemon.stored().height == served


async def test_two_instances_on_one_cache(tmp_path: Path) -> None:
    """The second ends with 75 and says who holds it; a lock dies with its holder."""
    async with exchange_at(16, {BTC: generated(2_000)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        first = daemon.start("run")
        await until_stored(daemon, daemon.tape_of_today().height)
        second = await daemon.run("run", "--once")
        assert second.code == 75
        assert f"process {first.pid}" in second.stderr
        await kill(first)
        await daemon.once()


@pytest.mark.parametrize("fetchers", ["1", "5"])
async def test_a_low_limit_is_used_and_never_passed(tmp_path: Path, fetchers: str) -> None:
    """80 weight in 2 s, another tenant beside us: no 429, and every trade."""
    options = ExchangeOptions(
        limits={Pool.SPOT: 80}, interval=Interval.parse("2S"), tenant=TenantOptions(weight_per_s=4.0)
    )
    async with exchange_at(16, {BTC: generated(40_000)}, options) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"MAX_CONCURRENT": fetchers})
        await daemon.once()
        assert daemon.stored().equals(daemon.tape_of_today())
        assert {record.status for record in exchange.requests} == {200}


async def test_a_ban_in_the_middle_is_sat_out(tmp_path: Path) -> None:
    """Nothing is sent while it lasts, and the day is exact afterwards."""
    options = ExchangeOptions(latency_s=0.02, bans=BanRule(first_s=2.0))
    async with exchange_at(16, {BTC: generated(30_000)}, options) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        process = daemon.start("run", "--once")
        with trio.fail_after(30):
            while len(exchange.requests) < 10:
                await trio.sleep(0.01)
        exchange.ban(Pool.SPOT, 2.0)
        assert await ended(process) == 0
        refused = [record.arrived_ms for record in exchange.requests if record.status == 418]
        after = [record.arrived_ms for record in exchange.requests if record.arrived_ms > refused[-1]]
        assert len(refused) <= 5
        assert after[0] - refused[-1] >= 1_500
        assert daemon.stored().equals(daemon.tape_of_today())


LIES = [
    Fault.STATUS_500,
    Fault.STATUS_502_HTML,
    Fault.CUT_BODY,
    Fault.GARBAGE_BODY,
    Fault.RESET,
    Fault.SHUFFLED,
    Fault.DOUBLED_ROW,
    Fault.LATER_RANGE,
    Fault.HOLE,
    Fault.MISSING_FIELD,
    Fault.NULL_FIELD,
    Fault.BEYOND_INT64,
    Fault.NAN_PRICE,
    Fault.OBJECT_BODY,
    Fault.STATUS_200_HTML,
]


async def test_a_lying_exchange_never_makes_a_wrong_day(tmp_path: Path) -> None:
    """One answer in ten is spoiled, in every way there is: the day is exact in the end."""
    options = ExchangeOptions(faults=FaultPlan(share=0.1, kinds=tuple(LIES), seed=5))
    async with exchange_at(16, {BTC: generated(60_000)}, options) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        await daemon.once()
        assert daemon.stored().equals(daemon.tape_of_today())


async def test_a_page_that_is_always_holed_ends_incomplete_with_the_hole_named(tmp_path: Path) -> None:
    """An id that the exchange does not have: everything else is fetched, the hole reported, exit 1."""
    whole = generated(5_000).frame
    tape = Tape.from_frame(whole.filter(pl.col("a") != whole["a"][3_000]))
    async with exchange_at(16, {BTC: tape}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        done = await daemon.run("run", "--once")
        assert done.code == 1
        absent = whole["a"][3_000]
        assert f"ids {absent} to {absent} are missing" in done.stderr
        assert daemon.stored().equals(daemon.tape_of_today())
        assert daemon.manager().facts(TODAY).holes == (IdRange(absent, absent),)


async def test_stdout_in_a_pipe_is_json_lines_and_nothing_else(tmp_path: Path) -> None:
    """Also where it fails: the sentence goes to stderr."""
    async with exchange_at(16, {BTC: generated(2_000)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"INSTRUMENTS": "spot:NOSUCH"})
        done = await daemon.run("run", "--once")
        assert done.code == 78
        assert all({"event", "level", "timestamp"} <= set(event) for event in done.events)
        reason = "the exchange lists no such symbol (-1121 NOSUCH is not listed)"
        assert done.stderr == f"backfilld: spot:NOSUCH: {reason}\n"


async def test_a_daemon_refuses_a_misspelt_symbol_among_good_ones(tmp_path: Path) -> None:
    """At once, with the nearest name; no other instrument is said to be in want of anything."""
    async with exchange_at(16, {BTC: generated(2_000)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"INSTRUMENTS": "spot:BTCUSDT, spot:BTCUSDTT"})
        done = await daemon.run("run")
        assert done.code == 78
        reason = "the exchange lists no such symbol (-1121 BTCUSDTT is not listed. Did you mean BTCUSDT?)"
        assert done.stderr == f"backfilld: spot:BTCUSDTT: {reason}\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path: Path, small_disk: Path) -> None:
    """One sentence, exit 1, no temporary file, the file of before intact; with room again the next run completes."""
    async with exchange_at(16, {BTC: generated(60_000, live_rate_per_s=50)}) as exchange:
        daemon = Daemon(exchange, small_disk / "cache", {"CHECKPOINT_SECONDS": "60"})
        (small_disk / "ballast").write_bytes(bytes(20_000))
        await daemon.once()
        stored = daemon.stored()
        used = sum(path.stat().st_size for path in small_disk.rglob("*") if path.is_file())
        (small_disk / "ballast").write_bytes(bytes(max(20_000, 600_000 - used - 10_000)))
        full = await daemon.run("run", "--once")
        assert full.code == 1
        assert "No space left on device" in full.stderr
        assert full.stderr.count("\n") == 1
        assert daemon.stored().equals(stored)
        assert list(small_disk.rglob("*.tmp-*")) == []
        (small_disk / "ballast").unlink()
        await daemon.once()
        grown = daemon.stored()
        assert grown.equals(daemon.tape_of_today().head(grown.height))


async def test_history_before_the_start_of_the_tape(tmp_path: Path) -> None:
    """A symbol that was listed today: the first id it ever had is the first of the day."""
    tape = Tape.generate(start_ms=at_hour(2), stop_ms=at_hour(16), trades=2_500, first_id=0)
    async with exchange_at(16, {BTC: tape}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        await daemon.once()
        assert daemon.stored().equals(daemon.tape_of_today())
        assert daemon.manager().facts(TODAY).opened
