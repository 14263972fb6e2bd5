"""SIGTERM in every state: the process is gone within its grace, and says what it could not save."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from binance_simulator import Exchange, ExchangeOptions, Fault, FaultPlan, Pool
from tests.e2e.world import BTC, Daemon, exchange_at, generated, trade_requests
from tests.faults.world import (
    Injection,
    Mount,
    Running,
    Traced,
    assert_sound,
    fill,
    injected,
    roomy,
    rows_on_disk,
    running,
    until,
)

GRACE_S = 3.0
MARGIN_S = 1.0
SETTINGS = {"GRACE_SECONDS": str(GRACE_S), "POLL_SECONDS": "0.3", "CHECKPOINT_SECONDS": "60"}


@asynccontextmanager
async def _downloading(
    place: Path, options: ExchangeOptions | None = None, *, cache: Path | None = None
) -> AsyncIterator[Running]:
    """A daemon with some pages in hand, of which none is on disk yet, and many to come."""
    async with exchange_at(16, {BTC: generated(100_000)}, options or roomy(latency_s=0.2)) as exchange:
        daemon = Daemon(exchange, (cache or place) / "cache", SETTINGS)
        async with running(daemon, place=place) as run:
            await until(lambda: len(trade_requests(exchange)) >= 12)
            yield run


async def _terminated(run: Running, *, expected: int, traced: Traced | None = None) -> None:
    """It ends in time, with that exit code."""
    run.send(signal.SIGTERM)
    within_s = GRACE_S + MARGIN_S
    assert await (traced.over(run, within_s) if traced else run.ended(within_s)) == expected
    assert (run.stderr == "") == (expected == 0)
    assert run.said("pipeline_crashed") == []
    assert_sound(run.daemon)


def _all_served_is_on_disk(run: Running) -> bool:
    """Every page that the exchange has sent, bar the rows that only locate the day's ends."""
    served = [
        record for record in trade_requests(run.daemon.exchange) if record.status == 200 and "fromId" in record.query
    ]
    tape = run.daemon.tape_of_today()["a"]
    ids = {each for record in served for each in range(record.first_id or 0, (record.last_id or 0) + 1)}
    return ids & set(tape) <= set(run.daemon.stored()["a"])


async def test_idle(place: Path) -> None:
    async with exchange_at(16, {BTC: generated(3_000)}) as exchange:
        daemon = Daemon(exchange, place / "cache", SETTINGS | {"POLL_SECONDS": "30"})
        async with running(daemon) as run:
            await run.until_said("backfill_completed")
            with trio.fail_after(1):
                await _terminated(run, expected=0)
        assert daemon.stored().equals(daemon.tape_of_today())


async def test_in_mid_download_from_a_slow_exchange(place: Path) -> None:
    """What was asked for before the signal is waited for, and saved."""
    async with _downloading(place, roomy(latency_s=0.8)) as run:
        await _terminated(run, expected=0)
        assert _all_served_is_on_disk(run)


async def test_in_mid_download_from_an_exchange_slower_than_the_grace(place: Path) -> None:
    """Half of the grace is waited for answers; the other half is for saving what there is."""
    async with _downloading(place) as run:
        exchange = run.daemon.exchange
        exchange.options = replace(exchange.options, latency_s=30.0)
        await trio.sleep(0.5)
        answered = sum(record.rows for record in list(trade_requests(exchange))[:10])
        await _terminated(run, expected=0)
        assert rows_on_disk(run.daemon) >= answered - 2_000


async def test_before_the_exchange_has_said_a_word(place: Path) -> None:
    """All requests meet silence from the first one on."""
    endpoints = frozenset({"aggTrades", "exchangeInfo", "time", "ping"})
    silent = roomy(faults=FaultPlan(share=1.0, kinds=(Fault.SILENCE,), endpoints=endpoints))
    async with exchange_at(16, {BTC: generated(3_000)}, silent) as exchange:
        daemon = Daemon(exchange, place / "cache", SETTINGS)
        async with running(daemon) as run:
            await until(lambda: len(exchange.requests) >= 1)
            await _terminated(run, expected=0)


async def test_when_the_exchange_has_fallen_silent(place: Path) -> None:
    async with _downloading(place) as run:
        exchange = run.daemon.exchange
        exchange.options = replace(exchange.options, faults=FaultPlan(share=1.0, kinds=(Fault.SILENCE,)))
        await until(lambda: sum(record.fault is not None for record in exchange.requests) >= 5)
        await _terminated(run, expected=0)
        assert rows_on_disk(run.daemon) >= 5_000


async def test_paused_by_a_429(place: Path) -> None:
    """The window has a minute to go; nobody waits for it."""
    async with _downloading(place) as run:
        exchange = run.daemon.exchange
        exchange.options = replace(exchange.options, limits={Pool.SPOT: 10})
        await _until_refused(exchange, 429)
        await _terminated(run, expected=0)
        assert _all_served_is_on_disk(run)


async def test_banned(place: Path) -> None:
    async with _downloading(place) as run:
        run.daemon.exchange.ban(Pool.SPOT, 120.0)
        await _until_refused(run.daemon.exchange, 418)
        await _terminated(run, expected=0)
        assert _all_served_is_on_disk(run)


async def _until_refused(exchange: Exchange, status: int) -> None:
    await until(lambda: any(record.status == status for record in exchange.requests))
    await trio.sleep(0.3)


async def test_while_an_fsync_hangs(place: Path, strace: None) -> None:
    """For longer than the grace, in every thread: what could not be saved is said, with exit 1."""
    async with _downloading(place) as run, injected(run, Injection("fsync", "delay_enter=30000000")) as traced:
        await _terminated(run, expected=1, traced=traced)
        assert "in time" in run.stderr
        assert run.said("trades_unsaved")[0]["trades"] >= 5_000
        assert any("symbol=" in line for line in traced.lines())
        assert not run.daemon.day_file().exists()


async def test_while_an_fsync_hangs_and_nothing_is_in_hand(place: Path, strace: None) -> None:
    """Only what the governor remembers waits for the disk: no trade is lost."""
    async with exchange_at(16, {BTC: generated(3_000)}) as exchange:
        daemon = Daemon(exchange, place / "cache", SETTINGS)
        async with running(daemon) as run:
            await run.until_said("backfill_completed")
            async with injected(run, Injection("fsync", "delay_enter=30000000")) as traced:
                exchange.ban(Pool.SPOT, 120.0)  # an idle daemon syncs nothing
                await until(traced.lines)
                await _terminated(run, expected=0, traced=traced)
        assert daemon.stored().equals(daemon.tape_of_today())


async def test_while_the_disk_is_full(place: Path, mount: Mount) -> None:
    """The last try comes to nothing: said, with exit 1 and the number of trades."""
    disk = mount(place / "disk", "5m")
    async with _downloading(place, cache=disk) as run:
        fill(disk / "ballast")
        await _terminated(run, expected=1)
        assert "No space left on device" in run.stderr
        (lost,) = run.said("trades_unsaved")
        assert lost["trades"] >= 5_000
        assert not run.daemon.day_file().exists()
