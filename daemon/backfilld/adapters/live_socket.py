"""The daemon's live trades for other programs of its user, by a unix socket in its state directory.

Owns the socket, its protocol and the bound on a client. A client sends one line of JSON, what it wants, and gets
messages of msgpack, each after its length in four bytes: where it begins, trades as rows of SCHEMA, and why it ended.

A client may ask for a report instead (:mod:`backfilld.adapters.live_report`). The socket is for its user alone (0600).
It is bound and reached through the open directory.
"""

import os
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from backfilld.actors.live_messages import Beginning, Ended, Frame, TradesSequenced
from backfilld.adapters.live_report import SOCKET_NAME, LiveReport, reached, report_of
from backfilld.core.frame import SCHEMA
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Instrument
from backfilld.errors import SettingsError, StoreError

log = structlog.get_logger()

MOST_CLIENTS = 64
REQUEST_WITHIN_S = 5.0
REQUEST_BYTES = 1024
STALLED_S = 10.0
"""A client that takes nothing for so long is let go."""

BEAT_S = 5.0
"""A client hears from the daemon so often, trades or not."""
STILL_S = 20.0
"""A daemon that a client has not heard from for so long stands still: it is stopped, or its machine is."""

MOST_MESSAGE_BYTES = 64 * 2**20

TOO_SLOW = "too slow"
GONE = "the daemon is gone"
STILL = "the daemon stands still"
NONSENSE = "the daemon sends nonsense"

Subscribe = Callable[[Instrument, int | None], "trio.MemoryReceiveChannel[Frame] | str"]
"""The frames of an instrument from an id on, or why there are none."""


class Wish(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a client wants: an instrument's trades, from an id on as far as they are remembered, or a report."""

    instrument: str = ""
    from_id: int | None = None
    report: bool = False


class Began(msgspec.Struct, tag="began"):
    """The first id that comes."""

    next_id: int


class Rows(msgspec.Struct, tag="rows"):
    """Trades, contiguous by id; each row has the columns of SCHEMA."""

    rows: list[tuple[int, int, float, float, int, int, bool, bool]]


class Over(msgspec.Struct, tag="over"):
    """Nothing more comes; go on from ``next_id``."""

    reason: str
    next_id: int | None = None


_MESSAGE = msgspec.msgpack.Decoder(Began | Rows | Over)
_ENCODER = msgspec.msgpack.Encoder()
_WISH = msgspec.json.Decoder(Wish)


async def serve_live(directory: Path, subscribe: Subscribe, live: Callable[[], LiveStatistics]) -> None:
    """Serve clients until cancelled; ``live`` is how the live side stands. A directory that takes no socket is logged,
    and nobody is served."""
    try:
        listener = _listener(directory)
    except OSError as error:
        log.warning("live_socket_failed", directory=str(directory), error=str(error))
        return
    server = _Server(subscribe, live)
    try:
        await trio.serve_listeners(server.serve, [listener])
    finally:
        # What cannot be deleted, or went with its directory, is in nobody's way: the next daemon takes its place.
        with suppress(OSError):
            _unlink(directory)


def _unlink(directory: Path) -> None:
    with reached(directory) as path:
        Path(path).unlink(missing_ok=True)


def _listener(directory: Path) -> trio.SocketListener:
    directory.mkdir(parents=True, exist_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reached(directory) as path:
        # Only the daemon that has the cache's lock comes here: what is there is left over. A socket that is seen
        # listens: a follower that is refused takes the daemon for one without a live side.
        unseen = f"{path}.new"
        Path(unseen).unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            bound.bind(unseen)
        finally:
            os.umask(mask)
        bound.listen(MOST_CLIENTS)
        Path(unseen).replace(path)
    return trio.SocketListener(trio.socket.from_stdlib_socket(bound))


class _Server:
    def __init__(self, subscribe: Subscribe, live: Callable[[], LiveStatistics]) -> None:
        self._subscribe = subscribe
        self._live = live
        self._clients = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one client until it leaves or is let go."""
        self._clients += 1
        try:
            async with stream:
                await self._serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self._clients -= 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self._clients > MOST_CLIENTS:
            await _send(stream, Over(f"{MOST_CLIENTS} clients are served already"))
            return
        wish = await _wish(stream)
        if wish is None:
            await _send(stream, report_of(self._live()))
            return
        frames = wish if isinstance(wish, str) else self._subscribe(*wish)
        if isinstance(frames, str):
            await _send(stream, Over(frames))
            return
        next_id: int | None = None
        async with frames, aclosing(_with_beats(frames)) as beaten:
            async for frame in beaten:
                message = _message(frame)
                if not await _send(stream, message):
                    log.warning("follower_dropped", reason="it takes nothing")
                    return
                next_id = _next_id(frame, next_id)
                if isinstance(message, Over):
                    return
        await _send(stream, Over(TOO_SLOW, next_id))


async def _with_beats(frames: "trio.MemoryReceiveChannel[Frame]") -> AsyncGenerator[Frame | None, None]:
    """The frames, and None wherever none has come for BEAT_S."""
    while True:
        frame: Frame | None = None
        try:
            with trio.move_on_after(BEAT_S):
                frame = await frames.receive()
        except trio.EndOfChannel:
            return
        yield frame


def _message(frame: Frame | None) -> Began | Rows | Over:
    match frame:
        case None:
            return Rows([])
        case Beginning(next_id):
            return Began(next_id)
        case TradesSequenced(trades=trades):
            return Rows([(each.T, each.a, each.p, each.q, each.f, each.l, each.m, each.M) for each in trades])
        case Ended(next_id, reason):
            return Over(reason, next_id)


def _next_id(frame: Frame | None, before: int | None) -> int | None:
    match frame:
        case TradesSequenced(trades=trades):
            return trades[-1].a + 1
        case Beginning(next_id):
            return next_id
        case _:
            return before


async def _send(stream: trio.SocketStream, message: Began | Rows | Over | LiveReport) -> bool:
    """Whether the client took it in time."""
    data = _ENCODER.encode(message)
    with trio.move_on_after(STALLED_S):
        await stream.send_all(len(data).to_bytes(4, "big") + data)
        return True
    return False


async def _wish(stream: trio.SocketStream) -> tuple[Instrument, int | None] | str | None:
    """What the client wants, or what is wrong with that; None if it is a report."""
    text = b""
    with trio.move_on_after(REQUEST_WITHIN_S):
        while b"\n" not in text and len(text) <= REQUEST_BYTES and (more := await stream.receive_some(REQUEST_BYTES)):
            text += more
    try:
        wish = _WISH.decode(text.partition(b"\n")[0])
        return None if wish.report else (Instrument.parse(wish.instrument), wish.from_id)
    except (msgspec.DecodeError, UnicodeDecodeError, SettingsError) as error:
        return f"this is not a request: {error}"


@asynccontextmanager
async def connect_live(
    directory: Path, instrument: Instrument, from_id: int | None
) -> AsyncIterator[AsyncIterator[Frame] | None]:
    """The frames of a running daemon, from ``from_id`` on as far as it remembers; None if none listens there.

    Raises StoreError if the socket belongs to somebody else. The iterator raises EOFError (GONE,
    STILL, NONSENSE) if it brings nothing more.
    """
    stream = await _connected(directory)
    if stream is None:
        yield None
        return
    async with stream:
        wish = msgspec.json.encode(Wish(str(instrument), from_id))
        try:
            await stream.send_all(wish + b"\n")
        except trio.BrokenResourceError:
            yield None
            return
        async with aclosing(_frames(stream, instrument)) as frames:
            yield frames


def _refuse_foreign(path: Path, directory: Path) -> None:
    found = path.stat()
    if found.st_uid not in {os.geteuid(), 0} or not stat.S_ISSOCK(found.st_mode):
        raise StoreError(f"{directory / SOCKET_NAME} is not a socket of this user")


async def _connected(directory: Path) -> trio.SocketStream | None:
    try:
        with reached(directory) as path:
            _refuse_foreign(Path(path), directory)
            return await trio.open_unix_socket(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{directory / SOCKET_NAME}: {error.strerror or error}") from error


async def _frames(stream: trio.SocketStream, instrument: Instrument) -> AsyncGenerator[Frame, None]:
    receive = partial(_exactly, stream, bytearray())
    while True:
        length = int.from_bytes(await receive(4), "big")
        if length > MOST_MESSAGE_BYTES:
            raise EOFError(NONSENSE)
        try:
            message = _MESSAGE.decode(await receive(length))
        except msgspec.DecodeError as error:
            raise EOFError(NONSENSE) from error
        match message:
            case Began(next_id):
                yield Beginning(next_id)
            case Rows([]):
                continue
            case Rows(rows):
                yield TradesSequenced(instrument, [LiveTrade(*row) for row in rows])
            case Over(reason, next_id):
                yield Ended(next_id, reason)
                return


async def _exactly(stream: trio.SocketStream, buffer: bytearray, count: int) -> bytes:
    while len(buffer) < count:
        more = b""
        with trio.move_on_after(STILL_S) as waiting, suppress(trio.BrokenResourceError):
            more = await stream.receive_some(65_536)
        if not more:
            raise EOFError(STILL if waiting.cancelled_caught else GONE)
        buffer += more
    taken = bytes(buffer[:count])
    del buffer[:count]
    return taken


assert list(SCHEMA) == list(LiveTrade.__struct_fields__)  # noqa: S101 - rows are sent by place
