"""An exchange, and a cache of the days that the pages, the docstrings and the notebook speak of."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.docs.snippets import ROOT

FIRST_DAY, LAST_DAY = "2025-11-01", "2025-11-09"
"""The days that the pages speak of."""
DAILY_TRADES = 300


@pytest.fixture(scope="session")
def exchange() -> Iterator[dict[str, str]]:
    """The settings that lead to an exchange with a little of every day since the first that the pages speak of."""
    days = (datetime.now(UTC).date() - date.fromisoformat(FIRST_DAY)).days + 3
    command = [sys.executable, "-m", "binance_simulator", "--days", str(days), "--daily-trades", str(DAILY_TRADES)]
    command += ["--instrument", "spot:BTCUSDT", "--instrument", "um:ETHUSDT", "--live-rate", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        url, streams = found["url"], found["stream_urls"]
        yield {
            "BACKFILL_ARCHIVE_URL": url,
            **{f"BACKFILL_{market.upper()}_URL": url for market in streams},
            **{f"BACKFILL_{market.upper()}_STREAM_URL": stream for market, stream in streams.items()},
        }
        process.terminate()


@pytest.fixture(scope="session")
def environment(exchange: dict[str, str]) -> dict[str, str]:
    """As on a fresh machine, but for the exchange's place."""
    own = {name: value for name, value in os.environ.items() if not name.upper().startswith("BACKFILL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    return own | exchange | {"PATH": path, "PYTHONPATH": str(ROOT / "daemon")}


@pytest.fixture(scope="session")
def stored(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the days that the pages speak of."""
    cache = tmp_path_factory.mktemp("stored") / "cache"
    fill = [sys.executable, "-m", "backfilld", "fill", "--from", FIRST_DAY, "--to", LAST_DAY, "--cache-dir", str(cache)]
    subprocess.run(fill, env=environment, check=True, capture_output=True, timeout=120)
    return cache
