"""SIGHUP, SIGTERM and a new start in the midst of it all: the same day comes to be on disk."""

import signal
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl
import trio

from backfilld.core.day.certificate import Certificate
from binance_simulator import Exchange, Tape
from tests.e2e.world import BTC, TODAY, Daemon, at_hour, exchange_at, generated, served_twice, trade_requests
from tests.faults.world import assert_exact, roomy, running, until

HUPS = 20
LATENCY_S = 0.15
CHECKPOINT_S = 0.3
FETCHERS = 5
SETTINGS = {"CHECKPOINT_SECONDS": str(CHECKPOINT_S), "POLL_SECONDS": "0.5", "MAX_CONCURRENT": str(FETCHERS)}
LOCATING = 2
"""Rows that may come twice in a run: those that only locate the ends of the window."""
DAYS = (TODAY - timedelta(days=1), TODAY)


@dataclass(frozen=True)
class Days:
    """What came to be on disk: rows and certificates."""

    rows: pl.DataFrame
    facts: tuple[Certificate, ...]

    @classmethod
    def of(cls, daemon: Daemon) -> "Days":
        return cls(pl.concat([daemon.stored(day) for day in DAYS]), tuple(daemon.manager().facts(day) for day in DAYS))


def _two_days() -> Tape:
    return Tape.generate(start_ms=at_hour(-26), stop_ms=at_hour(3), trades=60_000, seed=8)


async def test_the_same_days_with_and_without_20_hups_and_a_restart(place: Path) -> None:
    """Equal rows and certificates; of the trades none is served twice but what planning a start takes, and what a stop
    does not wait for."""
    async with exchange_at(3, {BTC: _two_days()}, roomy(latency_s=LATENCY_S)) as exchange:
        calm = Daemon(exchange, place / "calm" / "cache", _settings_of(exchange))
        calm.cache_dir.parent.mkdir()
        await calm.once()
        assert len(served_twice(exchange)) <= LOCATING

    async with exchange_at(3, {BTC: _two_days()}, roomy(latency_s=LATENCY_S)) as exchange:
        busy = Daemon(exchange, place / "busy" / "cache", _settings_of(exchange))
        busy.cache_dir.parent.mkdir()
        await _hupped(busy, HUPS // 2, complete=False)
        missing = 60_000 - _served(busy)
        assert missing > 10_000, "the stop came in the midst"
        await _hupped(busy, HUPS // 2, complete=True)
        assert len(served_twice(exchange)) <= 2 * LOCATING + FETCHERS

    assert Days.of(busy).rows.equals(Days.of(calm).rows)
    assert Days.of(busy).facts == Days.of(calm).facts
    assert [each.sealed for each in Days.of(busy).facts] == [True, False]


def _settings_of(exchange: Exchange) -> dict[str, str]:
    """Yesterday too; at three o'clock the archive does not have it yet."""
    return SETTINGS | {"DAYS": "1", "ARCHIVE_URL": exchange.url}


def _served(daemon: Daemon) -> int:
    return sum(record.rows for record in trade_requests(daemon.exchange))


async def _hupped(daemon: Daemon, hups: int, *, complete: bool) -> None:
    """Run, with so many SIGHUPs on the way, to the end or to a SIGTERM in the midst; the process stays the same."""
    asked = len(daemon.exchange.requests)
    async with running(daemon) as run:
        await until(lambda: len(daemon.exchange.requests) > asked)
        for number in range(1, hups + 1):
            run.send(signal.SIGHUP)
            await run.until_said("settings_reloaded", number)
        if complete:
            await run.until_said("backfill_completed")
        run.send(signal.SIGTERM)
        assert await run.ended() == 0
        assert run.said("files_changed") == []
        assert run.said("pipeline_crashed") == []


async def test_hup_in_the_first_backfill_and_five_at_once(place: Path) -> None:
    """The same process goes on, and what it fetches it fetches once."""
    async with exchange_at(16, {BTC: generated(60_000)}, roomy(latency_s=LATENCY_S)) as exchange:
        daemon = Daemon(exchange, place / "cache", SETTINGS)
        async with running(daemon) as run:
            await until(lambda: len(exchange.requests) >= 1)
            run.send(signal.SIGHUP)
            await run.until_rows(3_000)
            for _ in range(5):
                run.send(signal.SIGHUP)
            await run.until_said("backfill_completed")
            reloads = len(run.said("settings_reloaded"))
            assert 2 <= reloads <= 6
            for _ in range(5):
                run.send(signal.SIGHUP)
            await run.until_said("settings_reloaded", reloads + 1)
            assert run.process.poll() is None
            run.send(signal.SIGTERM)
            assert await run.ended() == 0
        assert daemon.stored().equals(daemon.tape_of_today())
        assert_exact(daemon)
        assert len(served_twice(exchange)) <= LOCATING


async def test_hup_before_the_daemon_listens_and_while_it_stops(place: Path) -> None:
    """In a shutdown it is ignored aloud, and what was fetched is saved."""
    async with exchange_at(16, {BTC: generated(60_000)}, roomy(latency_s=0.5)) as exchange:
        daemon = Daemon(exchange, place / "cache", SETTINGS | {"CHECKPOINT_SECONDS": "60"})
        async with running(daemon) as run:
            await until(lambda: len(trade_requests(exchange)) >= 8)
            run.send(signal.SIGTERM)
            await run.until_said("stop_requested")
            for _ in range(5):
                run.send(signal.SIGHUP)
                await trio.sleep(0.02)
            assert await run.ended() == 0
            assert run.said("reload_ignored")
            assert run.said("settings_reloaded") == []
        assert daemon.stored().height >= 3_000
        assert_exact_as_far_as_it_goes(daemon)
        await daemon.once()
        assert_exact(daemon)
        assert len(served_twice(exchange)) <= 2 * LOCATING + FETCHERS


def assert_exact_as_far_as_it_goes(daemon: Daemon) -> None:
    stored, tape = daemon.stored(), daemon.tape_of_today()
    assert stored.equals(tape.filter(pl.col("a").is_in(stored["a"].implode())))
