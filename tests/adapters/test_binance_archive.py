"""The archive over real sockets: what is published, how a download survives, and what is never taken for a file."""

import hashlib
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import pytest
import trio

from backfilld.adapters import binance_archive
from backfilld.adapters.archive_pace import Tempo
from backfilld.adapters.binance_archive import BinanceArchive, open_archive
from backfilld.adapters.spool import Spool
from backfilld.core.liveness import Waits
from backfilld.core.model import Instrument
from backfilld.core.retry import Backoff
from backfilld.errors import ArchiveError, ExchangeError, RequestRejected, TransientError, UnexpectedAnswer
from tests.adapters.raw_server import (
    HTML,
    Answer,
    RawServer,
    dripped,
    raw_server,
    response,
    sent,
    sent_and_closed,
    sent_and_reset,
    silence,
)

DAY = date(2026, 1, 1)
SPOT = Instrument.parse("spot:BTCUSDT")
NAME = "BTCUSDT-aggTrades-2026-01-01.zip"
ZIP = {"content-type": "application/zip", "etag": '"one"'}
CONTENT = b"PK\x03\x04" + os.urandom(3_000_000)
TEMPO = Tempo(
    silence_s=0.4, window_s=0.5, least_bytes_per_s=1000, backoff=Backoff(deadline_s=0, attempts=3, first_s=0.001)
)


def checksum(content: bytes = CONTENT, name: str = NAME, end: str = "") -> Answer:
    return sent(response(200, f"{hashlib.sha256(content).hexdigest()}  {name}{end}", {}))


def whole(content: bytes = CONTENT) -> Answer:
    return sent(response(200, content, ZIP))


def cut(content: bytes, after: int, headers: dict[str, str] | None = None) -> Answer:
    head, _, _ = response(200, content, ZIP if headers is None else headers).partition(b"\r\n\r\n")
    return sent_and_reset(head + b"\r\n\r\n" + content[:after])


def dripping(content: bytes) -> Answer:
    """The head at once, the body a byte at a time."""

    async def answer(stream: trio.SocketStream) -> bool:
        head, _, body = response(200, content, ZIP).partition(b"\r\n\r\n")
        await stream.send_all(head + b"\r\n\r\n")
        return await dripped(body)(stream)

    return answer


def rest(content: bytes, start: int) -> Answer:
    return sent(response(206, content[start:], ZIP | {"content-range": f"bytes {start}-{len(content) - 1}/*"}))


@asynccontextmanager
async def archive(directory: Path, *script: Answer) -> AsyncIterator[tuple[BinanceArchive, RawServer]]:
    async with raw_server(*script) as server, open_archive(server.url, directory, TEMPO) as source:
        yield source, server


@pytest.mark.parametrize(
    ("instrument", "path"),
    [
        ("spot:BTCUSDT", "/data/spot/daily/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2026-01-01.zip"),
        (
            "um:BTCUSDT_261225",
            "/data/futures/um/daily/aggTrades/BTCUSDT_261225/BTCUSDT_261225-aggTrades-2026-01-01.zip",
        ),
        ("cm:BTCUSD_PERP", "/data/futures/cm/daily/aggTrades/BTCUSD_PERP/BTCUSD_PERP-aggTrades-2026-01-01.zip"),
        (
            "spot:测试USDT",
            "/data/spot/daily/aggTrades/%E6%B5%8B%E8%AF%95USDT/%E6%B5%8B%E8%AF%95USDT-aggTrades-2026-01-01.zip",
        ),
    ],
)
async def test_each_market_has_its_place(tmp_path: Path, instrument: str, path: str) -> None:
    """And a symbol of any script is percent-encoded."""
    async with archive(tmp_path, sent(response(404))) as (source, server):
        assert await source.checksum(Instrument.parse(instrument), DAY) is None
        assert server.target == f"{path}.CHECKSUM"
        assert await source.size(Instrument.parse(instrument), DAY) is None
        assert server.target == path
        assert await source.fetch(Instrument.parse(instrument), DAY) is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_a_checksum_is_read_with_and_without_a_newline(tmp_path: Path, end: str) -> None:
    async with archive(tmp_path, checksum(end=end)) as (source, _):
        assert await source.checksum(SPOT, DAY) == hashlib.sha256(CONTENT).hexdigest()


async def test_a_checksum_of_another_file_is_refused(tmp_path: Path) -> None:
    async with archive(tmp_path, checksum(name="ETHUSDT-aggTrades-2026-01-01.zip")) as (source, _):
        with pytest.raises(UnexpectedAnswer, match="is the checksum of ETHUSDT"):
            await source.checksum(SPOT, DAY)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"abc  x.zip", b"0" * 5_000_000])
async def test_what_is_not_a_checksum_is_refused(tmp_path: Path, body: bytes) -> None:
    async with archive(tmp_path, sent(response(200, body, {}))) as (source, _):
        with pytest.raises(UnexpectedAnswer, match="is not a checksum"):
            await source.checksum(SPOT, DAY)


async def test_a_file_is_on_disk_whole_and_used_again(tmp_path: Path) -> None:
    """The second time only the checksum is asked for; after it is discarded, the file too."""
    async with archive(tmp_path, checksum(), whole(), checksum(), checksum(), whole()) as (source, server):
        published = await source.fetch(SPOT, DAY)
        assert published is not None
        assert Path(published.path).read_bytes() == CONTENT
        assert (published.bytes, published.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
        assert await source.fetch(SPOT, DAY) == published
        assert len(server.requests) == 3
        await source.discard(published)
        assert list(tmp_path.iterdir()) == []
        assert await source.fetch(SPOT, DAY) == published
        assert len(server.requests) == 5
        assert len(list(tmp_path.iterdir())) == 1


async def test_a_disk_that_hangs_under_a_download_is_shown_to_whoever_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, waits = threading.Event(), Waits()
    monkeypatch.setattr(Spool, "finish", lambda _: hangs.wait(30) and "00" * 32)
    async with raw_server(checksum(), whole()) as server, open_archive(server.url, tmp_path, TEMPO, waits) as source:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.fetch, SPOT, DAY)
            with trio.fail_after(10):
                while waits.overdue(trio.current_time(), 0.2) is None:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
            hangs.set()
    assert waits.overdue(trio.current_time() + 9, 0.2) is None


async def test_a_file_published_anew_is_downloaded_anew(tmp_path: Path) -> None:
    new = CONTENT[:2_000_000]
    async with archive(tmp_path, checksum(), whole(), checksum(new), whole(new)) as (source, _):
        await source.fetch(SPOT, DAY)
        published = await source.fetch(SPOT, DAY)
        assert published is not None
        assert Path(published.path).read_bytes() == new


@pytest.mark.parametrize("after", [0, 1, 3, 1_500_000, len(CONTENT) - 1])
async def test_a_cut_transfer_goes_on_where_it_was(tmp_path: Path, after: int) -> None:
    """Only if the server proves by its tag that it is the same file; bytes lost on the way are asked for again."""
    async with raw_server() as server, open_archive(server.url, tmp_path, TEMPO) as source:

        async def remainder(stream: trio.SocketStream) -> bool:
            head = server.requests[-1].lower()
            if "range: bytes=" not in head:
                return await whole()(stream)
            assert 'if-range: "one"' in head
            start = int(head.split("range: bytes=")[1].split("-")[0])
            assert start <= after
            return await rest(CONTENT, start)(stream)

        server.script = [cut(CONTENT, after), remainder]
        await source.download(SPOT, DAY, tmp_path / "day.zip", hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "day.zip").read_bytes() == CONTENT


async def test_a_file_that_changed_meanwhile_or_has_no_tag_is_got_from_its_beginning(tmp_path: Path) -> None:
    """The server answers a conditional range with the whole file, 200."""
    for headers in (ZIP, {}):
        async with archive(tmp_path, cut(b"PK\x03\x04" + bytes(99_999), 50_000, headers), whole()) as (source, server):
            await source.download(SPOT, DAY, tmp_path / "day.zip", hashlib.sha256(CONTENT).hexdigest())
            assert ("range: bytes" in server.requests[-1].lower()) is (headers is ZIP)
        assert (tmp_path / "day.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "failure",
    [
        sent(response(500)),
        sent(response(503, "<html>", HTML)),
        sent(response(403, "<Error/>")),
        silence,
        sent_and_closed(b""),
    ],
)
async def test_what_time_may_fix_is_tried_again_and_then_given_up(tmp_path: Path, failure: Answer) -> None:
    async with archive(tmp_path, failure, failure, checksum(), failure, failure, whole()) as (source, server):
        assert await source.fetch(SPOT, DAY) is not None
        assert len(server.requests) == 6
    async with archive(tmp_path, failure) as (source, server):
        with pytest.raises(TransientError):
            await source.checksum(SPOT, DAY)
        assert len(server.requests) == 3


async def test_a_drip_is_given_up(tmp_path: Path) -> None:
    """Though no silence is ever long."""
    async with archive(tmp_path, dripping(CONTENT)) as (source, _):
        with pytest.raises(TransientError, match="bytes came in"):
            await source.download(SPOT, DAY, tmp_path / "day.zip", "0" * 64)
    assert list(tmp_path.iterdir()) == []


async def test_a_wrong_file_is_downloaded_once_more_and_then_refused(tmp_path: Path) -> None:
    wrong = b"PK\x03\x04wrong"
    async with archive(tmp_path, checksum(), whole(wrong), checksum(), whole()) as (source, _):
        assert await source.fetch(SPOT, DAY) is not None
    (tmp_path / f"spot-{NAME}").unlink()
    script = (checksum(), whole(wrong), checksum(), whole(wrong), checksum())
    async with archive(tmp_path, *script) as (source, server):
        with pytest.raises(ArchiveError, match="was published") as raised:
            await source.fetch(SPOT, DAY)
        assert raised.value.kind == "checksum"
        assert len(server.requests) == 5
    assert list(tmp_path.iterdir()) == []


async def test_a_checksum_published_during_the_download_counts(tmp_path: Path) -> None:
    """The file was replaced between the two requests: what came is what is published now."""
    async with archive(tmp_path, checksum(b"old"), whole(), checksum()) as (source, server):
        assert await source.fetch(SPOT, DAY) is not None
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (sent(response(200, "<html>Log in</html>", HTML)), UnexpectedAnswer),
        (sent(response(200, "<html>Log in</html>", {"content-type": "application/zip"})), UnexpectedAnswer),
        (sent(response(200, b"<html>" * 500_000, {"content-type": "application/zip"})), UnexpectedAnswer),
        (sent(response(302, "", {"location": "http://example.com/"})), RequestRejected),
        (sent(response(451, "{}")), RequestRejected),
        (sent(response(400, "<Error/>")), RequestRejected),
        (sent(response(206, CONTENT, ZIP)), RequestRejected),
        (sent(response(404)), ArchiveError),
    ],
)
async def test_what_is_not_a_file_is_named_and_not_kept(
    tmp_path: Path, answer: Answer, error: type[ExchangeError]
) -> None:
    async with archive(tmp_path, answer) as (source, server):
        with pytest.raises(error, match=NAME):
            await source.download(SPOT, DAY, tmp_path / "day.zip", "0" * 64)
        assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


async def test_the_size_is_asked_for_without_a_download(tmp_path: Path) -> None:
    head = response(200, b"", ZIP).replace(b"content-length: 0", b"content-length: 16900000")
    async with archive(tmp_path, sent(head)) as (source, server):
        assert await source.size(SPOT, DAY) == 16_900_000
        assert server.requests[0].startswith("HEAD ")
    async with archive(tmp_path, sent(response(200, "<html>", HTML))) as (source, _):
        with pytest.raises(UnexpectedAnswer, match="a page and no file"):
            await source.size(SPOT, DAY)


async def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    async with archive(tmp_path, dripping(CONTENT)) as (source, _):
        with trio.move_on_after(0.2) as scope:
            await source.download(SPOT, DAY, tmp_path / "day.zip", "0" * 64)
        assert scope.cancelled_caught
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"a" * 64 + b" " * 2000 + b"\r" * 2000,
        b"a" * 64 + b"  " + NAME.encode() + b"\n" * 5000,
        b"a" * 64 + b"  other\x1b[2J\n<0>forged",
        b"\xd9\xa5" * 64 + b"  " + NAME.encode(),
    ],
    ids=["blanks", "endless", "control", "digits"],
)
async def test_a_hostile_checksum_costs_nothing_and_is_one_printable_line(tmp_path: Path, body: bytes) -> None:
    async with archive(tmp_path, sent(response(200, body, {}))) as (source, _):
        with pytest.raises(UnexpectedAnswer) as raised, trio.fail_after(5):
            await source.checksum(SPOT, DAY)
    assert str(raised.value).isprintable()


async def test_a_file_larger_than_any_day_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_archive, "MOST_ZIP_BYTES", 1_000_000)
    async with archive(tmp_path, checksum(), whole()) as (source, _):
        with pytest.raises(ArchiveError, match="larger than 1,000,000 bytes"):
            await source.fetch(SPOT, DAY)
    assert list(tmp_path.iterdir()) == []
