"""A disk that is about to die: it refuses single calls for single files."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LOOKS = ("stat", "lstat")
"""What Python calls, by version, to see whether a file is there."""


@contextmanager
def refusing(path: Path, *calls: str) -> Iterator[None]:
    """Let these functions of ``os`` fail for this path with EIO."""
    with pytest.MonkeyPatch.context() as patch:
        for call in calls:
            patch.setattr(os, call, _failing(getattr(os, call), path))
        yield


def _failing(real: Any, path: Path) -> Any:
    def call(named: Any, *rest: Any, **more: Any) -> Any:
        if not isinstance(named, int) and os.fspath(named) == str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(named, *rest, **more)

    return call
