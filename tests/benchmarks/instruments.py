"""What an instrument costs by their number: a cold start of many beside one of ten, 3,000 trades each; and how long one
step holds the event loop.

The limit does not bind."""

import json
import tempfile

from backfilld.core.model import Instrument, Market
from tests.benchmarks.exchange import ServedExchange, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import Run, run_process
from tests.benchmarks.sizes import Sizes

TITLE = "Instruments"
ROWS = 3_000
MOST_RATIO = 1.25
MOST_STEP_MS = 10.0


def measure(sizes: Sizes) -> list[Figure]:
    """CPU, requests and peak memory, an instrument; the longest step of the loop."""
    costs = {number: _cost(number) for number in sizes.instruments}
    few, *more = costs
    against = f"{few} instruments"
    figures = []
    for number in more:
        run, requests = costs[number]
        least, asked = costs[few]
        name = f"{number:,} instruments"
        ours, theirs = (1000 * each.cpu_s / count for each, count in ((run, number), (least, few)))
        figures += [
            Figure(f"{name}: CPU an instrument", ours, "ms", against, theirs, most_ratio=MOST_RATIO),
            Figure(f"{name}: requests an instrument", requests / number, "", against, asked / few, most_ratio=1.1),
            Figure(f"{name}: peak memory", run.peak_mb, "MB", against, least.peak_mb),
            Figure(f"{name}: longest step, CPU", _step_ms(run), "ms", against, _step_ms(least), most=MOST_STEP_MS),
        ]
    return figures


def _cost(number: int) -> tuple[Run, int]:
    names = [Instrument(Market.SPOT, f"COIN{place:04}USDT") for place in range(number)]
    with served_exchange(ROWS, instruments=names) as exchange, tempfile.TemporaryDirectory() as cache_dir:
        run = _backfilled(exchange, names, cache_dir)
        return run, len(exchange.requests())


def _backfilled(exchange: ServedExchange, names: list[Instrument], cache_dir: str) -> Run:
    environment = {
        "BACKFILL_SPOT_URL": exchange.url,
        "BACKFILL_ARCHIVE_URL": exchange.url,
        "BACKFILL_CACHE_DIR": cache_dir,
        "BACKFILL_INSTRUMENTS": ",".join(map(str, names)),
        "BACKFILL_LOG_FORMAT": "json",
        "BACKFILL_LIVE": "false",
    }
    return run_process(["-m", "tests.benchmarks.steps", "run", "--once"], environment)


def _step_ms(run: Run) -> float:
    return float(json.loads(run.stderr.splitlines()[-1])["longest_step_ms"])
