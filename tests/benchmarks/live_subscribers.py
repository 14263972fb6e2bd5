"""One subscriber to the trades of a symbol, as its users write it: notes when each trade is in their hands.

Run as a process of any Python: ``live_subscribers.py KIND PLACE SYMBOL SECONDS``. KIND is ``websockets`` (the bare
stream), ``follow`` (backfilld), ``ccxt`` or ``python-binance``. PLACE is the URL of the stream, for ``follow`` the
cache, for ``ccxt`` the URLs of the stream and of REST with a space between. Prints one line of JSON, ``{"version": ...,
"arrived": {id: ns since the epoch}}``, or null where the library is not installed.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from importlib.metadata import version
from typing import Any

Arrived = dict[int, int]


def main(kind: str, place: str, symbol: str, seconds: str) -> None:
    """Listen for so long."""
    arrived: Arrived = {}
    try:
        name = KINDS[kind](place, symbol, float(seconds), arrived)
    except ModuleNotFoundError:
        sys.stdout.write("null\n")
        return
    sys.stdout.write(json.dumps({"version": version(name), "arrived": arrived}) + "\n")


def _listen(trades: AsyncIterator[int], seconds: float, arrived: Arrived) -> None:
    async def listen() -> None:
        async for trade_id in trades:
            arrived.setdefault(trade_id, time.time_ns())

    async def until() -> None:
        with suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(listen(), seconds)

    asyncio.run(until())


def _websockets(url: str, symbol: str, seconds: float, arrived: Arrived) -> str:
    client = importlib.import_module("websockets.asyncio.client")

    async def trades() -> AsyncIterator[int]:
        async with client.connect(f"{url}/ws/{symbol.lower()}@aggTrade") as connection:
            async for message in connection:
                yield json.loads(message)["a"]

    _listen(trades(), seconds, arrived)
    return "websockets"


def _ccxt(urls: str, symbol: str, seconds: float, arrived: Arrived) -> str:
    ccxt = importlib.import_module("ccxt.pro")
    url, rest = urls.split()

    async def trades() -> AsyncIterator[int]:
        exchange = ccxt.binance({"newUpdates": True, "options": {"fetchMarkets": {"types": ["spot"]}}})
        exchange.urls["api"] = {
            key: value if key == "ws" else f"{rest}/api/v3" for key, value in exchange.urls["api"].items()
        }
        exchange.urls["api"]["ws"] = dict.fromkeys(exchange.urls["api"]["ws"], f"{url}/ws")
        try:
            await exchange.load_markets()
            name = exchange.markets_by_id[symbol][0]["symbol"]
            while True:
                for trade in await exchange.watch_trades(name, params={"name": "aggTrade"}):
                    yield int(trade["id"])
        finally:
            await exchange.close()

    _listen(trades(), seconds, arrived)
    return "ccxt"


def _python_binance(url: str, symbol: str, seconds: float, arrived: Arrived) -> str:
    binance = importlib.import_module("binance")

    async def trades() -> AsyncIterator[int]:
        client = binance.AsyncClient()
        manager = binance.BinanceSocketManager(client)
        manager.STREAM_URL = manager.VSTREAM_URL = f"{url}/"
        manager._get_stream_url = lambda *_: f"{url}/"
        try:
            async with manager.aggtrade_socket(symbol) as stream:
                while True:
                    yield (await stream.recv())["a"]
        finally:
            await client.close_connection()

    _listen(trades(), seconds, arrived)
    return "python-binance"


def _follow(cache_dir: str, symbol: str, seconds: float, arrived: Arrived) -> str:
    trio: Any = importlib.import_module("trio")
    backfilld: Any = importlib.import_module("backfilld")

    async def listen() -> None:
        settings = backfilld.Settings(cache_dir=cache_dir)
        with trio.move_on_after(seconds):
            async with aclosing(backfilld.follow(f"spot:{symbol}", settings=settings)) as frames:
                async for frame in frames:
                    now = time.time_ns()
                    for trade_id in frame["a"].to_list():
                        arrived.setdefault(trade_id, now)

    trio.run(listen)
    return "backfilld"


KINDS: dict[str, Callable[[str, str, float, Arrived], str]] = {
    "websockets": _websockets,
    "follow": _follow,
    "ccxt": _ccxt,
    "python-binance": _python_binance,
}


if __name__ == "__main__":
    main(*sys.argv[1:])
