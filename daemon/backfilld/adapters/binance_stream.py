"""Binance's trade streams by websockets' trio client.

Owns one connection: its address, its subscriptions, the decoding of its messages. Decoding goes by names, never by
places: the markets write their keys in different sequences. Foreign text comes out as a reason, in plain characters.

What bounds it: a message has at most MOST_BYTES, the library reads on only below MOST_FRAMES unread ones (then the
exchange has to wait, and ends the connection), and a dead peer is noticed after 40 s by our own pings.
"""

import json
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote

import msgspec
import trio
from websockets.trio.client import ClientConnection, connect

from backfilld.adapters.routes import reason_of
from backfilld.core.live.trades import LiveTrade, is_plausible
from backfilld.core.model import EARLIEST_MS, LATEST_MS, Instrument
from backfilld.core.text import plain
from backfilld.errors import StreamLost
from backfilld.ports import StreamBatch

MOST_FRAMES = 2**15
"""Unread messages that the library keeps: 8 MB of trades, and 128 MB of the largest messages. A flood of 20,000 a
second fills it in 1.6 s in which nobody takes any; then it waits in the kernel."""

MOST_BYTES = 2**12
"""The largest message that is taken; an aggregate trade has about 250 bytes."""

MOST_REFUSALS = 20
"""Refusals of one connection that are reported; it makes a few dozen requests at most."""

BATCH = 500
"""Messages that are handed on at once; other tasks get their turn in between."""

WHOLE_WITHIN_S = 0.002
"""How long a message whose first frames are here may hold up those before it."""

FIRST_NAMES = 100
"""Streams named in the URL; the others are subscribed to by messages, as URLs have a largest length too."""

NAMES_A_REQUEST = 200
REQUEST_EVERY_S = 0.35
"""Between our messages: spot allows 5 a second, pings and pongs included."""

OPEN_TIMEOUT_S = 10.0
PING_EVERY_S = PING_TIMEOUT_S = 20.0
SHUTDOWN = "serverShutdown"

_LIBRARY = logging.getLogger("backfilld.websockets")
"""The library logs a ping without an answer with a traceback, and without a handler Python prints it on stderr; here it
comes out as the reason of StreamLost."""
_LIBRARY.addHandler(logging.NullHandler())


class _Trade(LiveTrade, kw_only=True, gc=False):
    e: str
    s: str
    E: int


class _Combined(msgspec.Struct, gc=False):
    data: _Trade


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_RAW = msgspec.json.Decoder(_Trade, strict=False)
_COMBINED = msgspec.json.Decoder(_Combined, strict=False)


def stream_name(instrument: Instrument) -> str:
    """The exchange's name of an instrument's aggregate trades."""
    return f"{instrument.symbol.lower()}@aggTrade"


@asynccontextmanager
async def open_stream(url: str, instruments: Sequence[Instrument]) -> AsyncIterator["BinanceStream"]:
    """Connect below ``url`` and subscribe to the instruments, which must be of one market. Raises StreamLost."""
    names = [stream_name(each) for each in instruments]
    first = "/".join(quote(name, safe="@") for name in names[:FIRST_NAMES])
    # The scope is cancelled at the end: websockets 17.4 waits for ever where its queue is full.
    with trio.CancelScope() as scope:
        async with AsyncExitStack() as opened:
            with _lost_with_it(url):
                connection = await opened.enter_async_context(
                    connect(
                        f"{url}/stream?streams={first}",
                        open_timeout=OPEN_TIMEOUT_S,
                        close_timeout=1.0,
                        ping_interval=PING_EVERY_S,
                        ping_timeout=PING_TIMEOUT_S,
                        max_size=MOST_BYTES,
                        max_queue=MOST_FRAMES,
                        logger=_LIBRARY,
                    )
                )
            stream = BinanceStream(connection, instruments, url)
            stream.subscribe(instruments[FIRST_NAMES:])
            yield stream
            scope.cancel()


@contextmanager
def _lost_with_it(url: str) -> Iterator[None]:
    """Whatever the library raises, foreign bytes have brought about: a redirect to no address, a TLS that fails,
    fragments without end."""
    try:
        yield
    except Exception as error:
        raise StreamLost(f"{url}: {reason_of(error)}") from error


class BinanceStream:
    """A connection that delivers trades of its instruments."""

    def __init__(self, connection: ClientConnection, instruments: Iterable[Instrument], url: str = "") -> None:
        self._connection = connection
        self._url = url
        self._instruments = {each.symbol: each for each in instruments}
        self._is_combined = True
        self._requests: list[dict[str, Any]] = []
        self._request_at = 0.0
        self._number = self._refusals = 0

    def subscribe(self, instruments: Collection[Instrument]) -> None:
        """Ask for these instruments too, as soon as the exchange's limit on messages allows."""
        self._instruments |= {each.symbol: each for each in instruments}
        self._request("SUBSCRIBE", [stream_name(each) for each in instruments])

    def unsubscribe(self, instruments: Collection[Instrument]) -> None:
        """Ask for these instruments no more; what still comes of them is ignored."""
        for each in instruments:
            self._instruments.pop(each.symbol, None)
        self._request("UNSUBSCRIBE", [stream_name(each) for each in instruments])

    async def receive(self, wait_s: float) -> StreamBatch:
        """What has arrived, in order of arrival: at least one message, unless none comes for ``wait_s``. Raises
        StreamLost."""
        batch = StreamBatch()
        try:
            await self._send_requests()
            with trio.move_on_after(wait_s):
                self._take(await self._next(), batch)
            frames = self._connection.recv_messages.recv_frames.statistics().current_buffer_used
            # Of a message in several frames not all may be here: those before it do not wait for it.
            with trio.move_on_after(WHOLE_WITHIN_S):
                for _ in range(min(BATCH, frames)):
                    self._take(await self._next(), batch)
        except StreamLost:
            if not batch.trades:
                raise
        return batch

    async def _next(self) -> bytes:
        with _lost_with_it(self._url):
            return await self._connection.recv(decode=False)

    async def _send_requests(self) -> None:
        if self._requests and trio.current_time() >= self._request_at:
            self._request_at = trio.current_time() + REQUEST_EVERY_S
            with _lost_with_it(self._url):
                await self._connection.send(json.dumps(self._requests.pop(0)))

    def _request(self, method: str, names: list[str]) -> None:
        for start in range(0, len(names), NAMES_A_REQUEST):
            self._number += 1
            params = names[start : start + NAMES_A_REQUEST]
            self._requests.append({"method": method, "params": params, "id": self._number})

    def _take(self, text: bytes, batch: StreamBatch) -> None:
        trade = self._decoded(text)
        if trade is None:
            self._take_other(text, batch)
            return
        instrument = self._instruments.get(trade.s) or self._instruments.get(trade.s.upper())
        if trade.e != "aggTrade" or not is_plausible(trade):
            batch.garbage += 1
        elif instrument is not None:
            if EARLIEST_MS <= trade.E <= LATEST_MS:
                batch.event_ms = max(batch.event_ms, trade.E)
            batch.trades.setdefault(instrument, []).append(trade)

    def _decoded(self, text: bytes) -> _Trade | None:
        """The trade of a message, wrapped or raw: whichever came last is tried first."""
        for _ in range(2):
            try:
                return _COMBINED.decode(text).data if self._is_combined else _RAW.decode(text)
            except _UNREADABLE:
                self._is_combined = not self._is_combined
        return None

    def _take_other(self, text: bytes, batch: StreamBatch) -> None:
        try:
            document = msgspec.json.decode(text)
        except _UNREADABLE:
            document = None
        data = document.get("data", document) if isinstance(document, dict) else None
        if isinstance(data, dict) and data.get("e") == SHUTDOWN:
            batch.is_ending = True
        elif isinstance(data, dict) and "error" in data and self._refusals < MOST_REFUSALS:
            self._refusals += 1
            batch.refusals.append(plain(str(data["error"])))
        elif not (isinstance(data, dict) and "result" in data):
            batch.garbage += 1
