"""The listing of Binance's public archive: which days of which instruments are published, and how large they are.

S3's ListObjects, version 1. Owns its address, its pages and their bounds. No request costs any request weight.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from functools import lru_cache
from urllib.parse import quote
from xml.sax.saxutils import unescape

import httpx
import trio

from backfilld.adapters.archive_retry import persistently
from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, Market
from backfilld.core.retry import Backoff
from backfilld.errors import SettingsError, TransientError, UnexpectedAnswer

PUBLIC, PUBLIC_LISTING = "https://data.binance.vision", "https://s3-ap-northeast-1.amazonaws.com/data.binance.vision"
"""The archive's own host does not list; its bucket does."""

MOST_PAGES = 64
"""The most pages of one listing that are read. A page has 1000 keys, a day two: ten years of an instrument are 8."""

MOST_PAGE_BYTES = 4 << 20

BACKOFF = Backoff(deadline_s=30, attempts=6, first_s=0.5, cap_s=8)
"""How long a page is asked for again: a plan of thousands of pages does not end at the first one that times out."""

MOST_PAGE_S = 30.0
"""Until all of a page is there, however it drips: it has 400 kB."""

_ENTRY = re.compile(rb"<Key>[^<]*-aggTrades-(\d{4}-\d\d-\d\d)\.zip</Key>.*?<Size>(\d{1,12})</Size>", re.DOTALL)
_LAST_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_PREFIX = re.compile(rb"<CommonPrefixes><Prefix>([^<]*)</Prefix>")
_TRUNCATED = b"<IsTruncated>true</IsTruncated>"


@asynccontextmanager
async def open_listing(archive_url: str, timeout_s: float) -> "AsyncIterator[ArchiveListing]":
    """The listing that belongs to an archive."""
    url = PUBLIC_LISTING if archive_url.rstrip("/") == PUBLIC else archive_url.rstrip("/")
    async with httpx.AsyncClient(timeout=timeout_s, headers={"user-agent": "backfilld"}) as http:
        yield ArchiveListing(http, url)


class ArchiveListing:
    """Raises ExchangeError for what is not a listing, or does not come."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    async def days(self, instrument: Instrument, first: date, last: date) -> dict[date, int]:
        """The bytes of each published day's zip from ``first`` to ``last``."""
        folder = f"data/{_folder(instrument.market)}/{instrument.symbol}/"
        marker = f"{folder}{instrument.symbol}-aggTrades-{first:%Y-%m-%d}"
        found: dict[date, int] = {}
        async for page in self._pages(folder, marker=marker):
            for day, size in _ENTRY.findall(page):
                found[_date(day)] = int(size)
            if found and max(found) > last:
                break
        return {day: size for day, size in found.items() if first <= day <= last}

    async def instruments(self, market: Market) -> list[Instrument]:
        """The instruments that have a folder, those that are delisted by now included."""
        prefix = f"data/{_folder(market)}/"
        names = []
        async for page in self._pages(prefix, delimiter="/"):
            names += [unescape(name.decode()).removeprefix(prefix).strip("/") for name in _PREFIX.findall(page)]
        return [each for name in names if (each := _instrument(market, name)) is not None]

    async def _pages(self, prefix: str, *, marker: str = "", delimiter: str = "") -> AsyncIterator[bytes]:
        for _ in range(MOST_PAGES):
            query = f"prefix={quote(prefix, safe='')}&marker={quote(marker, safe='')}"
            body = await self._page(f"{query}&delimiter={quote(delimiter, safe='')}" if delimiter else query)
            yield body
            if _TRUNCATED not in body:
                return
            last = (_PREFIX if delimiter else _LAST_KEY).findall(body)
            if not last or (following := unescape(last[-1].decode())) <= marker:
                raise UnexpectedAnswer(f"{self._url}: the listing of {prefix} goes on, and names no key to go on from")
            marker = following
        raise UnexpectedAnswer(f"{self._url}: the listing of {prefix} has more than {MOST_PAGES} pages")

    async def _page(self, query: str) -> bytes:
        """One page, asked for again after what time may mend."""
        return await persistently(lambda: self._answer(f"{self._url}/?{query}"), BACKOFF)

    async def _answer(self, address: str) -> bytes:
        reason = f"it did not come within {MOST_PAGE_S:g} s"
        with trio.move_on_after(MOST_PAGE_S):
            try:
                async with self._http.stream("GET", address) as answer:
                    body = await self._bounded(answer)
            except httpx.HTTPError as error:
                reason = type(error).__name__
            else:
                if answer.status_code == httpx.codes.OK and b"<ListBucketResult" in body:
                    return body
                reason = f"status {answer.status_code}"
                if answer.status_code < 500 and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:  # noqa: PLR2004
                    raise UnexpectedAnswer(f"{self._url}: the archive's listing was answered with {reason}")
        raise TransientError(f"{self._url}: the archive's listing did not come: {reason}")

    async def _bounded(self, answer: httpx.Response) -> bytes:
        body = b""
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > MOST_PAGE_BYTES:
                raise UnexpectedAnswer(f"{self._url}: a page of the listing has over {MOST_PAGE_BYTES} bytes")
        return body


def _folder(market: Market) -> str:
    return f"{RULES[market].archive_folder}/daily/aggTrades".removeprefix("data/")


def _instrument(market: Market, name: str) -> Instrument | None:
    try:
        return Instrument.parse(f"{market}:{name}")
    except SettingsError:
        return None


@lru_cache(maxsize=10_000)
def _date(text: bytes) -> date:
    return date.fromisoformat(text.decode())
