"""The backfill as the project's guide plans it, as an honest yardstick: ten-minute windows, five at a time, each paged
by time, rows as dicts, dedup by unique and sort, polars' snappy Parquet.

Run as a process: ``python -m tests.benchmarks.guide_plan URL SYMBOL START_MS STOP_MS FILE``. Prints one line of JSON
with the trades it holds and the requests it sent.
"""

import json
import sys
from itertools import count
from typing import Any

import httpx
import polars as pl
import trio

WINDOW_MS = 600_000
MAX_CONCURRENT = 5
PAGE_ROWS = 1000

Rows = list[dict[str, Any]]


async def backfill(url: str, symbol: str, start_ms: int, stop_ms: int, file: str) -> dict[str, int]:
    """Download start <= T < stop and save it; return the counts."""
    rows: Rows = []
    requests = count()
    limiter = trio.CapacityLimiter(MAX_CONCURRENT)
    async with httpx.AsyncClient(base_url=url) as client, trio.open_nursery() as nursery:

        async def fetch(window_start_ms: int) -> None:
            async with limiter:
                rows.extend(await _window(client, symbol, window_start_ms, min(window_start_ms + WINDOW_MS, stop_ms)))

        async def count_request(_: httpx.Request) -> None:
            next(requests)

        client.event_hooks = {"request": [count_request]}
        for window_start_ms in range(start_ms, stop_ms, WINDOW_MS):
            nursery.start_soon(fetch, window_start_ms)
    return {"trades": _save(rows, file), "requests": next(requests)}


async def _window(client: httpx.AsyncClient, symbol: str, start_ms: int, stop_ms: int) -> Rows:
    """Page through one window: after a full page, go on one millisecond after its last trade."""
    rows: Rows = []
    next_ms = start_ms
    while next_ms < stop_ms:
        query: dict[str, str | int] = {"symbol": symbol, "startTime": next_ms, "endTime": stop_ms - 1}
        answer = await client.get("/api/v3/aggTrades", params=query | {"limit": PAGE_ROWS})
        page: Rows = answer.raise_for_status().json()
        rows.extend(page)
        if len(page) < PAGE_ROWS:
            break
        next_ms = page[-1]["T"] + 1
    return rows


def _save(rows: Rows, file: str) -> int:
    trades = pl.DataFrame(rows).with_columns(pl.col("p", "q").cast(pl.Float64)).unique(subset="a").sort("a")
    trades.write_parquet(file, compression="snappy")
    return trades.height


def main(url: str, symbol: str, start_ms: str, stop_ms: str, file: str) -> None:
    """Do it once."""
    counts = trio.run(backfill, url, symbol, int(start_ms), int(stop_ms), file)
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
