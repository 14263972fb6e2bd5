"""Kill -9 at any moment and in each system call of the writer: what stands is whole, and the next run completes it."""

import random
import signal
from pathlib import Path

import pytest
import trio

from binance_simulator import Exchange
from tests.e2e.world import BTC, Daemon, allowed_requests, exchange_at, generated
from tests.effort import effort
from tests.faults.world import (
    Injection,
    Running,
    assert_exact,
    assert_sound,
    injected,
    is_locked,
    kind_of,
    roomy,
    running,
    started_under,
    until,
)

KILLS = effort(quick=24, thorough=50)
AT_ONCE = 2
TRADES = 60_000
LATENCY_S = 0.04
CHECKPOINT_S = 0.1
FETCHERS = 5
REQUESTS_BEFORE_A_KILL = 50


def kept_requests() -> float:
    """How many requests a kill may cost: what was fetched since the last checkpoint but one, what is in flight (spare
    fetchers too), and the four of a start."""
    return FETCHERS * (2 * CHECKPOINT_S / LATENCY_S) + 2 * FETCHERS + 4


async def test_kills_at_random_moments(place: Path) -> None:
    """Download, merge, write and rename go on all the time: every kill leaves whole files, and the requests of all runs
    together are those of one, and a handful a kill."""
    chances = [random.Random(seed) for seed in range(AT_ONCE)]
    grown: list[bool] = []
    async with trio.open_nursery() as nursery:
        for number, chance in enumerate(chances):
            nursery.start_soon(_killed_often, place / f"lane-{number}", chance, KILLS // AT_ONCE, grown)
    assert len(grown) == KILLS
    assert sum(grown) > KILLS / 4, f"{sum(grown)} kills met a file that had grown"


async def _killed_often(place: Path, chance: random.Random, kills: int, grown: list[bool]) -> None:
    place.mkdir()
    tape = generated(TRADES, seed=chance.randrange(1000))
    async with exchange_at(16, {BTC: tape}, roomy(latency_s=LATENCY_S)) as exchange:
        settings = {"CHECKPOINT_SECONDS": str(CHECKPOINT_S), "MAX_CONCURRENT": str(FETCHERS)}
        daemon = Daemon(exchange, place / "cache", settings)
        stored = 0
        for _ in range(kills):
            if stored == daemon.tape_of_today().height:
                daemon.day_file().unlink()
                stored = 0
                exchange.requests.clear()
            await _killed_once(daemon, chance)
            rows = assert_sound(daemon)
            assert rows >= stored, "a kill took away what had been saved"
            grown.append(rows > stored)
            stored = rows
        await daemon.once()
        assert_exact(daemon)
        assert list(daemon.cache_dir.rglob("*.tmp-*")) == []
        _assert_requests_bounded(exchange, daemon, kills)


async def _killed_once(daemon: Daemon, chance: random.Random) -> None:
    asked = len(daemon.exchange.requests)
    async with running(daemon, "--once") as run:
        # So many requests after the first, so that a slow machine gets as far, and no kill is spent on the imports.
        far = asked + 1 + chance.randrange(REQUESTS_BEFORE_A_KILL)
        await until(lambda: len(daemon.exchange.requests) >= far or run.process.poll() is not None, every_s=0.005)
        await trio.sleep(chance.random() * CHECKPOINT_S)
        await run.kill()


def _assert_requests_bounded(exchange: Exchange, daemon: Daemon, kills: int) -> None:
    clean = allowed_requests(daemon.tape_of_today().height)
    assert len(exchange.requests) <= clean + kills * kept_requests()


CALLS = {
    "openat": ("openat", range(1, 15)),
    "write": ("write", (1, 5, 9, 20, 45, 60, 80, 100)),
    "fsync": ("fsync", range(1, 13)),
    "rename": ("/^rename", range(1, 9)),
}
"""What strace calls them, and in which of a thread's calls to kill, in turn, until all of MUST_MEET have been met."""
MUST_MEET = {
    "openat": {"openat of temporary"},
    "write": {"write of temporary"},
    "fsync": {"fsync of temporary", "fsync of directory"},
    "rename": {"rename of temporary"},
}
LEAST_KILLS = 3


@pytest.mark.parametrize("name", CALLS)
async def test_killed_in_a_system_call_of_the_writer(place: Path, strace: None, name: str) -> None:
    """The n-th such call of a thread is its last: before the temporary file is there, in its midst, before it is
    synced, before it is renamed, before the directory is synced."""
    calls, numbers = CALLS[name]
    met: set[str] = set()
    async with exchange_at(16, {BTC: generated(TRADES)}, roomy(latency_s=LATENCY_S)) as exchange:
        daemon = Daemon(exchange, place / "cache", {"CHECKPOINT_SECONDS": str(CHECKPOINT_S)})
        stored = kills = 0
        while kills < LEAST_KILLS or not met >= MUST_MEET[name]:
            assert kills < len(numbers), f"only met {met}"
            number = numbers[kills]
            kills += 1
            if stored == daemon.tape_of_today().height:
                daemon.day_file().unlink()
                stored = 0
                exchange.requests.clear()
            met.add(await _killed_in(daemon, Injection(calls, "signal=SIGKILL", str(number))))
            rows = assert_sound(daemon)
            assert rows >= stored
            stored = rows
        await daemon.once()
        assert_exact(daemon)
        assert list(daemon.cache_dir.rglob("*.tmp-*")) == []
        _assert_requests_bounded(exchange, daemon, kills)


async def _killed_in(daemon: Daemon, injection: Injection) -> str:
    """Run until killed in a call; return which."""
    asked = len(daemon.exchange.requests)
    async with running(daemon) as run:
        await until(lambda: len(daemon.exchange.requests) > asked + 2)
        async with injected(run, injection) as traced:
            await run.ended()
        assert run.process.returncode == -signal.SIGKILL
        return _rid_of_rename_suffix(kind_of(traced.fatal()))


def _rid_of_rename_suffix(kind: str) -> str:
    return kind.replace("renameat2 ", "rename ").replace("renameat ", "rename ")


async def test_a_torn_temporary_file_of_a_dead_process_is_swept(place: Path) -> None:
    """Of a day and of the governor's memory; it is said, and nothing of it is believed."""
    async with exchange_at(16, {BTC: generated(5_000)}) as exchange:
        daemon = Daemon(exchange, place / "cache")
        await daemon.once()
        whole = daemon.day_file().read_bytes()
        dead = await trio.run_process(["sh", "-c", "echo $$"], capture_stdout=True)
        torn = daemon.day_file().with_name(f"{daemon.day_file().name}.tmp-{int(dead.stdout)}-0badf00d")
        torn.write_bytes(whole[: len(whole) // 2])
        state = daemon.cache_dir / ".backfilld" / f"governor.json.tmp-{int(dead.stdout)}-0badf00d"
        state.write_bytes(b'{"spot": {"sav')
        again = await daemon.once()
        assert not torn.exists()
        assert not state.exists()
        assert {each["file"] for each in again.events if each["event"] == "temporary_file_swept"} == {
            str(torn),
            str(state),
        }
        assert_exact(daemon)


async def test_a_holder_that_has_not_said_its_name_yet_is_named(place: Path, strace: None) -> None:
    """Between taking the lock and writing down who has it, the file names nobody, or a dead holder of before."""
    async with exchange_at(16, {BTC: generated(2_000)}) as exchange:
        daemon = Daemon(exchange, place / "cache")
        late = started_under(Injection("pwrite64", "delay_enter=700000", "1"), place / "trace")
        async with running(daemon, before=late) as first:
            lock = daemon.cache_dir / ".backfilld" / "lock"
            await until(lambda: lock.exists() and is_locked(lock))
            second = await daemon.run("run", "--once")
            assert second.code == 75
            assert f"process {first.pid}" in second.stderr


async def test_two_instances_started_at_the_same_instant(place: Path) -> None:
    """Six times: one wins; the other ends with 75 and names it. A killed holder leaves no lock behind."""
    async with exchange_at(16, {BTC: generated(2_000)}, roomy()) as exchange:
        daemon = Daemon(exchange, place / "cache")
        for _ in range(6):
            async with running(daemon) as one, running(daemon) as other:
                await until(lambda pair=(one, other): _ended_of(*pair))  # type: ignore[misc]
                (loser,) = _ended_of(one, other)
                winner = other if loser is one else one
                assert loser.process.returncode == 75
                assert f"is held by another backfilld, process {winner.pid}" in loser.stderr
                await winner.until_said("cache_opened")
                await winner.kill()
        await daemon.once()
        assert_exact(daemon)


def _ended_of(*runs: Running) -> list[Running]:
    return [run for run in runs if run.process.poll() is not None]
