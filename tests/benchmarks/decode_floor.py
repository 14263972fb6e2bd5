"""The floor of CPU a trade: pages of the exchange, decoded by msgspec into one frame each, and nothing else.

Run as a process: ``python -m tests.benchmarks.decode_floor URL SYMBOL``. Prints one line of JSON.
"""

import json
import sys
import time

import httpx
import msgspec
import polars as pl

PAGES = 50
PAGE_ROWS = 1000
_TYPES: dict[type[pl.DataType], str] = {pl.Int64: "Tafl", pl.Float64: "pq", pl.Boolean: "mM"}
_SCHEMA = {name: dtype for dtype, names in _TYPES.items() for name in names}


class Row(msgspec.Struct, gc=False):
    """A trade as the exchange sends it."""

    a: int
    p: float
    q: float
    f: int
    l: int  # noqa: E741 - the exchange's name
    T: int
    m: bool
    M: bool


_DECODER = msgspec.json.Decoder(list[Row], strict=False)


def fetch_pages(url: str, symbol: str) -> list[bytes]:
    """The bodies of the oldest pages, unpacked."""
    bodies: list[bytes] = []
    first_id = 0
    with httpx.Client(base_url=url, timeout=60) as client:
        while len(bodies) < PAGES:
            query: dict[str, str | int] = {"symbol": symbol, "fromId": first_id, "limit": PAGE_ROWS}
            body = client.get("/api/v3/aggTrades", params=query).raise_for_status().content
            rows = _DECODER.decode(body)
            if len(rows) < PAGE_ROWS:
                break
            bodies.append(body)
            first_id = rows[-1].a + 1
    return bodies


def frame_of(body: bytes) -> pl.DataFrame:
    """One page as columns."""
    rows = _DECODER.decode(body)
    return pl.DataFrame({name: [getattr(row, name) for row in rows] for name in _SCHEMA}, schema=_SCHEMA)


def main(url: str, symbol: str) -> None:
    """Decode every page a few times and print the CPU a trade of the last time."""
    pages = fetch_pages(url, symbol)
    for _ in range(3):
        began = time.process_time()
        for page in pages:
            frame_of(page)
        spent = time.process_time() - began
    figure = {"us_per_trade": spent / (len(pages) * PAGE_ROWS) * 1e6}
    sys.stdout.write(json.dumps(figure) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
