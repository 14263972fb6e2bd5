"""A cache directory that fills, freezes, vanishes or is closed: waited for in bounded memory, and made
good by itself."""

import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.e2e.world import BTC, Daemon, exchange_at, generated, trade_requests
from tests.faults.world import (
    LIVELY,
    Mount,
    Running,
    assert_exact,
    assert_sound,
    fill,
    roomy,
    rows_on_disk,
    running,
)


async def test_a_disk_of_5_mb_that_fills_and_is_emptied(place: Path, mount: Mount) -> None:
    """In the middle of a download of 400,000 trades: the requests stop, memory does not grow, and with room again the
    day comes to be exact."""
    disk = mount(place / "disk", "5m")
    async with exchange_at(16, {BTC: generated(400_000)}, roomy(latency_s=0.05)) as exchange:
        daemon = Daemon(exchange, disk / "cache", LIVELY)
        async with running(daemon, place=place) as run:
            await run.until_rows(20_000)
            fill(disk / "ballast")
            await run.until_said("disk_failed")
            await _until_no_more_requests(daemon)
            rss_bytes, asked = run.rss_bytes(), len(exchange.requests)
            stored = assert_sound(daemon)
            await trio.sleep(2)
            assert len(exchange.requests) == asked
            assert run.rss_bytes() - rss_bytes < 20 * 2**20
            assert rows_on_disk(daemon) == stored
            (disk / "ballast").unlink()
            await run.until_said("disk_recovered")
            await run.until_said("backfill_completed", timeout_s=60)
            assert_logged_once(run, "No space left on device")
            run.send(signal.SIGTERM)
            assert await run.ended() == 0
        assert daemon.stored().equals(daemon.tape_of_today())
        served = sum(record.rows for record in trade_requests(exchange))
        assert served <= daemon.stored().height + 5, "what was downloaded before the disk filled was kept"


async def _until_no_more_requests(daemon: Daemon) -> None:
    async def is_quiet() -> bool:
        asked = len(daemon.exchange.requests)
        await trio.sleep(0.5)
        return len(daemon.exchange.requests) == asked

    with trio.fail_after(20):
        while not await is_quiet():
            pass


def assert_logged_once(run: Running, reason: str) -> None:
    """The failure once, with its reason, and its end once."""
    (failed,) = run.said("disk_failed")
    assert reason in failed["error"]
    assert len(run.said("disk_recovered")) == 1
    assert len(run.said("governor_unsaved")) <= 1


async def test_a_single_run_on_a_disk_of_5_mb_that_is_full(place: Path, mount: Mount) -> None:
    """Exit 1 with a sentence, the old file as it was, and what there was room for thrown away."""
    disk = mount(place / "disk", "5m")
    async with exchange_at(16, {BTC: generated(100_000)}, roomy(latency_s=0.05)) as exchange:
        daemon = Daemon(exchange, disk / "cache", LIVELY)
        async with running(daemon, "--once", place=place) as run:
            await run.until_rows(5_000)
            fill(disk / "ballast")
            assert await run.ended() == 1
            assert run.stderr.count("\n") == 1
            assert "No space left on device" in run.stderr
            assert run.said("backfill_completed") == []
        assert assert_sound(daemon) >= 5_000
        assert list(daemon.day_file().parent.iterdir()) == [daemon.day_file()]


@asynccontextmanager
async def _lively(place: Path, *, before: Sequence[str] = ()) -> AsyncIterator[Running]:
    """A daemon that is complete and saves new trades three times a second; at the end it goes on, and is exact."""
    async with exchange_at(16, {BTC: generated(8_000, live_rate_per_s=300)}, roomy()) as exchange:
        daemon = Daemon(exchange, place / "cache", LIVELY)
        async with running(daemon, before=before) as run:
            await run.until_said("backfill_completed")
            yield run
            await run.until_rows(daemon.tape_of_today().height)
            run.send(signal.SIGTERM)
            assert await run.ended() == 0
        assert_exact(daemon)


async def _outlived(run: Running, mend: Callable[[], object]) -> None:
    """It says that the disk fails, tries a few times, is mended, and says that too."""
    await run.until_said("disk_failed")
    await trio.sleep(2.5)
    mend()
    await run.until_said("disk_recovered")


async def test_a_file_system_that_becomes_read_only(place: Path, mount: Mount) -> None:
    """As a kernel does that meets errors; the lock and the governor's memory are on another one here, because a file
    that is open for writing keeps mount from doing it."""
    frozen = mount(place / "cache" / "market=spot", "5m")
    async with _lively(place) as run:
        subprocess.run(["mount", "-o", "remount,ro", str(frozen)], check=True)
        await _outlived(run, lambda: subprocess.run(["mount", "-o", "remount,rw", str(frozen)], check=True))
        assert_logged_once(run, "Read-only file system")


async def test_permission_lost(place: Path, powerless: list[str]) -> None:
    """The instrument's directory can be neither read nor written."""
    async with _lively(place, before=powerless) as run:
        directory = run.daemon.day_file().parent
        directory.chmod(0)
        await _outlived(run, lambda: directory.chmod(0o755))
        assert_logged_once(run, "Permission denied")


async def test_permission_lost_on_all_of_the_cache(place: Path, powerless: list[str]) -> None:
    """Also where the governor's memory is."""
    async with _lively(place, before=powerless) as run:
        run.daemon.cache_dir.chmod(0)
        await _outlived(run, lambda: run.daemon.cache_dir.chmod(0o755))
        assert_logged_once(run, "Permission denied")


@pytest.mark.parametrize("what", ["symbol=BTCUSDT", "market=spot", "all"])
async def test_a_directory_removed_under_us(place: Path, what: str) -> None:
    """The day is there again, all of it, without a restart."""
    async with _lively(place) as run:
        _remove(run.daemon, what)
        await run.until_said("day_lost_trades")
        await run.until_rows(run.daemon.tape_of_today().height)
        assert len(run.said("day_lost_trades")) == 1
        assert run.said("pipeline_crashed") == []


@pytest.mark.parametrize("what", ["symbol=BTCUSDT", "all"])
async def test_a_directory_removed_in_the_first_backfill(place: Path, what: str) -> None:
    """Half of the day was saved, and is fetched again."""
    async with exchange_at(16, {BTC: generated(60_000)}, roomy(latency_s=0.1)) as exchange:
        daemon = Daemon(exchange, place / "cache", LIVELY)
        async with running(daemon) as run:
            await run.until_rows(20_000)
            _remove(daemon, what)
            await run.until_rows(daemon.tape_of_today().height)
            run.send(signal.SIGTERM)
            assert await run.ended() == 0
            assert run.said("pipeline_crashed") == []
        assert_exact(daemon)


def _remove(daemon: Daemon, what: str) -> None:
    path = {"all": daemon.cache_dir, "market=spot": daemon.cache_dir / what}.get(what, daemon.day_file().parent)
    # At once, whatever is being written there.
    gone = path.rename(daemon.cache_dir.parent / "gone")
    shutil.rmtree(gone)
