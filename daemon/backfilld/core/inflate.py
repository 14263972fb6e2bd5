"""How deflated bytes are unpacked, and how bytes are checked: by ISA-L where it has a wheel, in a third of the time or
less, or else by zlib."""

import zlib
from collections.abc import Callable
from typing import Any, cast

try:
    from isal import isal_zlib

    inflater: Callable[[int], Any] = isal_zlib.decompressobj
    """As :func:`zlib.decompressobj`."""
    DAMAGE: tuple[type[Exception], ...] = (cast("type[Exception]", isal_zlib.error), zlib.error, ValueError)
    """What it raises for bytes that are damaged."""
    crc32: Callable[[Any, int], int] = isal_zlib.crc32
    """As :func:`zlib.crc32`."""
except ImportError:  # pragma: no cover - which of the two is there depends on the platform
    inflater, DAMAGE, crc32 = zlib.decompressobj, (zlib.error, ValueError), zlib.crc32
