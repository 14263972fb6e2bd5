"""How many requests a backfill costs, as the exchange counted them, beside the full pages that hold what was missing.

Weight, not time, is what runs out: requests are the first figure of all.
"""

import tempfile
from pathlib import Path

from tests.benchmarks.exchange import ServedExchange, least_requests, served_exchange
from tests.benchmarks.figures import Figure
from tests.benchmarks.resume import save_all_but
from tests.benchmarks.sizes import Sizes

TITLE = "Request economy"
HANDFUL = 5
"""Finding both ends of the day and reading exchangeInfo may cost so many requests beyond the full pages."""


def measure(sizes: Sizes) -> list[Figure]:
    """Requests and weight of a cold backfill and of a resume."""
    with served_exchange(sizes.day_rows) as exchange, tempfile.TemporaryDirectory() as directory:
        cold = _asked(exchange, Path(directory) / "cold")
        save_all_but(sizes.gap_rows, exchange, Path(directory) / "warm")
        warm = _asked(exchange, Path(directory) / "warm")
    return [
        *_figures(f"cold, {sizes.day_rows:,} trades", cold, sizes.day_rows),
        *_figures(f"resume, {sizes.gap_rows} trades missing", warm, sizes.gap_rows),
    ]


def _asked(exchange: ServedExchange, cache: Path) -> list[int]:
    """The weight of each request of one run."""
    before = len(exchange.requests())
    exchange.run_daemon(str(cache))
    return [request["weight"] for request in exchange.requests()[before:]]


def _figures(name: str, weights: list[int], missing: int) -> list[Figure]:
    least = least_requests(missing)
    return [
        Figure(f"{name}: requests", len(weights), "", "full pages", least, most=least + HANDFUL),
        Figure(f"{name}: weight", sum(weights), "", "full pages", least * 4),
    ]
