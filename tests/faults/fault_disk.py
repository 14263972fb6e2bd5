"""A disk that refuses: said once, waited for within bounded memory, and made good by itself."""

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.world import BTC, Daemon, exchange_at, generated
from tests.faults.world import (
    LIVELY,
    Injection,
    Running,
    Traced,
    assert_exact,
    assert_sound,
    injected,
    roomy,
    rows_on_disk,
    running,
    started_under,
    until,
)


def directory_of(daemon: Daemon) -> Path:
    """The instrument's directory."""
    return daemon.day_file().parent


def fsync_of_file(_: Daemon) -> Injection:
    """The data never reached the disk."""
    return Injection("fsync", "error=EIO")


def fsync_of_directory(daemon: Daemon) -> Injection:
    """The new name never reached the disk."""
    return Injection("fsync", "error=EIO", path=directory_of(daemon))


def write(_: Daemon) -> Injection:
    """No room for the data."""
    return Injection("write", "error=ENOSPC")


def rename(_: Daemon) -> Injection:
    """No room for the name."""
    return Injection("/^rename", "error=ENOSPC")


REASONS = {"error=EIO": "Input/output error", "error=ENOSPC": "No space left on device"}


@pytest.mark.parametrize("fault", [fsync_of_file, fsync_of_directory, write, rename], ids=lambda each: each.__name__)
async def test_a_running_daemon_outlives_a_failing_system_call(
    place: Path, strace: None, fault: Callable[[Daemon], Injection]
) -> None:
    """Several saves in a row fail: one event, no success claimed meanwhile, the file intact; then it recovers."""
    async with exchange_at(16, {BTC: generated(8_000, live_rate_per_s=300)}, roomy()) as exchange:
        daemon = Daemon(exchange, place / "cache", LIVELY)
        async with running(daemon) as run:
            await run.until_said("backfill_completed")
            injection = fault(daemon)
            async with injected(run, injection, only_workers=injection.calls == "write") as traced:
                await run.until_said("disk_failed")
                await until(lambda: len(_failed_saves(traced)) >= 2)
                assert fault is not fsync_of_file or any(".parquet.tmp-" in line for line in traced.injected())
                assert_sound(daemon)
                assert list(directory_of(daemon).glob("*.parquet")) == [daemon.day_file()]
            await run.until_said("disk_recovered")
            _assert_logged_once(run, REASONS[injection.fault])
            _assert_no_failed_file_was_renamed(traced)
            rows = rows_on_disk(daemon)
            await run.until_rows(rows + 100)
            run.send(signal.SIGTERM)
            assert await run.ended() == 0
        assert_exact(daemon)


def _failed_saves(traced: Traced) -> set[str]:
    """The attempts to save the day that met the fault: each has a temporary file of its own, or the directory."""
    lines = [line for line in traced.injected() if "symbol=" in line]
    return {(re.findall(r"\.tmp-[0-9a-f-]+", line) or [str(number)])[0] for number, line in enumerate(lines)}


def _assert_logged_once(run: Running, reason: str) -> None:
    """The failure and its end, and no success between them."""
    (failed,) = run.said("disk_failed")
    assert reason in failed["error"]
    assert len(run.said("disk_recovered")) == 1
    names = [event["event"] for event in run.events]
    between = names[names.index("disk_failed") : names.index("disk_recovered")]
    assert "day_saved" not in between
    assert between.count("governor_unsaved") <= 1


def _assert_no_failed_file_was_renamed(traced: Traced) -> None:
    """What could not be synced is thrown away: never synced again, and never given the final name."""
    failed = {name for line in traced.injected() if "fsync(" in line for name in re.findall(r"\.tmp-[0-9a-f-]+", line)}
    for name in failed:
        assert sum(name in line for line in traced.lines()) == 1


@pytest.mark.parametrize("fault", [fsync_of_file, fsync_of_directory, rename], ids=lambda each: each.__name__)
async def test_a_single_run_ends_with_a_sentence(
    place: Path, strace: None, fault: Callable[[Daemon], Injection]
) -> None:
    """Exit 1, one line on stderr that names the file and the reason, the old file intact, and no litter."""
    async with exchange_at(16, {BTC: generated(8_000, live_rate_per_s=300)}, roomy()) as exchange:
        daemon = Daemon(exchange, place / "cache", LIVELY)
        await daemon.once()
        before = daemon.day_file().read_bytes()
        injection = fault(daemon)
        under = started_under(injection, place / "trace")
        async with running(daemon, "--once", before=under) as run:
            assert await run.ended() == 1
            assert run.stderr.count("\n") == 1
            assert run.stderr.startswith("backfilld: cannot write ")
            assert REASONS[injection.fault] in run.stderr
            assert run.said("backfill_completed") == []
        if fault is not fsync_of_directory:
            assert daemon.day_file().read_bytes() == before
        assert_sound(daemon)
        assert list(directory_of(daemon).iterdir()) == [daemon.day_file()]
        await daemon.once()
        assert_exact(daemon)
