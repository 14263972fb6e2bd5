"""History that is stored already: what starts, ``fill``, ``status``, ``verify`` and ``scan`` take of three years of ten
instruments, beside the bare imports of the same libraries.

300 trades a day: what counts is the number of files. The first start has read them in full.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import MS_PER_DAY, Instrument, Market, day_of, day_start_ms
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.benchmarks.exchange import INSTRUMENT, ServedExchange, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import Run, in_turn, median_of, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "History"
DAILY_ROWS = 300
LIBRARIES = "import click, httpcore, httpx, msgspec, polars, pyarrow.parquet, pydantic.main, structlog, trio"
DAYS = (0, 30, 365, 1_094)
GOALS_S = {
    "start, DAYS=0": 0.7,
    "start, DAYS=30": 0.9,
    "start, DAYS=365": 2.0,
    "start, DAYS=1094": 5.0,
    "fill": 5.0,
    "status": 1.0,
    "verify": 8.0,
}
"""Wall seconds on a quiet machine."""
MOST_SCAN_MS = 10.0
SCAN = """
import json, sys, time
from datetime import date, timedelta
import backfilld
name, cache_dir, first = sys.argv[1:]
day, times = date.fromisoformat(first), []
for number in range(11):
    began = time.perf_counter()
    frame = backfilld.scan(name, day + timedelta(days=number), day + timedelta(days=number + 1), cache_dir=cache_dir)
    frame.collect()
    times.append(time.perf_counter() - began)
print(json.dumps(1000 * sorted(times[1:])[5]))
"""


def measure(sizes: Sizes) -> list[Figure]:
    """Seconds of each, wall and CPU, by medians."""
    names = [INSTRUMENT, *(Instrument(Market.SPOT, f"COIN{n}USDT") for n in range(1, sizes.history_instruments))]
    options = {"--days": sizes.history_days, "--daily-trades": DAILY_ROWS}
    with (
        served_exchange(DAILY_ROWS, options=options, instruments=names) as exchange,
        tempfile.TemporaryDirectory() as directory,
    ):
        cache = Path(directory) / "cache"
        for each in names:
            _fill(exchange, cache, each)
        first = day_of(exchange.stop_ms - sizes.history_days * MS_PER_DAY)
        starts = [days for days in DAYS if days <= sizes.history_days]
        commands = {f"start, DAYS={days}": _daemon(exchange, cache, names, days, "run", "--once") for days in starts}
        commands["fill"] = _daemon(exchange, cache, names, 0, "fill", "--from", first.isoformat())
        commands |= {name: (["-m", "backfilld", name, "--cache-dir", str(cache)], {}) for name in ("status", "verify")}
        commands["scan"] = (["-c", SCAN, str(INSTRUMENT), str(cache), first.isoformat()], {})
        run_process(*commands[f"start, DAYS={starts[-1]}"])
        libraries, *found = in_turn(
            sizes.process_rounds,
            lambda: run_process(["-c", LIBRARIES]),
            *(lambda command=command: run_process(*command) for command in commands.values()),
        )
    runs = dict(zip(commands, found, strict=True))
    scans = runs.pop("scan")
    stored = f"{sizes.history_instruments} x {sizes.history_days:,} days"
    figures = [figure for name, each in runs.items() for figure in _figures(name, stored, each, libraries)]
    milliseconds = median_of(scans, lambda run: float(json.loads(run.stdout)))
    return [*figures, Figure(f"scan of a day of {stored}, imports left out", milliseconds, "ms", most=MOST_SCAN_MS)]


def _figures(name: str, stored: str, runs: Sequence[Run], libraries: Sequence[Run]) -> list[Figure]:
    against = "importing the libraries"
    wall, bare = (median_of(each, lambda run: run.seconds) for each in (runs, libraries))
    cpu, bare_cpu = (median_of(each, lambda run: run.cpu_s) for each in (runs, libraries))
    return [
        Figure(f"{name}, {stored} stored: wall", wall, "s", against, bare, most=GOALS_S.get(name)),
        Figure(f"{name}, {stored} stored: CPU", cpu, "s", against, bare_cpu),
    ]


def _daemon(
    exchange: ServedExchange, cache: Path, names: Sequence[Instrument], days: int, *words: str
) -> tuple[list[str], dict[str, str]]:
    environment = {
        "BACKFILL_SPOT_URL": exchange.url,
        "BACKFILL_ARCHIVE_URL": exchange.url,
        "BACKFILL_CACHE_DIR": str(cache),
        "BACKFILL_INSTRUMENTS": ",".join(map(str, names)),
        "BACKFILL_LOG_FORMAT": "json",
        "BACKFILL_LIVE": "false",
        "BACKFILL_DAYS": str(days),
    }
    return ["-m", "backfilld", *words], environment


def _fill(exchange: ServedExchange, cache: Path, instrument: Instrument) -> None:
    """Put all days before today on disk, sealed."""
    tape = exchange.tape(instrument)
    manager = BackfillCacheManager(instrument_directory(cache, instrument), instrument)
    for (day_number,), rows in tape.group_by(tape["T"] // MS_PER_DAY, maintain_order=True):
        day = day_of(int(day_number) * MS_PER_DAY)
        if day_start_ms(day) + MS_PER_DAY <= exchange.stop_ms:
            starts = {DayStart(day, rows["a"][0]), DayStart(day + ONE_DAY, rows["a"][-1] + 1)}
            manager.append(day, rows, starts)
