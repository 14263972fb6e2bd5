"""One writer per cache directory, and one owner of each state directory. Owns the lock files; the kernel drops a lock
with its process, however it ends.

Both locks are needed where STATE_DIR lies elsewhere. The one in the state directory keeps the governor's memory to one
daemon per machine. The one in the cache keeps out a daemon of another machine, or with another STATE_DIR.

A lock file is opened without following links, readable by its owner alone: who can open it can lock it.

A program that follows trades where no daemon runs has the locks too. It lets go of them when a daemon wants to start:
the daemon writes its process into ``lock.wanted`` beside the lock, and waits.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal

from backfilld.errors import CacheLocked, StoreError
from backfilld.store.atomic import translated, write_all
from backfilld.store.layout import STATE_DIRECTORY
from backfilld.store.regular_file import open_regular

Role = Literal["command", "follower", "daemon"]
"""Who takes the locks: a follower lets go of them for a daemon, and for nobody else."""
FOLLOWER: Role = "follower"

_LOOKS, _LOOK_S = 20, 0.05
"""At the lock file, for the process that has it."""

_YIELD_S = 20.0
"""Seconds that a daemon waits for a follower, which saves its trades first."""


class CacheLock:
    """The locks of a cache directory and of the state directory beside it, taken. Use :func:`locked`."""

    def __init__(self, locks: Sequence["_Lock"]) -> None:
        self._locks = locks

    def hold(self) -> None:
        """Take a lock again if somebody removed or replaced its directory. Raises CacheLocked if another process has it
        by now, and StoreError."""
        for each in self._locks:
            each.hold()

    def is_still_ours(self) -> bool:
        """Whether no directory was removed or replaced: another process can lock a new one. Raises StoreError."""
        return all(each.is_still_ours() for each in self._locks)

    def is_wanted(self) -> bool:
        """Whether a daemon waits for one of the locks."""
        return any(each.is_wanted() for each in self._locks)


class _Lock:
    """The lock in a directory, taken. It protects ``owner``; ``held`` and ``used`` are its names in messages."""

    def __init__(self, directory: Path, owner: Path, held: str, used: str, role: Role) -> None:
        self._owner = owner
        self._role = role
        self._held = f"the {held} {owner}"
        self._used = f"use the {used}"
        self._path = directory / "lock"
        self._wish = directory / "lock.wanted"
        self._descriptor = self._taken()

    def is_still_ours(self) -> bool:
        """Whether the file at the lock's path is the one that is locked. Raises StoreError where the disk does not say:
        a process cannot lock again what it has locked."""
        with translated(self._path, "look at"):
            try:
                found = self._path.stat(follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return False
            ours = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def hold(self) -> None:
        """Take it again if it is not ours any more."""
        if self.is_still_ours():
            return
        again = self._taken()
        os.close(self._descriptor)
        self._descriptor = again

    def is_wanted(self) -> bool:
        """Whether a daemon that lives waits for this lock."""
        try:
            descriptor = open_regular(self._wish)
            with closing(os.fdopen(descriptor, "rb")):
                process = "".join(_words_of(descriptor))
        except OSError:  # there is none, or it is a link or a pipe
            return False
        return process.isdecimal() and Path("/proc", process).exists()

    def close(self) -> None:
        """Let go."""
        os.close(self._descriptor)

    def _taken(self) -> int:
        with translated(self._owner, self._used):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(self._path)
        try:
            with translated(self._path, "lock"):
                self._take(descriptor)
                role = f"{FOLLOWER}\n" if self._role == FOLLOWER else ""
                _write(descriptor, self._path, f"{os.getpid()}\n{role}")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _take(self, descriptor: int) -> None:
        if not (_is_taken(descriptor) or self._is_yielded(descriptor)):
            process = _process_of(descriptor) or "unknown"
            raise CacheLocked(f"{self._held} is held by another backfilld, process {process}")

    def _is_yielded(self, descriptor: int) -> bool:
        """For a daemon: ask the follower that has the lock to let go, and wait for it."""
        if self._role != "daemon" or _words_of(descriptor)[1:] != [FOLLOWER]:
            return False
        wish = _opened(self._wish)
        try:
            _write(wish, self._wish, f"{os.getpid()}\n")
            until_s = time.monotonic() + _YIELD_S
            while not (is_ours := _is_taken(descriptor)) and time.monotonic() < until_s:
                time.sleep(_LOOK_S)
            return is_ours
        finally:
            os.close(wish)
            self._wish.unlink(missing_ok=True)


def _write(descriptor: int, path: Path, text: str) -> None:
    with translated(path, "write"):
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        write_all(descriptor, text.encode(), 0)


def _is_taken(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(cache_dir: Path, state_dir: Path | None = None, role: Role = "command") -> Iterator[CacheLock]:
    """Lock the cache directory, and the state directory if it is another one than the cache's own. Raises CacheLocked
    naming the process that has it, StoreError if a directory cannot be used."""
    own = cache_dir / STATE_DIRECTORY
    with ExitStack() as stack:

        def take(directory: Path, owner: Path, held: str, used: str) -> _Lock:
            return stack.enter_context(closing(_Lock(directory, owner, held, used, role)))

        taken = []
        if state_dir is not None and not _is_same(state_dir, own):
            taken.append(take(state_dir, state_dir, "state directory", "state directory"))
        taken.append(take(own, cache_dir, "cache", "cache directory"))
        yield CacheLock(taken)


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one directory, also by links: a process cannot lock a file twice."""
    return os.path.realpath(one) == os.path.realpath(other)


def _opened(path: Path) -> int:
    """A descriptor of the lock file. Raises StoreError for a link, also a hard one, and for what is not a file: its
    content would be overwritten."""
    with translated(path, "open"):
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
        found = os.fstat(descriptor)
    if found.st_nlink > 1:
        os.close(descriptor)
        raise StoreError(f"cannot open {path}: it is not a file of its own, but a link")
    return descriptor


def writer_of(cache_dir: Path) -> int | None:
    """The process that has the lock, None if nobody has it. Looks at the kernel's list of locks, and takes none."""
    try:
        descriptor = open_regular(cache_dir / STATE_DIRECTORY / "lock")
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
        process = "".join(_words_of(descriptor)[:1])
        if process.isdecimal() and Path("/proc", process).exists():
            return process
        time.sleep(_LOOK_S)
    return process if process.isdecimal() else ""


def _words_of(descriptor: int) -> list[str]:
    """The process that has or had the lock, and its role if that is to follow."""
    return os.pread(descriptor, 64, 0).decode(errors="replace").split()
