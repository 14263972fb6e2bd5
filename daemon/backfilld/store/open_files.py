"""Whether anybody has a file open: the kernel knows, where all who could have are on this machine.

Owns the lease by which it is asked: it is granted for a file that nobody else has open or mapped, and given back at
once.
"""

import fcntl
import os
import re
import signal
from pathlib import Path

_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay"})
"""File systems whose files nobody opens past this kernel. Network and shared folders are others."""

_MOUNTS = Path("/proc/self/mountinfo")
_MOUNT = re.compile(r"(?:\S+ ){4}(\S+) .* - (\S+) ", re.ASCII)
"""A line of it. Takes the place of the mount, its odd characters in octal, and the kind of file system."""


def is_known_to_be_closed(path: Path) -> bool:
    """Whether nobody has the file open, in this process or another; False also where that cannot be known."""
    try:
        return _kind_at(path.parent.resolve()) in _LOCAL and _is_leased(path)
    except (OSError, AttributeError):
        # No lease here, of somebody else's file, or on this operating system.
        return False


def _is_leased(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Who opens the file meanwhile makes the kernel send a signal, which ends a process unless it is another one.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        os.close(descriptor)
    return True


def _kind_at(directory: Path) -> str:
    """The kind of the file system of a directory: that of the last mount at the nearest place above it."""
    text = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    found = [(_unescaped(match[1]), match[2]) for match in map(_MOUNT.match, text.splitlines()) if match]
    kinds = [(len(Path(place).parts), kind) for place, kind in found if directory.is_relative_to(place)]
    nearest = max((depth for depth, _ in kinds), default=0)
    return next((kind for depth, kind in reversed(kinds) if depth == nearest), "")


def _unescaped(place: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)
