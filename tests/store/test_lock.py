"""One writer per cache directory, across processes, and no lock that outlives its holder."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backfilld import CacheLocked, StoreError
from backfilld.store.lock import locked

HOLDER = """
import sys
from pathlib import Path
from backfilld.store.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_holder(cache_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the cache until its stdin is closed."""
    command = [sys.executable, "-c", HOLDER, str(cache_dir)]
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
