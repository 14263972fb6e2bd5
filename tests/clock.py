"""The end-to-end tests at other times of day: ``python -m tests.clock 00:01 23:58 [pytest arguments]``.

``now`` is the present time. At another one, the processes under test, and the embedded exchange in this one, see a wall
clock that begins at that time today (UTC); the monotonic clock and file times stay true. By libfaketime, unpacked from
Debian's package outside the repository; nothing is installed.
"""

import itertools
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
    """Run pytest at each time that comes first; return the first exit code that is not 0.

    Where no clock can be shifted, say so aloud and run the tests once, at the present time.
    """
    times = list(itertools.takewhile(re.compile(r"\d\d:\d\d|now").fullmatch, arguments))
    if not times:
        sys.stdout.write(f"{__doc__}\n")
        return 2
    try:
        environments = {at: dict(os.environ) if at == "now" else shifted(at) for at in times}
    except Unavailable as reason:
        sys.stdout.write(f"SKIPPED: the end-to-end tests at {' and '.join(times)}, run now instead: {reason}\n")
        environments = {"now": dict(os.environ)}
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(arguments[len(times) :] or ["tests/e2e"])]
    for at, environment in environments.items():
        sys.stdout.write(f"end to end at {at}:\n")
        sys.stdout.flush()
        if code := subprocess.run(pytest, check=False, env=environment).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
