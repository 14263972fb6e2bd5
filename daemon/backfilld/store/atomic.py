"""Replacing files so that a crash at any moment leaves the old file or the new one, whole.

    DO      write a temporary file beside the target, fsync it, rename it over the target, fsync the directory
    DON'T   write under the final name; rename what is not synced; go on after a failed fsync as if nothing had happened

Owns temporary names and how file system errors become StoreError.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from backfilld.errors import StoreError

TEMPORARY = ".tmp-"
"""Stands in the name of every temporary file, after the name of the file that it is to become."""

_TEMPORARY_NAME = re.compile(
    r".+\.(parquet|conflicts|json|zip|journal|known)" + re.escape(TEMPORARY) + r"(\d+)-[0-9a-f]{8}"
)

_in_hand: set[Path] = set()
"""The temporary files that this process is writing now."""


@contextmanager
def translated(path: Path, deed: str) -> Iterator[None]:
    """Turn an OSError of the file system into a StoreError that says what failed, where and why."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {deed} {path}: {_reason(error)}") from error


@contextmanager
def refusals() -> Iterator[None]:
    """The same for work on many files: the error names its own."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"the disk refuses {error.filename or 'a file'}: {_reason(error)}") from error


def is_there(path: Path) -> bool:
    """Whether anything has this name. Raises StoreError where the disk does not say: what cannot be seen is not
    missing."""
    with translated(path, "look at"):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True


def write_all(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of it at that place of a file; the disk may take a part at a time. Raises OSError."""
    left = memoryview(content)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written


def read_all(descriptor: int, count: int, offset: int) -> bytes:
    """So many bytes at that place of a file, or those that it has; a disk may give a part at a time. Raises OSError."""
    found = os.pread(descriptor, count, offset)
    while len(found) < count and (more := os.pread(descriptor, count - len(found), offset + len(found))):
        found += more
    return found


def _reason(error: OSError) -> str:
    """The kernel's words; Arrow wraps them: ``Error writing bytes to file. Detail: [errno 28] No space ...``."""
    return re.split(r"\[errno \d+\] ", error.strerror or str(error))[-1]


@contextmanager
def replacing(
    path: Path, *, synced: bool = True, by: Path | None = None, keeping: Path | None = None
) -> Iterator[Path]:
    """Yield a temporary path to fill; at the end of the block that file takes the place of ``path``. What need not
    outlive a loss of power is not ``synced``: readers see the old file or the new one all the same.

    ``by`` names a temporary file that is there already. What is replaced stays under the name ``keeping``, if the file
    system can link it.

    Raises StoreError. When the block, the disk or the rename fails, ``path`` is as before and the temporary file gone.
    """
    temporary = by or path.parent / temporary_name(path)
    with translated(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        _in_hand.add(temporary)
        try:
            yield temporary
            if synced:
                _sync(temporary, os.O_RDWR)
            if keeping is not None:
                with suppress(OSError):
                    os.link(path, keeping, follow_symlinks=False)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        finally:
            _in_hand.remove(temporary)
        if synced:
            sync_directory(path.parent)


def temporary_name(path: Path) -> str:
    """A name that no other file has, for one that is to become ``path``."""
    return f"{path.name}{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}"


def sweep_temporary_files(directory: Path) -> list[Path]:
    """Delete what a crash left of files being written, in and below ``directory``; return what was deleted.

    Only the holder of the cache may do this: the temporary files of another running writer look the same. Those of this
    process are left alone.
    """
    places = (f".backfilld/**/*{TEMPORARY}*", f"market=*/symbol=*/backfill_*{TEMPORARY}*", f"backfill_*{TEMPORARY}*")
    return _deleted(path for path in _ours(directory, places) if path not in _in_hand)


def sweep_state_directory(directory: Path) -> list[Path]:
    """Delete what processes that have ended left of state files being written; return what was deleted. Commands that
    need no lock write beside a daemon: what a living process writes is left alone."""
    return _deleted(path for path in _ours(directory, (f"*{TEMPORARY}*", f"*/*{TEMPORARY}*")) if not _is_written(path))


def _ours(directory: Path, places: Iterable[str]) -> Iterator[Path]:
    """The temporary files that only this program makes: by their full name, and only where it makes them."""
    found = (path for place in places for path in directory.glob(place))
    return (path for path in found if _TEMPORARY_NAME.fullmatch(path.name) and path.is_file())


def _is_written(path: Path) -> bool:
    named = _TEMPORARY_NAME.fullmatch(path.name)
    return named is not None and Path("/proc", named[2]).exists()


def _deleted(found: Iterable[Path]) -> list[Path]:
    stale = sorted(found)
    for path in stale:
        with translated(path, "delete"):
            path.unlink(missing_ok=True)
    return stale


def move_aside(path: Path, moment: datetime | None = None) -> Path:
    """Rename a file that cannot be trusted to ``<name>.bad-<utc time>``, never over another one; return the new
    path."""
    moment = moment or datetime.now(UTC)
    stem = f"{path.name}.bad-{moment:%Y%m%dT%H%M%SZ}"
    names = (path.with_name(stem if n == 0 else f"{stem}-{n}") for n in range(1000))
    target = next(name for name in names if not is_there(name))
    with translated(path, "move aside"):
        path.rename(target)
        sync_directory(path.parent)
    return target


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or deleted in a directory outlive a loss of power."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
