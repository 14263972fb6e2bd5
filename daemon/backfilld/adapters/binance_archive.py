"""Binance's public archive over HTTP: is a day published, how large is it, have it on disk.

Owns the layout of the archive, how a download goes on after it was cut, and when it is given up. What is in a file is
read by :mod:`backfilld.store.archive_import.archivefile`. No request costs any request weight.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar, TypeVarTuple
from urllib.parse import quote

import httpx
import trio

from backfilld.adapters.archive_answers import (
    MOST_CHECKSUM_BYTES,
    absent,
    refusal_of,
    resumed_at,
    sha256_in,
    size_in,
    where,
)
from backfilld.adapters.archive_pace import Pace, Paced, Tempo, chunks_of
from backfilld.adapters.archive_retry import persistently
from backfilld.adapters.routes import reason_of
from backfilld.adapters.spool import Spool, same_bytes
from backfilld.core.liveness import Waits
from backfilld.core.markets import RULES
from backfilld.core.model import Instrument
from backfilld.errors import ArchiveError, TransientError, Unreachable
from backfilld.ports import Published
from backfilld.store.atomic import translated

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOST_ZIP_BYTES = 512 << 20
"""The largest file that is downloaded: a day of 2 million trades has 25 MB."""

LONGEST_ETAG = 200
CONNECT_S = 5.0


@asynccontextmanager
async def open_archive(
    base_url: str, directory: Path, tempo: Tempo | None = None, waits: Waits | None = None
) -> "AsyncIterator[BinanceArchive]":
    """The archive at ``base_url``, its files kept in ``directory`` while they are needed. One for the process.
    ``waits`` shows those for the disk to whoever watches."""
    # Loading the CA bundle takes 150 ms; plain HTTP needs none.
    verify = httpx.create_ssl_context() if base_url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # What is hashed must be the bytes that were published, not a packing of them.
    headers = {"accept-encoding": "identity", "user-agent": "backfilld"}
    # How slow an answer may be is Tempo's.
    patience = httpx.Timeout(None, connect=CONNECT_S)
    async with httpx.AsyncClient(verify=verify, timeout=patience, headers=headers) as http:
        yield BinanceArchive(http, base_url, directory, tempo or Tempo(), waits or Waits())


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is on disk and verified."""

    sha256: str
    bytes: int


class BinanceArchive:
    """Implements :class:`backfilld.ports.ArchiveSource`. Raises ExchangeError, and StoreError if the disk refuses."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, directory: Path, tempo: Tempo, waits: Waits) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._directory = directory
        self._tempo = tempo
        self._waits = waits

    # -- what the daemon asks

    async def fetch(self, instrument: Instrument, day: date) -> Published | None:
        """Have the day's file on disk; one that is there already is used if it is the one published now. None while
        none is published."""
        target = self._directory / f"{instrument.market}-{file_name(instrument, day)}"
        published = await self.checksum(instrument, day)
        if published is None:
            return None
        if await self._on_disk(same_bytes, target, published):
            return Published(str(target), published, await self._on_disk(_size_on_disk, target))
        got = await self.download(instrument, day, target, published)
        return Published(str(target), got.sha256, got.bytes)

    async def discard(self, published: Published) -> None:
        """Delete the file."""
        with translated(Path(published.path), "delete"):
            await trio.Path(published.path).unlink(missing_ok=True)

    async def size(self, instrument: Instrument, day: date) -> int | None:
        """The bytes of the day's file; None while it is not published."""
        url = self.url(instrument, day)

        async def ask(answer: httpx.Response) -> int | None:
            return None if absent(answer) else size_in(answer)

        return await self._persistently(lambda: self._answered("HEAD", url, ask))

    # -- the steps of it

    async def checksum(self, instrument: Instrument, day: date) -> str | None:
        """The published sha256 of the day's file, in hexadecimal; None while it is not published."""
        url, name = f"{self.url(instrument, day)}.CHECKSUM", file_name(instrument, day)

        async def ask(answer: httpx.Response) -> str | None:
            if absent(answer):
                return None
            if refusal := refusal_of(answer):
                raise refusal
            body = b""
            async with chunks_of(answer) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > MOST_CHECKSUM_BYTES:
                        return sha256_in(body, name, where(answer))  # which refuses it
            return sha256_in(body, name, where(answer))

        return await self._persistently(lambda: self._answered("GET", url, ask))

    async def download(
        self, instrument: Instrument, day: date, target: Path, published: str | None = None
    ) -> Downloaded:
        """Put the day's file at ``target``, verified against its checksum (``published`` if it was read just now).

        A file that does not fit is downloaded once more, and the checksum read again: it may have been published anew
        meanwhile. ArchiveError then (``checksum``), or if there is no such file (``absent``).
        """
        url = self.url(instrument, day)
        published = published or await self.checksum(instrument, day)
        async with self._spooled(target) as spool:
            for _ in range(2):
                await self._persistently(lambda: self._transfer(url, spool))
                sha256 = await self._on_disk(spool.finish)
                if sha256 != published:
                    published = await self.checksum(instrument, day)
                if sha256 == published:
                    await self._on_disk(spool.keep, target)
                    return Downloaded(sha256, spool.size)
                spool.begin_anew()
        raise ArchiveError(f"{url}: its sha256 is {sha256}, and {published} was published", kind="checksum")

    def url(self, instrument: Instrument, day: date) -> str:
        """Where the day's file is."""
        folder = f"{self._base_url}/{RULES[instrument.market].archive_folder}/daily/aggTrades"
        return f"{folder}/{quote(instrument.symbol)}/{quote(file_name(instrument, day))}"

    async def _transfer(self, url: str, spool: Spool) -> None:
        """Get what is missing of the file, or all of it if that fails."""

        async def receive(answer: httpx.Response) -> None:
            if absent(answer):
                raise ArchiveError(f"{where(answer)} is not there, though its checksum is", kind="absent")
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                spool.begin_anew()
                raise TransientError(f"{where(answer)} is shorter than what came of it")
            if refusal := refusal_of(answer, partial=spool.size > 0):
                raise refusal
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                spool.begin_anew(_etag_of(answer))
            elif resumed_at(answer) != spool.size:
                spool.begin_anew()
                raise TransientError(f"{where(answer)} went on elsewhere than it was asked to")
            async with chunks_of(answer) as chunks:
                async for chunk in chunks:
                    if spool.size + len(chunk) > MOST_ZIP_BYTES:
                        raise ArchiveError(f"{where(answer)} is larger than {MOST_ZIP_BYTES:,} bytes", kind="large")
                    if spool.put(chunk, where(answer)):
                        await self._on_disk(spool.write)

        try:
            await self._answered("GET", url, receive, spool.resuming_headers())
        finally:
            with trio.CancelScope(shield=True):
                await self._on_disk(spool.write)

    # -- the disk

    @asynccontextmanager
    async def _spooled(self, target: Path) -> AsyncIterator[Spool]:
        spool = await self._on_disk(Spool, target)
        try:
            yield spool
        finally:
            with trio.CancelScope(shield=True):
                await self._on_disk(spool.close)

    async def _on_disk(self, work: Callable[[*Ts], T], *of: *Ts) -> T:
        with self._waits.wait(f"writing to {self._directory}", trio.current_time()):
            return await trio.to_thread.run_sync(work, *of)

    # -- how it may fail

    async def _answered(
        self,
        method: str,
        url: str,
        use: Callable[[httpx.Response], Awaitable[T]],
        headers: dict[str, str] | None = None,
    ) -> T:
        """What ``use`` makes of the answer, while it comes fast enough."""
        pace = Pace(self._tempo)
        try:
            with pace.scope:
                request = self._http.build_request(method, url, headers=headers)
                answer = await self._http.send(request, stream=True)
                self._http.cookies.clear()
                answer.stream = Paced(answer.stream, pace)  # type: ignore[arg-type]  # of an asynchronous client
                try:
                    return await use(answer)
                finally:
                    with trio.CancelScope(shield=True):
                        await answer.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"{url}: out of reach: {reason_of(error)}") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise TransientError(f"{url}: {reason_of(error)}") from error
        raise TransientError(f"{url}: {pace.complaint}")

    async def _persistently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await persistently(attempt, self._tempo.backoff)


def _etag_of(answer: httpx.Response) -> str | None:
    """The name of this version of the file, if it can be sent back as it is."""
    etag = str(answer.headers.get("etag", ""))
    return etag if etag.isascii() and etag.isprintable() and 0 < len(etag) <= LONGEST_ETAG else None


def file_name(instrument: Instrument, day: date) -> str:
    """The name of the day's file: ``BTCUSDT-aggTrades-2026-01-01.zip``."""
    return f"{instrument.symbol}-aggTrades-{day:%Y-%m-%d}.zip"


def _size_on_disk(path: Path) -> int:
    with translated(path, "read"):
        return path.stat().st_size
