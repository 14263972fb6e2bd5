"""How files are opened by name where anybody may have put something else: no link is followed, no pipe waited for."""

import errno
import os
import stat
from pathlib import Path


class NotRegular(OSError):
    """What stands at the path is a link, a pipe, a device or a directory."""


def open_regular(path: Path | str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the regular file at this path; one that the flags create is for its owner alone. Raises OSError,
    of which NotRegular for whatever is not such a file."""
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            raise _not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


def _not_regular(path: Path | str) -> NotRegular:
    return NotRegular(errno.EINVAL, "it is not a regular file", str(path))
