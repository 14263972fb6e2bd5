"""Running the command line as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from backfilld import BackfillCacheManager, Instrument
from backfilld.store.layout import instrument_directory
from tests.fakes import starts_at
from tests.store.frames import DAY, day_frame


def backfilld(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m backfilld`` with these arguments, in a directory, and with no settings but these."""
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("BACKFILL_")}
    return subprocess.run(
        [sys.executable, "-m", "backfilld", *arguments],
        cwd=cwd,
        env=clean | {"COLUMNS": "200", "BACKFILL_LIVE": "false"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def filled_cache(cache_dir: Path) -> Path:
    """A cache with a sealed day, one with a hole, a bad file, and a second instrument's rows of a day too early."""
    spot = BackfillCacheManager(instrument_directory(cache_dir, Instrument.parse("spot:BTCUSDT")))
    days = [DAY.replace(day=number) for number in (5, 6, 7)]
    spot.append(days[0], day_frame(range(1000, 2234), days[0]), starts_at(days[0], 1000, 2234))
    spot.append(days[1], day_frame([*range(3000, 3010), *range(3020, 3030)], days[1]), starts_at(days[1], 3000, 3030))
    spot.get_cache_path(days[2]).write_text("cut")
    futures = BackfillCacheManager(instrument_directory(cache_dir, Instrument.parse("um:ETHUSDT")))
    futures.append(DAY, day_frame(range(5, 10), days[1]))
    return cache_dir
