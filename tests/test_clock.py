"""The shifted clock of the end-to-end tests: every way to read the wall clock agrees, and nothing else is shifted."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime

import pytest

from tests.clock import shifted

LOOK = """
import json, os, time
from datetime import UTC, date, datetime, timedelta
began = time.monotonic()
time.sleep(0.01)
parsed = datetime.fromisoformat("2025-11-07T00:00:00+00:00")
print(json.dumps({
    "now": datetime.now(UTC).isoformat(), "s": time.time(), "ns": time.time_ns(), "slept_s": time.monotonic() - began,
    "is_true": type(parsed) is type(datetime(2025, 1, 1)) is type(datetime.now(UTC)) and isinstance(parsed, datetime),
    "file_s": os.stat(".").st_atime,
}))
"""


def test_a_process_sees_the_time_of_day_that_was_asked_for() -> None:
    for at, hour in (("00:01", 0), ("23:58", 23)):
        done = subprocess.run([sys.executable, "-c", LOOK], env=shifted(at), capture_output=True, text=True, check=True)
        seen = json.loads(done.stdout)
        now = datetime.fromisoformat(seen["now"])
        assert (now.date(), now.hour) == (datetime.now(UTC).date(), hour)
        assert abs(now.timestamp() - seen["s"]) < 5
        assert abs(seen["ns"] / 1e9 - seen["s"]) < 5
        assert 0.01 <= seen["slept_s"] < 5
        assert seen["is_true"], "libraries in C must know its datetimes"


def test_now_is_not_shifted() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], env=shifted("now"), capture_output=True, text=True, check=True)
    assert datetime.fromisoformat(json.loads(done.stdout)["now"]).date() >= date(2025, 1, 1)


@pytest.mark.parametrize("how", [[], ["together"]])
def test_a_command_runs_at_each_time(how: list[str]) -> None:
    look = "import time; print(hour := time.gmtime(time.time()).tm_hour); raise SystemExit(hour == 12)"
    command = [sys.executable, "-m", "tests.clock", *how, "03:00", "12:00", "--", sys.executable, "-c", look]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:4] == ["at 03:00:", "3", "at 12:00:", "12"]
    assert done.returncode == 1
