"""Small JSON files of the state directory: read without following links and within a bound, written 0600.

What they say may have been written by anybody: a reader checks every value.
"""

import os
import stat
from pathlib import Path

from backfilld.store.atomic import replacing

MOST_BYTES = 1 << 20
"""The largest state file that is read; ours have a few kB."""


def read_state(path: Path, most_bytes: int = MOST_BYTES) -> bytes | None:
    """The content; None if there is no such file. Raises OSError, also for a link, a pipe, a device and a file that is
    too large."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a file")
        body = file.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise OSError(f"{path} is larger than {most_bytes:,} bytes")
    return body


def write_state(path: Path, body: bytes, *, synced: bool = True) -> None:
    """Replace the file; nobody but its owner may read it. Raises StoreError. ``synced`` as in :func:`replacing`."""
    with replacing(path, synced=synced) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
