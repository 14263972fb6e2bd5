"""A restart with a day on disk and a few dozen trades missing: the daemon against the bare imports of its libraries.

Nothing that reads Parquet, speaks HTTP and checks settings in Python starts faster than its libraries import; the rest
is ours. No latency, both as processes, in turn.
"""

import shutil
import tempfile
from pathlib import Path

from backfilld.core.day.start import DayStart
from backfilld.core.model import day_of
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.benchmarks.exchange import INSTRUMENT, ServedExchange, least_requests, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.libraries import bare_import, libraries_of_daemon
from tests.benchmarks.measure import Run, in_turn, median_of, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "Resume"


def measure(sizes: Sizes) -> list[Figure]:
    """Seconds, CPU, memory and requests of a restart."""
    with served_exchange(sizes.day_rows) as exchange, tempfile.TemporaryDirectory() as directory:
        cache = Path(directory) / "cache"
        save_all_but(sizes.gap_rows, exchange, cache)
        libraries = bare_import(libraries_of_daemon(exchange, _copy(cache)))
        _resume(exchange, cache)
        before = len(exchange.requests())
        daemon, bare = in_turn(
            sizes.process_rounds + 2, lambda: _resume(exchange, cache), lambda: run_process(["-c", libraries])
        )
        requests = (len(exchange.requests()) - before) / len(daemon)
    against = "importing the same libraries"

    def beside(name: str, unit: str, figure: str, most_ratio: float | None = None) -> Figure:
        ours, theirs = (median_of(runs, lambda run: getattr(run, figure)) for runs in (daemon, bare))
        return Figure(name, ours, unit, against, theirs, most_ratio=most_ratio)

    stored = f"{sizes.day_rows - sizes.gap_rows:,} cached, {sizes.gap_rows} missing"
    return [
        beside(f"{stored}: process start to exit", "s", "seconds", most_ratio=1.5),
        beside("CPU, all threads", "s", "cpu_s"),
        beside("peak memory", "MB", "peak_mb"),
        Figure("requests", requests, "", "full pages", least_requests(sizes.gap_rows)),
    ]


def save_all_but(gap_rows: int, exchange: ServedExchange, cache: Path) -> None:
    """Put the exchange's day on disk, but for the newest ``gap_rows``, its beginning known to be the day's."""
    stored = exchange.tape()[:-gap_rows]
    manager = BackfillCacheManager(instrument_directory(cache, INSTRUMENT), INSTRUMENT)
    day = day_of(exchange.stop_ms)
    manager.append(day, stored, {DayStart(day, stored["a"][0])})


def _resume(exchange: ServedExchange, cache: Path) -> Run:
    copied = _copy(cache)
    try:
        return exchange.run_daemon(str(copied))
    finally:
        shutil.rmtree(copied)


def _copy(cache: Path) -> Path:
    return Path(shutil.copytree(cache, cache.with_name("copy"), dirs_exist_ok=True))
