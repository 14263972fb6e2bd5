"""The end-to-end tests at another time of day: ``python -m tests.clock 23:58 [pytest arguments]``.

The processes under test, and the embedded exchange in this one, see a wall clock that begins at that time today (UTC);
the monotonic clock and file times stay true. By libfaketime, unpacked from Debian's package outside the repository;
nothing is installed.
"""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.debian import Unavailable, fetched

LIBRARY = "usr/lib/*/faketime/libfaketime.so.1"


def library() -> Path:
    """The shared library, downloaded and unpacked unless that was done before. Raises Unavailable."""
    return next(fetched("faketime", ("libfaketime",), LIBRARY).glob(LIBRARY))


def shifted(time_of_day: str) -> dict[str, str]:
    """The environment of a process whose wall clock begins at ``HH:MM`` of today, UTC."""
    return os.environ | {
        "LD_PRELOAD": str(library()),
        "FAKETIME": f"@{datetime.now(UTC):%Y-%m-%d} {time_of_day}:00",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "TZ": "UTC",
    }


def main(arguments: list[str]) -> int:
    """Run pytest at the time that comes first; return its exit code. Without libfaketime, say so and return 3."""
    if not arguments or re.fullmatch(r"\d\d:\d\d", arguments[0]) is None:
        sys.stdout.write(f"{__doc__}\n")
        return 2
    try:
        environment = shifted(arguments[0])
    except Unavailable as reason:
        sys.stdout.write(f"test-at cannot run here: {reason}\n")
        return 3
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(arguments[1:] or ["tests/e2e"])]
    return subprocess.run(pytest, check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
