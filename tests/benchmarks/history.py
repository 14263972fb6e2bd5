"""History that is stored already: a start with three years of it against a start with today alone, and what ``status``
and ``verify`` take of it, beside the bare imports of the same libraries.

One instrument, 300 trades a day: what counts is the number of files. The first start has read them in full.
"""

import tempfile
from pathlib import Path

from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import MS_PER_DAY, day_of, day_start_ms
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.benchmarks.exchange import INSTRUMENT, ServedExchange, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import Run, in_turn, median_of, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "History"
DAILY_ROWS = 300
LIBRARIES = "import click, pydantic, polars, pyarrow.parquet, msgspec, structlog"


def measure(sizes: Sizes) -> list[Figure]:
    """CPU seconds of each, by medians."""
    options = {"--days": sizes.history_days, "--daily-trades": DAILY_ROWS}
    with served_exchange(DAILY_ROWS, options=options) as exchange, tempfile.TemporaryDirectory() as directory:
        cache = Path(directory) / "cache"
        _fill(exchange, cache)
        _start(exchange, cache, sizes.history_days)
        today, all_days = in_turn(
            sizes.process_rounds,
            lambda: _start(exchange, cache, 0),
            lambda: _start(exchange, cache, sizes.history_days),
        )
        status, verify, libraries = in_turn(
            sizes.process_rounds,
            lambda: run_process(["-m", "backfilld", "status", "--cache-dir", str(cache)]),
            lambda: run_process(["-m", "backfilld", "verify", "--cache-dir", str(cache)]),
            lambda: run_process(["-c", LIBRARIES]),
        )
    held = f"{sizes.history_days:,} days"
    return [
        _cpu(f"start with {held}", all_days, "start with today alone", today, most_ratio=1.6),
        _cpu(f"status of {held}", status, "importing the libraries", libraries, most_ratio=2.0),
        _cpu(f"verify of {held}", verify, "importing the libraries", libraries),
    ]


def _cpu(name: str, runs: list[Run], against: str, reference: list[Run], most_ratio: float | None = None) -> Figure:
    ours, theirs = (median_of(each, lambda run: run.cpu_s) for each in (runs, reference))
    return Figure(f"{name}, CPU", ours, "s", against, theirs, most_ratio=most_ratio)


def _fill(exchange: ServedExchange, cache: Path) -> None:
    """Put all days before today on disk, sealed."""
    tape = exchange.tape()
    manager = BackfillCacheManager(instrument_directory(cache, INSTRUMENT), INSTRUMENT)
    for (day_number,), rows in tape.group_by(tape["T"] // MS_PER_DAY, maintain_order=True):
        day = day_of(int(day_number) * MS_PER_DAY)
        if day_start_ms(day) + MS_PER_DAY <= exchange.stop_ms:
            starts = {DayStart(day, rows["a"][0]), DayStart(day + ONE_DAY, rows["a"][-1] + 1)}
            manager.append(day, rows, starts)


def _start(exchange: ServedExchange, cache: Path, days: int) -> Run:
    environment = {
        "BACKFILL_SPOT_URL": exchange.url,
        "BACKFILL_ARCHIVE_URL": exchange.url,
        "BACKFILL_CACHE_DIR": str(cache),
        "BACKFILL_LOG_FORMAT": "json",
        "BACKFILL_DAYS": str(days),
    }
    return run_process(["-m", "backfilld", "run", "--once", "--instrument", str(INSTRUMENT)], environment)
