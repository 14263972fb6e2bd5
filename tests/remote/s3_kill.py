"""kill -9 in the system calls of a push: bucket and cache stay whole, and the next push brings the rest. Run by
``make test-s3``; needs strace."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import trio

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.core.replication import day_key
from backfilld.store.atomic import sweep_temporary_files
from tests.fakes import BTC
from tests.faults.conftest import strace
from tests.remote.days import days, seal

KILLS = [
    ("connect", 1), ("writev", 1), ("writev", 2), ("writev", 3), ("writev", 5), ("recvfrom", 2), ("recvfrom", 6),
    ("sendto", 3), ("write", 3), ("fsync", 1), ("/^rename", 1), ("fsync", 2),
]  # fmt: skip
"""A system call, and the n-th of a thread that is its last: before the first request, between requests and within them,
in the answers, and while the notes are written."""
DAYS = 4
AT_ONCE = 3

__all__ = ["strace"]


async def test_killed_in_each_system_call_of_a_push(tmp_path: Path, location: RemoteLocation, strace: None) -> None:
    cache = tmp_path / "cache"
    for day in days(DAYS):
        seal(cache, day, rows=2000)
    files = {day_key(BTC, day): path_of(cache, day).read_bytes() for day in days(DAYS)}
    met: list[tuple[str, int]] = []
    waiting = list(enumerate(KILLS))

    async def lane() -> None:
        while waiting:
            number, (call, nth) = waiting.pop()
            own = replace(location, url=f"{location.url}/{number}")
            state = tmp_path / f"lane-{number}"
            state.mkdir()
            (state / "market=spot").symlink_to(cache / "market=spot")
            rule = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}"]
            before = ["strace", "-f", "-qq", "-o", os.devnull, *rule]
            killed = await push(state, own, before)
            if killed != 0:
                met.append((call, nth))
            # Whatever is there is whole, and the cache is as it was.
            assert (await stored(own)).items() <= files.items()
            assert {day_key(BTC, day): path_of(cache, day).read_bytes() for day in days(DAYS)} == files
            assert await push(state, own) == 0
            assert await stored(own) == files
            sweep_temporary_files(state)  # as the next daemon does when it starts
            assert [each for each in state.rglob("*.tmp-*") if each.is_file()] == []

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(lane)
    assert {call for call, _ in met} == {call for call, _ in KILLS}, met
    assert len(met) >= len(KILLS) - 2, met


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
