"""The REST client against a real socket: what it asks, and what it makes of every answer that can come."""

import gzip
import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest
import trio
from polars.testing import assert_frame_equal

from backfilld import Instrument
from backfilld.adapters.binance_refusals import without_addresses
from backfilld.adapters.binance_rest import opener
from backfilld.core.backfill.answers import check_page
from backfilld.core.backfill.questions import At, Before, Newest, Page, Query, Since, Tail
from backfilld.core.frame import SCHEMA
from backfilld.core.model import IdRange, Market
from backfilld.core.weight.limits import Limit
from backfilld.errors import ExchangeError, RateLimited, RequestRejected, TransientError, UnexpectedAnswer, Unreachable
from backfilld.ports import MarketInfo, Reply, RestClient
from tests.adapters.conftest import OpenPair
from tests.adapters.raw_server import (
    HTML,
    JSON,
    Answer,
    dripped,
    gzipped,
    raw_server,
    response,
    sent,
    sent_and_closed,
    sent_and_reset,
    silence,
)

BTC = Instrument.parse("spot:BTCUSDT")
ASKED = Page(IdRange(26129, 26130))
ROW = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27781, "T": 1498793709153, "m": True}
ROWS = [ROW | {"M": True}, ROW | {"a": 26130, "f": 27782, "l": 27790, "m": False, "M": False}]
PAGE = json.dumps(ROWS).encode()
DATE = "Tue, 11 Jan 2022 21:04:50 GMT"
DATE_MS = 1_641_935_090_000


def page_of(**changed: Any) -> Answer:
    """A good answer of one row, with some fields changed."""
    return sent(response(200, json.dumps([ROW | changed])))


async def ask(client: RestClient, query: Query = ASKED, instrument: Instrument = BTC) -> Reply[pl.DataFrame]:
    """Ask one question, with a bound on the test that is not the client's."""
    with trio.fail_after(30):
        return await client.trades(instrument, query)


async def error_of(scripted: OpenPair, answer: Answer, **options: Any) -> ExchangeError:
    """What an answer is translated to."""
    async with scripted(answer, **options) as (client, _):
        reply = await ask(client)
    error = reply.read()
    assert isinstance(error, ExchangeError), error
    return error


def frame_of(reply: Reply[pl.DataFrame]) -> pl.DataFrame:
    rows = reply.read()
    assert isinstance(rows, pl.DataFrame), rows
    return rows


# -- asking


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (Page(IdRange(26129, 27128)), {"fromId": "26129", "limit": "1000"}),
        (Page(IdRange(5, 5)), {"fromId": "5", "limit": "1"}),
        (Tail(26129), {"fromId": "26129", "limit": "1000"}),
        (Since(1498793709153, 1), {"startTime": "1498793709153", "limit": "1"}),
        (Page(IdRange(5, 6), 9, overlaps=True), {"fromId": "4", "limit": "3"}),
        (At(26129), {"fromId": "26129", "limit": "1"}),
        (Before(1498793709153), {"endTime": "1498793709152", "limit": "1"}),
        (Newest(26129), {"limit": "1"}),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("market", Market)
async def test_every_question_is_asked_by_the_exchanges_rules(
    scripted: OpenPair, market: Market, query: Query, parameters: dict[str, str]
) -> None:
    """Times are inclusive at both ends, ids and times never come together, every market has its path."""
    path = {"spot": "/api/v3/aggTrades", "um": "/fapi/v1/aggTrades", "cm": "/dapi/v1/aggTrades"}[market]
    async with scripted(sent(response(200, "[]"))) as (client, server):
        await ask(client, query, Instrument(market, "BTCUSDT"))
        asked = urlsplit(server.target)
        assert (asked.path, dict(parse_qsl(asked.query))) == (path, {"symbol": "BTCUSDT"} | parameters)
        assert server.requests[-1].startswith("GET ")
        assert "accept-encoding: gzip\r\n" in server.requests[-1].lower()


async def test_a_symbol_of_another_script_is_sent_as_utf_8(scripted: OpenPair) -> None:
    async with scripted(sent(response(200, "[]"))) as (client, server):
        await ask(client, ASKED, Instrument.parse("spot:币安人生USDT"))
        assert "symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT&" in server.target


async def test_questions_share_one_connection(scripted: OpenPair) -> None:
    async with scripted(sent(response(200, PAGE))) as (client, server):
        for _ in range(3):
            assert frame_of(await ask(client)).height == 2
        assert (len(server.requests), server.connections) == (3, 1)


async def test_a_connection_that_was_closed_meanwhile_is_opened_again(scripted: OpenPair) -> None:
    """After an orderly end, and after a broken answer."""
    script = [sent_and_closed(response(200, PAGE)), sent_and_reset(b"HTTP/1.1 2"), sent(response(200, PAGE))]
    async with scripted(*script) as (client, server):
        results = [(await ask(client)).read() for _ in range(3)]
        assert [type(each) for each in results] == [pl.DataFrame, TransientError, pl.DataFrame]
        assert server.connections == 3


async def test_a_base_url_with_a_slash_at_its_end_is_the_same() -> None:
    async with (
        raw_server(sent(response(200, "[]"))) as server,
        opener({Market.SPOT: (f"{server.url}/",)}, 5)() as client,
    ):
        await ask(client)
        assert server.target.startswith("/api/v3/aggTrades?")


# -- pages


async def test_a_spot_page_becomes_the_typed_frame(scripted: OpenPair) -> None:
    async with scripted(sent(response(200, PAGE))) as (client, _):
        trades = frame_of(await ask(client))
    assert dict(trades.schema) == SCHEMA
    assert trades.rows() == [
        (1498793709153, 26129, 0.01633102, 4.70443515, 27781, 27781, True, True),
        (1498793709153, 26130, 0.01633102, 4.70443515, 27782, 27790, False, False),
    ]


@pytest.mark.parametrize("market", ["um", "cm"])
async def test_futures_pages_have_no_best_match_and_may_have_more_fields(scripted: OpenPair, market: str) -> None:
    """M is true where it is missing; nq, and whatever comes next year, is left out."""
    async with scripted(page_of(nq="1.5", new=[{"deep": None}])) as (client, _):
        trades = frame_of(await ask(client, instrument=Instrument(Market(market), "BTCUSDT")))
    assert trades.rows() == [(1498793709153, 26129, 0.01633102, 4.70443515, 27781, 27781, True, True)]


async def test_an_empty_page_is_an_empty_frame(scripted: OpenPair) -> None:
    async with scripted(sent(response(200, "[]"))) as (client, _):
        trades = frame_of(await ask(client))
    assert trades.is_empty()
    assert dict(trades.schema) == SCHEMA


async def test_marker_rows_and_the_largest_ids_are_values_like_others(scripted: OpenPair) -> None:
    async with scripted(page_of(a=2**53, f=-1, l=-1, p="0.00000000", q="0.00000000")) as (client, _):
        assert frame_of(await ask(client)).row(0)[1:6] == (2**53, 0.0, 0.0, -1, -1)


@pytest.mark.parametrize("body", [gzipped(PAGE), gzipped(json.dumps(ROWS, indent=2).encode())], ids=["flat", "spread"])
async def test_a_compressed_page_is_the_same(scripted: OpenPair, body: bytes) -> None:
    async with scripted(sent(body), sent(response(200, PAGE))) as (client, _):
        assert_frame_equal(frame_of(await ask(client)), frame_of(await ask(client)))


async def test_a_chunked_page_is_the_same(scripted: OpenPair) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (PAGE[:7], PAGE[7:])) + b"0\r\n\r\n"
    async with scripted(sent(head + chunks)) as (client, _):
        assert frame_of(await ask(client)).height == 2


# -- refusals


WEIGHT = "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."
BANNED = f"Way too much request weight used; IP banned until {DATE_MS + 90_000}. Please use WebSocket Streams."
BANNED_UM = f"Way too many requests; IP(192.0.2.97) banned until {DATE_MS + 90_000}. Please use the websocket."


def refused(code: int, message: str) -> str:
    return json.dumps({"code": code, "msg": message})


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait_s"),
    [
        (429, {"retry-after": "35"}, refused(-1003, WEIGHT), 35),
        (429, {"Retry-After": "7"}, "<html>", 7),
        (429, {}, refused(-1003, WEIGHT), None),
        (429, {"retry-after": "soon"}, refused(-1003, WEIGHT), None),
        (429, {"retry-after": "-5"}, "", None),
        (429, {"retry-after": "1.5"}, "", None),
        (418, {"retry-after": "120", "date": DATE}, refused(-1003, BANNED), 120),
        (418, {"retry-after": "60", "date": DATE}, refused(-1003, BANNED), 90),
        (418, {"date": DATE}, refused(-1003, BANNED), 90),
        (418, {"retry-after": "60", "date": DATE}, refused(-1003, BANNED_UM), 90),
        (418, {"retry-after": "60"}, refused(-1003, BANNED), 60),
        (418, {}, refused(-1003, BANNED), None),
        (418, {"date": "Tue, 11 Jan 2022 23:04:50 GMT"}, refused(-1003, BANNED), 0),
        (418, {"retry-after": "259200"}, "", 259200),
    ],
)
async def test_429_and_418_are_waits_of_the_later_instant_that_is_named(
    scripted: OpenPair, status: int, headers: dict[str, str], body: str, wait_s: float | None
) -> None:
    """Retry-After is whole seconds; ``banned until`` is server time, so it counts from Date, not from our clock."""
    error = await error_of(scripted, sent(response(status, body, headers)))
    assert isinstance(error, RateLimited)
    assert (error.retry_after_s, error.banned) == (wait_s, status == 418)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, "<H1>403 ERROR</H1> Request blocked."),
        (503, "This distribution exceeded the limit on requests per second."),
    ],
)
async def test_pages_of_the_cdn_ask_for_silence(scripted: OpenPair, status: int, body: str) -> None:
    """They never reached the exchange, and name no time."""
    error = await error_of(scripted, sent(response(status, body, HTML)))
    assert isinstance(error, RateLimited)
    assert error.blocked
    assert not error.banned
    assert error.retry_after_s is None


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (408, JSON, refused(-1007, "Timeout waiting for response from backend server.")),
        (408, HTML, ""),
        (500, JSON, refused(-1000, "An unknown error occurred while processing the request.")),
        (502, HTML, "<h1>502 Bad Gateway</h1>"),
        (503, JSON, refused(-1008, "Server is currently overloaded with other requests.")),
        (504, HTML, ""),
        (400, JSON, refused(-1003, WEIGHT)),
        (400, JSON, refused(-1007, "Timeout waiting for response from backend server.")),
        (400, JSON, refused(-1008, "Request throttled by system-level protection.")),
    ],
)
async def test_what_time_will_fix_is_transient(
    scripted: OpenPair, status: int, headers: dict[str, str], body: str
) -> None:
    error = await error_of(scripted, sent(response(status, body, headers)))
    assert isinstance(error, TransientError)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "body", "code"),
    [
        (400, JSON, refused(-1121, "Invalid symbol."), -1121),
        (400, JSON, refused(-1100, "Illegal characters found in parameter 'symbol'."), -1100),
        (400, JSON, refused(-4166, "Search window is restricted to recent 2 days only."), -4166),
        (451, JSON, refused(0, "Service unavailable from a restricted location."), 0),
        (404, HTML, "<h1>404 Not Found</h1>", None),
        (302, {"location": "http://127.0.0.1:1/"}, "", None),
        (401, HTML, "", None),
        (400, JSON, '{"error": "another service"}', None),
        (400, JSON, b"\xff\xfe", None),
        (204, {}, "", None),
    ],
)
async def test_what_time_will_not_fix_is_rejected_with_status_and_code(
    scripted: OpenPair, status: int, headers: dict[str, str], body: str, code: int | None
) -> None:
    """A code of None says that it was not Binance's REST API that answered: the URL is wrong."""
    error = await error_of(scripted, sent(response(status, body, headers)))
    assert isinstance(error, RequestRejected)
    assert (error.status, error.code) == (status, code)
    assert ("not a base URL of Binance's REST API" in str(error)) == (code is None)


async def test_a_redirect_is_not_followed(scripted: OpenPair) -> None:
    """Else a captive portal would be asked, and asked again."""
    async with scripted(sent(response(302, "", {"location": "/elsewhere"}))) as (client, server):
        await ask(client)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "address",
    ["192.0.2.97", "2001:db8:85a3:0:0:8a2e:370:7334", "2001:DB8::1", "2600::1", "2001:db8:1:2::", "::ffff:192.0.2.97"],
)
async def test_our_address_is_left_out_of_messages(scripted: OpenPair, address: str) -> None:
    """The ban of the futures names it, and logs travel. The instant and the rest of the sentence stay."""
    body = refused(-1003, f"Way too many requests; IP({address}) banned until 1746327239762. Please use websockets.")
    said = str(await error_of(scripted, sent(response(418, body))))
    assert address not in said
    assert "192.0.2" not in said
    assert "<address>) banned until 1746327239762. Please use websockets." in said


@pytest.mark.parametrize("text", ["-1121 Invalid symbol.", "at 21:04:50 on 2022-01-11", "1.2.3", "ids 1 to 2"])
def test_what_is_not_an_address_stays(text: str) -> None:
    assert without_addresses(text) == text


# -- what comes beside the body


@pytest.mark.parametrize("status", [200, 400, 429, 418, 500])
async def test_usage_and_server_time_are_read_off_every_answer(scripted: OpenPair, status: int) -> None:
    headers = JSON | {"x-mbx-used-weight": "17", "X-Mbx-Used-Weight-1M": "18", "date": DATE}
    async with scripted(sent(response(status, "[]", headers))) as (client, _):
        usage = (await ask(client)).usage
    assert usage.used == {"1m": 18}
    assert (usage.server_ms, usage.precision_ms) == (DATE_MS, 1000)


async def test_used_weight_of_any_interval_and_case_is_read(scripted: OpenPair) -> None:
    names = ["X-MBX-USED-WEIGHT-1M", "x-mbx-used-weight-10s", "X-Mbx-Used-Weight-5h", "x-MBX-used-WEIGHT-1D"]
    headers = {name: str(number) for number, name in enumerate(names)} | {"x-mbx-order-count-1m": "9"}
    async with scripted(sent(response(200, "[]", headers))) as (client, _):
        assert (await ask(client)).usage.used == {"1m": 0, "10s": 1, "5h": 2, "1d": 3}


@pytest.mark.parametrize("value", ["many", "", "-", "1.5"])
async def test_a_used_weight_that_is_not_a_number_is_as_good_as_none(scripted: OpenPair, value: str) -> None:
    """The rows beside it are good; the header says nothing."""
    headers = {"x-mbx-used-weight-1m": value, "x-mbx-used-weight-1d": "5"}
    async with scripted(sent(response(200, PAGE, headers))) as (client, _):
        reply = await ask(client)
    assert reply.usage.used == {"1d": 5}
    assert frame_of(reply).height == 2


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 11 Jan 2022", "Tue, 99 Jan 2022 21:04:50 GMT", "0"])
async def test_a_header_that_is_not_a_date_gives_no_server_time(scripted: OpenPair, date: str) -> None:
    async with scripted(sent(response(200, "[]", {"date": date}))) as (client, _):
        assert (await ask(client)).usage.server_ms is None


async def test_without_headers_there_is_no_usage(scripted: OpenPair) -> None:
    async with scripted(sent(response(200, "[]", {}))) as (client, _):
        usage = (await ask(client)).usage
    assert (usage.used, usage.server_ms) == ({}, None)


# -- broken answers


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<!DOCTYPE html><p>Please accept the terms of this network.", TransientError),
        (b"", TransientError),
        (b"[", TransientError),
        (PAGE[:-1], TransientError),
        (PAGE + b"]", TransientError),
        (b"\x00\xff\xfe\x93garbage", TransientError),
        (b'[{"a": 1, "p": "\xff"}]', UnexpectedAnswer),
        (b"{}", UnexpectedAnswer),
        (b'{"code":0}', UnexpectedAnswer),
        (b'{"code":-1121,"msg":"Invalid symbol."}', UnexpectedAnswer),
        (b"null", UnexpectedAnswer),
        (b'"rows"', UnexpectedAnswer),
        (b"[1, 2]", UnexpectedAnswer),
        (b"[null]", UnexpectedAnswer),
        (b"[[]]", UnexpectedAnswer),
        (b"[{}]", UnexpectedAnswer),
    ],
)
async def test_a_body_that_is_not_a_page_is_refused_though_its_status_is_200(
    scripted: OpenPair, body: bytes, expected: type[ExchangeError]
) -> None:
    assert type(await error_of(scripted, sent(response(200, body)))) is expected


async def test_a_body_nested_beyond_reason_is_refused(scripted: OpenPair) -> None:
    """In a field that is skipped; deep nesting must not end in a RecursionError."""
    body = b'[{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]"
    await error_of(scripted, sent(response(200, body)))


@pytest.mark.parametrize("missing", sorted(ROW))
async def test_a_row_without_a_field_is_refused(scripted: OpenPair, missing: str) -> None:
    row = {name: value for name, value in ROW.items() if name != missing}
    error = await error_of(scripted, sent(response(200, json.dumps([row]))))
    assert isinstance(error, UnexpectedAnswer)
    assert f"`{missing}`" in str(error)


@pytest.mark.parametrize("name", [*ROW, "M"])
async def test_a_null_is_refused(scripted: OpenPair, name: str) -> None:
    assert isinstance(await error_of(scripted, page_of(**{name: None})), UnexpectedAnswer)


@pytest.mark.parametrize("name", ["a", "f", "l", "T"])
@pytest.mark.parametrize("value", [2**63, 2**64, -2, 10**30, 1.5, "x", True, [], {}], ids=repr)
async def test_an_id_or_time_that_is_not_an_int64_is_refused(scripted: OpenPair, name: str, value: object) -> None:
    assert isinstance(await error_of(scripted, page_of(**{name: value})), UnexpectedAnswer)


NOT_NUMBERS = ["", "1,5", "0x10", "1e", "abc", True, [], {}, "NaN", "nan", "Infinity", "-inf", "1e999", "-1"]


@pytest.mark.parametrize("name", ["p", "q"])
@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
async def test_a_price_or_quantity_that_is_not_a_number_is_refused(
    scripted: OpenPair, name: str, value: object
) -> None:
    """By the decoder, or by the check of the page that follows it."""
    async with scripted(page_of(**{name: value})) as (client, _):
        result = (await ask(client)).read()
    if isinstance(result, pl.DataFrame):
        with pytest.raises(UnexpectedAnswer):
            check_page(result, ASKED)
    else:
        assert isinstance(result, UnexpectedAnswer)


async def test_bare_numbers_are_read_as_numbers(scripted: OpenPair) -> None:
    """The exchange writes prices as text; a number is no reason to refuse."""
    async with scripted(page_of(p=0.25, q=3)) as (client, _):
        assert frame_of(await ask(client)).row(0)[2:4] == (0.25, 3.0)


@pytest.mark.parametrize("text", ["0.1", "87648.21000000", "0.00000001", "9007199254740993.5", "1E-7", "123456.789e3"])
async def test_a_price_is_the_nearest_float_of_its_text(scripted: OpenPair, text: str) -> None:
    async with scripted(page_of(p=text)) as (client, _):
        assert frame_of(await ask(client))["p"][0] == float(text)


# -- broken connections


COMPLETE = response(200, PAGE)
BROKEN_GZIP = response(200, b"this is not gzip", JSON | {"content-encoding": "gzip"})
SPOILT_GZIP = response(200, gzip.compress(PAGE)[:-12] + b"\x00" * 12, JSON | {"content-encoding": "gzip"})


@pytest.mark.parametrize(
    "answer",
    [
        sent_and_closed(COMPLETE[:-40]),
        sent_and_closed(COMPLETE[:30]),
        sent_and_closed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n[1"),
        sent_and_closed(b"SSH-2.0-OpenSSH_9.2\r\n"),
        sent_and_closed(bytes(range(256))),
        sent_and_closed(b"HTTP/1.1 999999 X\r\n\r\n"),
        sent_and_closed(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"),
        sent_and_closed(b"HTTP/1.1 200 OK\r\nbroken header\r\n\r\n"),
        sent_and_closed(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000),
        sent_and_closed(b""),
        sent_and_reset(b""),
        sent_and_reset(COMPLETE[:-40]),
    ],
    ids=[
        "cut body",
        "cut head",
        "cut chunk",
        "ssh",
        "bytes",
        "status",
        "length",
        "header",
        "endless head",
        "closed",
        "reset",
        "reset in body",
    ],
)
async def test_a_connection_that_breaks_is_transient(scripted: OpenPair, answer: Answer) -> None:
    error = await error_of(scripted, answer)
    assert type(error) is TransientError
    assert str(error)


@pytest.mark.filterwarnings("ignore:Async generator 'http:ResourceWarning")  # httpx leaves its own to the collector
@pytest.mark.parametrize("body", [BROKEN_GZIP, SPOILT_GZIP], ids=["none", "spoilt"])
async def test_a_broken_compression_is_transient_and_the_connection_is_not_kept_busy(
    scripted: OpenPair, body: bytes
) -> None:
    async with scripted(sent(body), sent(response(200, PAGE)), timeout_s=5) as (client, _):
        assert type((await ask(client)).read()) is TransientError
        assert frame_of(await ask(client)).height == 2


async def test_nobody_there_is_transient() -> None:
    async with opener({Market.SPOT: (f"http://127.0.0.1:{await _closed_port()}",)}, 5)() as client:
        reply = await ask(client)
    assert type(reply.read()) is Unreachable
    assert "out of reach: the connection was refused" in str(reply.read())
    assert (reply.usage.used, reply.usage.server_ms) == ({}, None)


@pytest.mark.parametrize(
    "answer",
    [silence, dripped(COMPLETE * 1000), dripped(COMPLETE[:-20] + b" " * 100_000)],
    ids=["silence", "drip", "drip of a body"],
)
async def test_silence_and_a_slow_drip_end_with_the_total_timeout(scripted: OpenPair, answer: Answer) -> None:
    """Never silent for long, never done: only a bound on the whole request stops it."""
    error = await error_of(scripted, answer, timeout_s=0.3)
    assert type(error) is TransientError
    assert "did not answer aggTrades within 0.3 s" in str(error)


async def test_after_a_timeout_the_next_question_is_asked_on_a_new_connection(scripted: OpenPair) -> None:
    """What is left of the late answer must never be read as the next one."""
    async with scripted(silence, sent(response(200, PAGE)), timeout_s=0.5) as (client, server):
        assert isinstance((await ask(client)).read(), TransientError)
        assert frame_of(await ask(client)).height == 2
        assert server.connections == 2


async def test_being_cancelled_is_not_a_timeout(scripted: OpenPair) -> None:
    """The drain's deadline comes through as what it is, and the client can still be used."""
    async with scripted(silence, sent(response(200, PAGE))) as (client, server):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.trades, BTC, ASKED)
                while not server.requests:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        assert scope.cancelled_caught
        assert frame_of(await ask(client)).height == 2


# -- exchangeInfo


def info(*symbols: str, tick: str = "0.01000000", limits: list[dict[str, object]] | None = None) -> str:
    filters = [{"filterType": "LOT_SIZE"}, {"filterType": "PRICE_FILTER", "tickSize": tick}]
    listed = [{"symbol": symbol, "status": "TRADING", "filters": filters} for symbol in symbols]
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
    return json.dumps({"serverTime": DATE_MS, "rateLimits": [weight] if limits is None else limits, "symbols": listed})


async def info_of(
    scripted: OpenPair, answer: Answer, symbols: tuple[str, ...] = ("BTCUSDT",), market: Market = Market.SPOT
) -> tuple[MarketInfo | ExchangeError, str]:
    async with scripted(answer) as (client, server):
        with trio.fail_after(30):
            reply = await client.market_info(market, symbols)
        return reply.read(), server.target


async def test_spot_is_asked_for_one_symbol_by_its_name(scripted: OpenPair) -> None:
    result, target = await info_of(scripted, sent(response(200, info("BTCUSDT"))))
    assert target == "/api/v3/exchangeInfo?symbol=BTCUSDT"
    assert result == MarketInfo((Limit(6000, 1, "MINUTE"),), {"BTCUSDT": 0.01}, 1641935090000)


async def test_spot_is_asked_for_several_symbols_as_a_json_list(scripted: OpenPair) -> None:
    symbols = ("BTCUSDT", "币安人生USDT")
    result, target = await info_of(scripted, sent(response(200, info(*symbols, "ETHUSDT", tick="0.5"))), symbols)
    query = dict(parse_qsl(urlsplit(target).query))
    assert query == {"symbols": '["BTCUSDT","币安人生USDT"]'}
    assert isinstance(result, MarketInfo)
    assert result.ticks == dict.fromkeys(symbols, 0.5)


@pytest.mark.parametrize(("market", "path"), [(Market.UM, "/fapi/v1"), (Market.CM, "/dapi/v1")])
async def test_futures_are_asked_without_parameters(scripted: OpenPair, market: Market, path: str) -> None:
    """They refuse the parameter, and answer all symbols in any case."""
    result, target = await info_of(scripted, sent(response(200, info("A", "BTCUSDT", "Z"))), market=market)
    assert target == f"{path}/exchangeInfo"
    assert isinstance(result, MarketInfo)
    assert result.ticks == {"BTCUSDT": 0.01}


async def test_a_symbol_that_is_not_listed_is_rejected_as_unknown(scripted: OpenPair) -> None:
    """Futures answer 200 without it, spot refuses with -1121: both come out the same."""
    absent, _ = await info_of(scripted, sent(response(200, info("ETHUSDT"))), market=Market.UM)
    refusal, _ = await info_of(scripted, sent(response(400, refused(-1121, "Invalid symbol."))))
    assert isinstance(absent, RequestRejected)
    assert isinstance(refusal, RequestRejected)
    assert absent.code == refusal.code == -1121
    assert "BTCUSDT" in str(absent)


async def test_limits_on_orders_and_of_unknown_intervals_are_left_out(scripted: OpenPair) -> None:
    kinds = [("REQUEST_WEIGHT", "MINUTE"), ("ORDERS", "SECOND"), ("RAW_REQUESTS", "MINUTE"), ("REQUEST_WEIGHT", "WEEK")]
    limits: list[dict[str, object]] = [
        {"rateLimitType": kind, "interval": interval, "intervalNum": 5, "limit": 7} for kind, interval in kinds
    ]
    result, _ = await info_of(scripted, sent(response(200, info("BTCUSDT", limits=limits))))
    assert isinstance(result, MarketInfo)
    assert result.limits == (Limit(7, 5, "MINUTE"), Limit(7, 5, "MINUTE", by_weight=False))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", UnexpectedAnswer),
        (b"[]", UnexpectedAnswer),
        (b'{"rateLimits": null, "symbols": []}', UnexpectedAnswer),
        (b"<html>", TransientError),
        (b"", TransientError),
    ],
)
async def test_a_body_that_is_not_exchange_info_is_refused(
    scripted: OpenPair, body: bytes, expected: type[ExchangeError]
) -> None:
    result, _ = await info_of(scripted, sent(response(200, body)))
    assert type(result) is expected


@pytest.mark.parametrize("tick", ["0.00000000", "", "coarse", "NaN"])
async def test_a_tick_size_that_is_not_a_number_does_not_stop_a_backfill(scripted: OpenPair, tick: str) -> None:
    """It only bins the point of control: a hundredth stands in for it."""
    result, _ = await info_of(scripted, sent(response(200, info("BTCUSDT", tick=tick))))
    assert isinstance(result, MarketInfo)
    assert result.ticks == {"BTCUSDT": 0.01}


async def _closed_port() -> int:
    """A port of loopback on which nobody listens."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    return port
