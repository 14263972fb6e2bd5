"""The tests at other times of day: ``python -m tests.clock 00:01 23:58 [pytest arguments]``, or ``... -- COMMAND``.

``now`` is the present time. At another one, pytest or the command, and every Python that it starts, see a wall clock
that begins at that time today (UTC); see tests/shifted/sitecustomize.py. After ``together`` all times run side by side.
"""

import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

SHIFTED = Path(__file__).with_name("shifted")


def shift_to(time_of_day: str) -> dict[str, str]:
    """What sets the wall clock of a Python to ``HH:MM`` of today, UTC, in its environment."""
    now = datetime.now(UTC)
    hour, minute = map(int, time_of_day.split(":"))
    ahead_s = (now.replace(hour=hour, minute=minute, second=0, microsecond=0) - now).total_seconds()
    # The clock of this process may be shifted itself.
    ahead_s += float(os.environ.get("CLOCK_AHEAD_S", "0"))
    path = os.pathsep.join([str(SHIFTED), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"CLOCK_AHEAD_S": str(ahead_s), "PYTHONPATH": path}


def shifted(time_of_day: str) -> dict[str, str]:
    """The environment of a Python whose wall clock begins at ``HH:MM`` of today, UTC, or is right (``now``)."""
    return dict(os.environ) if time_of_day == "now" else os.environ | shift_to(time_of_day)


def main(arguments: list[str]) -> int:
    """Run pytest, or the command, at each time that comes first; return the first exit code that is not 0."""
    is_together = arguments[:1] == ["together"]
    arguments = arguments[is_together:]
    times = list(itertools.takewhile(re.compile(r"\d\d:\d\d|now").fullmatch, arguments))
    if not times:
        sys.stdout.write(f"{__doc__}\n")
        return 2
    rest = arguments[len(times) :] or ["tests/e2e"]
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command = rest[1:] if rest[0] == "--" else [*pytest, *rest]
    if is_together:
        return _together(times, command)
    for at in times:
        sys.stdout.write(f"at {at}:\n")
        sys.stdout.flush()
        if code := subprocess.run(command, check=False, env=shifted(at)).returncode:
            return code
    return 0


def _together(times: Sequence[str], command: Sequence[str]) -> int:
    """Run the command at all these times side by side, and show what each has written when it has ended."""
    with contextlib.ExitStack() as outputs:
        files = [outputs.enter_context(tempfile.TemporaryFile("w+")) for _ in times]
        runs = [
            subprocess.Popen(command, env=shifted(at), stdout=output, stderr=subprocess.STDOUT)
            for at, output in zip(times, files, strict=True)
        ]
        for at, output, run in zip(times, files, runs, strict=True):
            run.wait()
            output.seek(0)
            sys.stdout.write(f"at {at}:\n{output.read()}")
            sys.stdout.flush()
    return next((run.returncode for run in runs if run.returncode), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
