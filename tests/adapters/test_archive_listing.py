"""The archive's listing: its pages are asked for again after what time mends, and bounded."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import date

import httpx
import pytest
import trio
import trio.testing

from backfilld.adapters.archive_listing import BACKOFF, MOST_PAGE_S, ArchiveListing
from backfilld.errors import TransientError, UnexpectedAnswer
from tests.fakes import BTC

DAY = date(2025, 1, 5)
GOOD = (
    "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>data/spot/daily/aggTrades/BTCUSDT/"
    f"BTCUSDT-aggTrades-{DAY}.zip</Key><Size>1234</Size></Contents></ListBucketResult>"
)
Answer = Callable[[], httpx.Response]


def listing_of(*answers: Answer) -> tuple[ArchiveListing, list[str]]:
    """A listing that answers as scripted, and then always as the last time; and what it was asked."""
    waiting, asked = deque(answers), list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return (waiting.popleft() if len(waiting) > 1 else waiting[0])()

    return ArchiveListing(httpx.AsyncClient(transport=httpx.MockTransport(answer)), "http://archive"), asked


def status(code: int, text: str = "") -> Answer:
    return lambda: httpx.Response(code, text=text)


def broken() -> httpx.Response:
    raise httpx.ReadTimeout("")


class Drip(httpx.AsyncByteStream):
    """A byte a second, without an end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await trio.sleep(1)
            yield b"x"


async def test_what_time_mends_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    listing, asked = listing_of(broken, status(503), status(429), status(200, "<html>"), status(200, GOOD))
    with pytest.raises(UnexpectedAnswer, match="status 200"):
        await listing.days(BTC, DAY, DAY)
    assert await listing.days(BTC, DAY, DAY) == {DAY: 1234}
    assert len(asked) == 5


async def test_patience_with_a_page_ends(autojump_clock: trio.testing.MockClock) -> None:
    listing, asked = listing_of(broken)
    began = trio.current_time()
    with pytest.raises(TransientError, match="did not come: ReadTimeout"):
        await listing.days(BTC, DAY, DAY)
    assert BACKOFF.attempts <= len(asked) <= 3 * BACKOFF.attempts
    assert trio.current_time() - began < 2 * BACKOFF.deadline_s


async def test_a_page_that_drips_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    listing, _ = listing_of(lambda: httpx.Response(200, stream=Drip()), status(200, GOOD))
    began = trio.current_time()
    assert await listing.days(BTC, DAY, DAY) == {DAY: 1234}
    assert trio.current_time() - began == pytest.approx(MOST_PAGE_S, abs=1.5)
