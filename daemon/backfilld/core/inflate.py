"""How deflated bytes are unpacked: by ISA-L where it has a wheel, in a third of the time, or else by zlib."""

import zlib
from collections.abc import Callable
from typing import Any, cast

try:
    from isal import isal_zlib

    inflater: Callable[[int], Any] = isal_zlib.decompressobj
    """As :func:`zlib.decompressobj`."""
    DAMAGE: tuple[type[Exception], ...] = (cast("type[Exception]", isal_zlib.error), zlib.error, ValueError)
    """What it raises for bytes that are damaged."""
except ImportError:  # pragma: no cover - which of the two is there depends on the platform
    inflater, DAMAGE = zlib.decompressobj, (zlib.error, ValueError)
