"""Two popular libraries paging by id as their users do: one request after the other, and after a 429 or 418 as much
patience as the exchange asks for.

Run as a process of any Python: ``rivals.py LIBRARY URL SYMBOL FIRST_ID LAST_ID SECONDS``. Prints one line of JSON: the
version and the trades got, or null where the library is not installed. Needs nothing of this project.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

PAGE_ROWS = 1000

Ask = Callable[[int], int]
"""Asks for the page that begins with an id; returns how many trades came."""


def main(library: str, url: str, symbol: str, first_id: str, last_id: str, seconds: str) -> None:
    """Page until the last id is reached or the time is over."""
    try:
        version, ask, asked_to_wait_s = LIBRARIES[library](url, symbol)
    except ModuleNotFoundError as error:
        if error.name != library.replace("python-", ""):
            raise
        sys.stdout.write("null\n")
        return
    trades = _page(ask, asked_to_wait_s, int(first_id), int(last_id), time.monotonic() + float(seconds))
    sys.stdout.write(json.dumps({"version": version, "trades": trades}) + "\n")


def _page(
    ask: Ask, asked_to_wait_s: Callable[[Exception], float | None], first_id: int, last_id: int, until_s: float
) -> int:
    next_id = first_id
    while next_id <= last_id and time.monotonic() < until_s:
        try:
            next_id += ask(next_id)
        except Exception as error:  # the libraries have no common error, and are known by name alone
            wait_s = asked_to_wait_s(error)
            if wait_s is None:
                raise
            time.sleep(max(0.0, min(wait_s, until_s - time.monotonic())))
    return next_id - first_id


def _ccxt(url: str, symbol: str) -> tuple[str, Ask, Callable[[Exception], float | None]]:
    ccxt = importlib.import_module("ccxt")
    exchange = ccxt.binance({"enableRateLimit": True, "options": {"fetchMarkets": {"types": ["spot"]}}})
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], f"{url}/api/v3")
    exchange.load_markets()
    market = exchange.markets_by_id[symbol][0]["symbol"]

    def ask(next_id: int) -> int:
        return len(exchange.fetch_trades(market, limit=PAGE_ROWS, params={"fromId": next_id}))

    def asked_to_wait_s(error: Exception) -> float | None:
        is_refusal = isinstance(error, (ccxt.RateLimitExceeded, ccxt.DDoSProtection))
        return _seconds(exchange.last_response_headers) if is_refusal else None

    return ccxt.__version__, ask, asked_to_wait_s


def _python_binance(url: str, symbol: str) -> tuple[str, Ask, Callable[[Exception], float | None]]:
    binance = importlib.import_module("binance.client")
    client = binance.Client(ping=False)
    client.API_URL = f"{url}/api"

    def ask(next_id: int) -> int:
        return len(client.get_aggregate_trades(symbol=symbol, fromId=next_id, limit=PAGE_ROWS))

    def asked_to_wait_s(error: Exception) -> float | None:
        is_refusal = getattr(error, "status_code", None) in {418, 429}
        return _seconds(error.response.headers) if is_refusal else None  # type: ignore[attr-defined]

    return importlib.import_module("importlib.metadata").version("python-binance"), ask, asked_to_wait_s


def _seconds(headers: Any) -> float:
    return float(next((value for name, value in headers.items() if name.lower() == "retry-after"), 1))


LIBRARIES = {"ccxt": _ccxt, "python-binance": _python_binance}


if __name__ == "__main__":
    main(*sys.argv[1:])
