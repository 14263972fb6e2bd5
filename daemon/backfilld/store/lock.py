"""One writer per cache directory. Owns the lock file; the kernel drops the lock with its process, however it ends.

The file is opened without following links, readable by its owner alone: who can open it can lock it.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backfilld.errors import CacheLocked, StoreError
from backfilld.store.atomic import translated
from backfilld.store.layout import STATE_DIRECTORY

_LOOKS = 20
"""At the lock file, a twentieth of a second apart, for the process that has it."""


class CacheLock:
    """The lock of a cache directory, taken. Use :func:`locked`."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._path = cache_dir / STATE_DIRECTORY / "lock"
        self._descriptor = self._taken()

    def is_still_ours(self) -> bool:
        """Whether the file at the lock's path is the one that is locked: another process can lock a new one."""
        try:
            found = self._path.stat(follow_symlinks=False)
        except OSError:
            return False
        ours = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def insist(self) -> None:
        """Take the lock again if somebody removed or replaced the directory. Raises CacheLocked if another process has
        it by now, and StoreError."""
        if self.is_still_ours():
            return
        again = self._taken()
        os.close(self._descriptor)
        self._descriptor = again

    def close(self) -> None:
        """Let go."""
        os.close(self._descriptor)

    def _taken(self) -> int:
        with translated(self._cache_dir, "use the cache directory"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(self._path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                name = _process_of(descriptor) or "unknown"
                raise CacheLocked(
                    f"the cache {self._cache_dir} is held by another backfilld, process {name}"
                ) from error
            with translated(self._path, "write"):
                os.fchmod(descriptor, 0o600)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


@contextmanager
def locked(cache_dir: Path) -> Iterator[CacheLock]:
    """Lock the cache directory. Raises CacheLocked naming the process that has it, StoreError if the directory cannot
    be used."""
    lock = CacheLock(cache_dir)
    try:
        yield lock
    finally:
        lock.close()


def _opened(path: Path) -> int:
    """A descriptor of the lock file. Raises StoreError for a link, also a hard one, and for what is not a file: its
    content would be overwritten."""
    with translated(path, "open"):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise StoreError(f"cannot open {path}: it is not a file of its own, but a link or a device")
    return descriptor


def writer_of(cache_dir: Path) -> int | None:
    """The process that has the lock, None if nobody has it. Looks at the kernel's list of locks, and takes none."""
    try:
        descriptor = os.open(cache_dir / STATE_DIRECTORY / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        inode = os.fstat(descriptor).st_ino
        held = any(line.split()[1] == "FLOCK" and line.split()[5].endswith(f":{inode}") for line in _kernel_locks())
        process = _process_of(descriptor) if held else ""
    finally:
        os.close(descriptor)
    return int(process) if process else None


def _kernel_locks() -> list[str]:
    """The lines of proc_locks(5) but for those of waiting processes."""
    try:
        return [line for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
    except OSError:
        return []


def _process_of(descriptor: int) -> str:
    """Which process has the lock: the number in the file, once that is of a process that lives. One that has just taken
    it may not have written its own yet."""
    for _ in range(_LOOKS):
        process = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
        if process.isdecimal() and Path("/proc", process).exists():
            return process
        time.sleep(0.05)
    return process if process.isdecimal() else ""
