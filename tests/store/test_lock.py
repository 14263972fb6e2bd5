"""One writer per cache directory, across processes, and no lock that outlives its holder."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backfilld import CacheLocked, StoreError
from backfilld.adapters.parquet_store import ParquetStore
from backfilld.core.day.addition import Addition
from backfilld.store.format.dayfile import Encoding
from backfilld.store.lock import locked, writer_of
from tests.store.frames import DAY, SPOT, day_frame

HOLDER = """
import sys
from pathlib import Path
from backfilld.store.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

FOLLOWER = """
import sys, time
from pathlib import Path
from backfilld.store.lock import locked
with locked(Path(sys.argv[1]), role="follower") as lock:
    print("held", flush=True)
    while not lock.is_wanted():
        time.sleep(0.02)
"""


@contextmanager
def other_holder(cache_dir: Path, code: str = HOLDER) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the cache until its stdin is closed."""
    command = [sys.executable, "-c", code, str(cache_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


def test_a_second_process_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    with other_holder(tmp_path) as holder:
        with pytest.raises(CacheLocked, match=rf"{tmp_path} is held by another backfilld, process {holder.pid}$"):
            locked(tmp_path).__enter__()
        holder.communicate(timeout=30)
        with locked(tmp_path):
            pass


def test_a_follower_lets_go_for_a_daemon_and_for_nobody_else(tmp_path: Path) -> None:
    with other_holder(tmp_path, FOLLOWER) as follower:
        for role in ("command", "follower"):
            with pytest.raises(CacheLocked, match=rf"process {follower.pid}$"):
                locked(tmp_path, role=role).__enter__()
        with locked(tmp_path, role="daemon"):
            assert writer_of(tmp_path) == os.getpid()
        assert not (tmp_path / ".backfilld" / "lock.wanted").exists()


def test_the_wish_of_a_daemon_that_died_is_none(tmp_path: Path) -> None:
    with locked(tmp_path, role="follower") as lock:
        wish = tmp_path / ".backfilld" / "lock.wanted"
        for text, is_wanted in ((f"{os.getpid()}\n", True), ("4194305\n", False), ("", False), ("../tmp", False)):
            wish.write_text(text)
            assert lock.is_wanted() == is_wanted


def test_the_lock_dies_with_a_killed_holder(tmp_path: Path) -> None:
    """SIGKILL leaves the lock file, not the lock."""
    with other_holder(tmp_path) as holder:
        holder.kill()
        holder.wait(timeout=30)
        with locked(tmp_path):
            assert (tmp_path / ".backfilld" / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_let_go_at_the_end_also_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), locked(tmp_path):
        raise ValueError("mine")
    with locked(tmp_path), pytest.raises(CacheLocked, match=f"process {os.getpid()}$"):
        locked(tmp_path).__enter__()


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    """Else a forked helper that outlives the daemon would keep the cache."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with locked(tmp_path):
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        with locked(tmp_path):
            pass
    finally:
        child.communicate(timeout=30)


def test_two_caches_are_two_locks(tmp_path: Path) -> None:
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        pass


def test_a_directory_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot use the cache directory .*: Not a directory"):
        locked(tmp_path / "file" / "cache").__enter__()


def test_a_holder_that_has_not_written_its_name_yet_is_waited_for(tmp_path: Path) -> None:
    """The file names nobody yet, or a holder of before who is dead."""
    with other_holder(tmp_path) as holder:
        path = tmp_path / ".backfilld" / "lock"
        path.write_text("4194999\n")
        late = threading.Timer(0.2, path.write_text, [f"{holder.pid}\n"])
        late.start()
        with pytest.raises(CacheLocked, match=rf"process {holder.pid}$"), locked(tmp_path):
            pass
        late.join()


def lock_path(cache_dir: Path) -> Path:
    """The lock file of a cache."""
    return cache_dir / ".backfilld" / "lock"


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_nothing_is_written_through_a_link(tmp_path: Path, kind: str) -> None:
    """Whoever may write in the directory could otherwise have any file of ours truncated."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = lock_path(tmp_path)
    path.parent.mkdir()
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "hard link":
        path.hardlink_to(victim)
    else:
        os.mkfifo(path)
    with pytest.raises(StoreError, match="cannot open"):
        locked(tmp_path).__enter__()
    assert victim.read_text() == "precious"


def test_only_its_owner_can_open_the_lock(tmp_path: Path) -> None:
    """Also one that an older version made: whoever can read it can lock it, and keep the daemon out."""
    path = lock_path(tmp_path)
    path.parent.mkdir()
    path.touch(0o644)
    with locked(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_removed_directory_is_noticed_and_locked_again(tmp_path: Path) -> None:
    """Nobody else has come: the work goes on, and others are refused as before."""
    with locked(tmp_path / "cache") as lock:
        assert lock.is_still_ours()
        (tmp_path / "cache").rename(tmp_path / "away")
        assert not lock.is_still_ours()
        lock.hold()
        assert lock.is_still_ours()
        with pytest.raises(CacheLocked):
            locked(tmp_path / "cache").__enter__()


def test_a_directory_that_another_process_took_meanwhile_is_let_go(tmp_path: Path) -> None:
    """The lock of the directory that was there before is worth nothing."""
    with locked(tmp_path / "cache") as lock:
        (tmp_path / "cache").rename(tmp_path / "away")
        with other_holder(tmp_path / "cache") as holder:
            for _ in range(2):
                with pytest.raises(CacheLocked, match=f"process {holder.pid}$"):
                    lock.hold()


async def test_nothing_is_saved_beside_another_writer(tmp_path: Path) -> None:
    """Neither in a file nor in a journal."""
    with locked(tmp_path / "cache") as lock:
        store = ParquetStore(tmp_path / "cache", Encoding(), hold_lock=lock.hold)
        await store.save(Addition(SPOT, DAY, day_frame(range(1000, 1100))))
        (tmp_path / "cache").rename(tmp_path / "away")
        with other_holder(tmp_path / "cache"):
            for save in (store.save, store.append):
                with pytest.raises(CacheLocked):
                    await save(Addition(SPOT, DAY, day_frame(range(1100, 1200))))
            assert await store.days(SPOT) == []


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(tmp_path: Path) -> None:
    lock_path(tmp_path).parent.mkdir()
    os.mkfifo(lock_path(tmp_path))
    assert writer_of(tmp_path) is None
    with pytest.raises(StoreError, match="it is not a regular file"):
        locked(tmp_path).__enter__()


def test_a_directory_that_is_a_link_to_itself_is_refused_in_a_sentence(tmp_path: Path) -> None:
    own = lock_path(tmp_path).parent
    own.symlink_to(own)
    with pytest.raises(StoreError, match="cannot use the"):
        locked(tmp_path, own).__enter__()


def test_the_process_that_writes_is_named_while_it_does(tmp_path: Path) -> None:
    """Without taking the lock: a daemon that starts at that moment is not disturbed."""
    assert writer_of(tmp_path) is None
    with locked(tmp_path):
        assert writer_of(tmp_path) == os.getpid()
    assert writer_of(tmp_path) is None


def test_two_caches_with_one_state_directory_exclude_each_other(tmp_path: Path) -> None:
    """A machine has one governor: two of them would each spend the whole budget, and overwrite each other's memory."""
    state = tmp_path / "state"
    with locked(tmp_path / "a", state):
        assert (state / "lock").exists()
        with pytest.raises(CacheLocked, match=rf"the state directory {state} is held by another backfilld, process"):
            locked(tmp_path / "b", state).__enter__()
    # Nothing stays locked of an attempt that failed half way.
    with locked(tmp_path / "b"), pytest.raises(CacheLocked, match="the cache"):
        locked(tmp_path / "b", state).__enter__()
    with locked(tmp_path / "a", state):
        pass


def test_two_state_directories_do_not_let_two_writers_into_one_cache(tmp_path: Path) -> None:
    """As of two machines that share a cache: each has a state directory of its own."""
    with locked(tmp_path / "cache", tmp_path / "a"), pytest.raises(CacheLocked, match="the cache"):
        locked(tmp_path / "cache", tmp_path / "b").__enter__()


def test_the_state_directory_of_the_cache_itself_is_locked_once(tmp_path: Path) -> None:
    """Also where a link leads there."""
    own = tmp_path / "cache" / ".backfilld"
    own.mkdir(parents=True)
    (tmp_path / "link").symlink_to(own)
    for state in (own, tmp_path / "link"):
        with locked(tmp_path / "cache", state):
            assert list(own.iterdir()) == [own / "lock"]


def test_a_state_directory_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with locked(tmp_path / "cache", state) as lock:
        state.rename(tmp_path / "away")
        assert not lock.is_still_ours()
        lock.hold()
        assert lock.is_still_ours()


def test_a_state_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=rf"cannot use the state directory {tmp_path}/file/state: Not a directory"):
        locked(tmp_path / "cache", tmp_path / "file/state").__enter__()
