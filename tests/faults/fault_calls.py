"""One system call that fails, whichever it is: nothing stored is lost, nothing is complete that is not, and the next
run is exact."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.world import BTC, TODAY, Daemon, exchange_at, generated
from tests.effort import effort
from tests.faults.world import Injection, Traced, assert_exact, no_quarantine, roomy, running, started_under

NAMES = "openat newfstatat fstat statx read pread64 lseek write pwrite64 ftruncate fsync fdatasync flock fchmod rename"
CALLS = f"/^({NAMES.replace(' ', '|')}|link|unlink|mkdir)$"
MOST = effort(quick=8, thorough=60)
"""Points that are tried of a file."""


def day_file(daemon: Daemon) -> Path:
    """The day, which is read and replaced."""
    return daemon.day_file()


def directory(daemon: Daemon) -> Path:
    """The instrument's directory, which is listed and synced."""
    return daemon.day_file().parent


def lock(daemon: Daemon) -> Path:
    """The lock of the cache."""
    return daemon.cache_dir / ".backfilld" / "lock"


def governor(daemon: Daemon) -> Path:
    """What the governor remembers."""
    return daemon.cache_dir / ".backfilld" / "governor.json"


def shown(daemon: Daemon) -> Path:
    """What the exchange has shown."""
    return daemon.cache_dir / ".backfilld" / "shown" / "market=spot" / "symbol=BTCUSDT.json"


def journal(daemon: Daemon) -> Path:
    """The journal of the day, which a single run writes and removes."""
    return daemon.manager().journal_path(TODAY)


@pytest.mark.parametrize("what", [day_file, directory, lock, governor, shown, journal])
async def test_a_single_run_with_one_call_that_fails(place: Path, strace: None, what: Callable[[Daemon], Path]) -> None:
    """Call by call, until a run makes no more of them."""
    settings = {"SAVE_SECONDS": "300"}
    tape = generated(6_000)
    async with exchange_at(8, {BTC: tape}, roomy()) as exchange:
        await Daemon(exchange, place / "before", settings).once()
    async with exchange_at(16, {BTC: tape}, roomy()) as exchange:
        daemon = Daemon(exchange, place / "cache", settings)
        stored = set(Daemon(exchange, place / "before").stored()["a"])
        for number in range(1, MOST + 1):
            shutil.copytree(place / "before", daemon.cache_dir)
            trace = place / f"trace-{number}"
            injection = Injection(CALLS, "error=EIO", str(number), what(daemon))
            async with running(daemon, "--once", before=started_under(injection, trace)) as run:
                code = await run.ended()
                met = Traced(trace, run.process).injected()
                assert code in {0, 1}, (met, run.stderr)
                assert run.stderr.count("\n") == code, (met, run.stderr)
            if not met:
                break
            if code == 0:
                assert daemon.stored().equals(daemon.tape_of_today()), met
            assert set(daemon.stored()["a"]) >= stored, met
            await daemon.once()
            assert_exact(daemon)
            assert daemon.stored().equals(daemon.tape_of_today()), met
            assert no_quarantine(daemon)
            shutil.rmtree(daemon.cache_dir)
        assert number > 1, "none was met"
