"""kill -9 in the system calls of a push: bucket and cache stay whole, and the next push brings the rest. Run by
``make test-s3``; needs strace. ``make test-s3-long`` kills in every call."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import trio

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.replication import day_key
from backfilld.services.remote import push_days
from backfilld.store.atomic import sweep_temporary_files
from tests.fakes import BTC
from tests.faults.conftest import strace
from tests.remote.days import days, seal

KILLS = [
    ("connect", 1), ("writev", 1), ("writev", 3), ("recvfrom", 4), ("write", 3), ("fsync", 1), ("/^rename", 1),
]  # fmt: skip
"""A system call, and the n-th of a thread that is its last: before the first request, between requests and within them,
in the answers, and while the notes are written."""
DAYS = 4
AT_ONCE = 3
KILLED = (-9, 137)

SWEPT = ["connect", "sendto", "writev", "recvfrom", "write", "fsync", "/^rename", "/^unlink", "openat"]
"""Of each of them every n-th is tried, until a push ends by itself. Of ``openat`` only those of day files."""
MOST_OF_A_KIND = 200

__all__ = ["strace"]


async def test_killed_in_chosen_system_calls_of_a_push(tmp_path: Path, location: RemoteLocation, strace: None) -> None:
    trial = Trial(tmp_path, location)
    waiting = list(KILLS)
    met: list[tuple[str, int]] = []

    async def lane() -> None:
        while waiting:
            kill = waiting.pop()
            if await trial.killed(*kill):
                met.append(kill)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(lane)
    assert {call for call, _ in met} == {call for call, _ in KILLS}, met
    assert len(met) >= len(KILLS) - 1, met


@pytest.mark.skipif("S3_SWEEP" not in os.environ, reason="make test-s3-long kills in every system call")
async def test_killed_in_every_system_call_of_a_push(tmp_path: Path, location: RemoteLocation, strace: None) -> None:
    trial = Trial(tmp_path, location)
    waiting = list(SWEPT)
    kills: dict[str, int] = {}

    async def lane() -> None:
        while waiting:
            call = waiting.pop(0)
            kills[call] = 0
            while await trial.killed(call, kills[call] + 1):
                kills[call] += 1
                assert kills[call] < MOST_OF_A_KIND, call

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(lane)
    print(f"kills by system call: {kills}")  # noqa: T201 - the figures of a long trial
    # A push deletes nothing.
    assert {call for call in SWEPT if not kills[call]} <= {"/^unlink"}, kills


class Trial:
    """A cache with sealed days, of which each push has a state and a folder in the bucket of its own."""

    def __init__(self, directory: Path, location: RemoteLocation) -> None:
        self._directory = directory
        self._location = location
        self._cache = directory / "cache"
        for day in days(DAYS):
            seal(self._cache, day, rows=2000)
        self._files = self._now()

    def _now(self) -> dict[str, bytes]:
        return {day_key(BTC, day): path_of(self._cache, day).read_bytes() for day in days(DAYS)}

    async def killed(self, call: str, nth: int) -> bool:
        """Whether a push died in the n-th such call of a thread; bucket and cache are whole then, and the next push
        brings the rest."""
        name = f"{call.strip('/^')}-{nth}"
        own = replace(self._location, url=f"{self._location.url}/{name}")
        state = self._directory / name
        state.mkdir()
        (state / "market=spot").symlink_to(self._cache / "market=spot")
        paths = [f"-P{path_of(state, day)}" for day in days(DAYS)] if call == "openat" else []
        rule = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}", *paths]
        code = await push(state, own, ["strace", "-f", "-qq", "-o", os.devnull, *rule])
        assert code in (0, *KILLED), (call, nth, code)
        # Whatever is there is whole, and the cache is as it was.
        assert (await stored(own)).items() <= self._files.items()
        assert self._now() == self._files
        bucket = CachedDaysInBucket(open_object_store(own), own.url, state, state / ".backfilld")
        found = await push_days(bucket, [BTC], 4)
        assert (found.conflicted, found.left) == ([], []), (call, nth, found)
        assert await stored(own) == self._files
        sweep_temporary_files(state)  # as the next daemon does when it starts
        assert [each for each in state.rglob("*.tmp-*") if each.is_file()] == []
        return code != 0


def path_of(cache: Path, day: date) -> Path:
    return cache / day_key(BTC, day)


async def push(cache: Path, location: RemoteLocation, before: list[str] | None = None) -> int:
    mine = {
        "BACKFILL_CACHE_DIR": str(cache),
        "BACKFILL_REMOTE_URL": location.url,
        "BACKFILL_REMOTE_ENDPOINT": location.endpoint or "",
        "BACKFILL_REMOTE_REGION": location.region or "",
    }
    command = [*(before or []), sys.executable, "-m", "backfilld", "push", "--instrument", str(BTC)]
    null = subprocess.DEVNULL
    with trio.fail_after(60):
        done = await trio.run_process(command, env=os.environ | mine, check=False, stdout=null, stderr=null)
    return done.returncode


async def stored(location: RemoteLocation) -> dict[str, bytes]:
    store = open_object_store(location)
    found = [await store.get(each.key, limit_bytes=1 << 20) for each in await store.objects("market=spot")]
    return {each.object.key: each.body for each in found if each is not None}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BACKFILL_")]:
        monkeypatch.delenv(name)
