"""Small JSON files of the state directory: read without following links and within a bound, written 0600.

What they say may have been written by anybody: a reader checks every value.
"""

import errno
import os
import stat
from pathlib import Path

from backfilld.errors import StoreError
from backfilld.store.atomic import replacing, translated

MOST_BYTES = 1 << 20
"""The largest state file that is read; ours have a few kB."""

UNUSABLE = (ValueError, RecursionError)
"""What is raised for a state file that this program has not written, by reading or by decoding it."""

UNREAD = (StoreError, *UNUSABLE)
"""The same, or the disk refuses it. Whoever must not forget what is in the file tells the two apart."""

_NOT_REGULAR = {errno.ELOOP, errno.ENXIO}
"""Of a link, and of a socket."""


def read_state(path: Path, most_bytes: int = MOST_BYTES) -> bytes | None:
    """The content; None if there is no such file. Raises ValueError for a link, a pipe, a device and a file that is too
    large, and StoreError if the disk refuses."""
    with translated(path, "read"):
        descriptor = _opened(path)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file:
            body = file.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise ValueError(f"{path} is larger than {most_bytes:,} bytes")
    return body


def _opened(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            raise ValueError(f"{path} is not a file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is not a file")
    return descriptor


def write_state(path: Path, body: bytes, *, synced: bool = True) -> None:
    """Replace the file; nobody but its owner may read it. Raises StoreError. ``synced`` as in :func:`replacing`."""
    with replacing(path, synced=synced) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
