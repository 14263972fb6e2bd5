"""One writer per cache directory. Owns the lock file; the kernel drops the lock with its holder, however it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backfilld.errors import CacheLocked
from backfilld.store.atomic import translated
from backfilld.store.layout import STATE_DIRECTORY

_LOOKS = 20
"""At the lock file, a twentieth of a second apart, for the name of its holder."""


@contextmanager
def locked(cache_dir: Path) -> Iterator[None]:
    """Hold the cache directory. Raises CacheLocked naming the holder, StoreError if the directory cannot be used."""
    path = cache_dir / STATE_DIRECTORY / "lock"
    with translated(cache_dir, "use the cache directory"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _holder(descriptor) or "unknown"
            raise CacheLocked(f"the cache {cache_dir} is held by another backfilld, process {holder}") from error
        with translated(path, "write"):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Who holds it: the number in the file, once that is of a process that lives. One that has only just begun to hold
    it may not have written its own yet."""
    for _ in range(_LOOKS):
        holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
        if holder and Path("/proc", holder).exists():
            return holder
        time.sleep(0.05)
    return holder
