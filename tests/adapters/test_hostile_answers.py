"""Answers that mean harm: each is bounded where it enters, and none takes a pause away or crashes."""

import gzip
import json
import resource
import ssl
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from backfilld.adapters import binance_rest
from backfilld.adapters.answer import Answer, headers_in
from backfilld.adapters.binance_answers import MOST_SYMBOLS, decode_info, decode_trades
from backfilld.adapters.binance_refusals import LONGEST_PAUSE_S, MOST_USED_WEIGHTS, pause_of, refusal_in, usage_of
from backfilld.adapters.binance_rest import opener
from backfilld.core.model import EARLIEST_MS, LATEST_MS, MAX_ID, Instrument, Market
from backfilld.core.weight.limits import Limit
from backfilld.errors import (
    ExchangeError,
    RateLimited,
    RequestRejected,
    SettingsError,
    TransientError,
    UnexpectedAnswer,
    Unreachable,
)
from backfilld.ports import MarketInfo
from tests.adapters import raw_server as raw
from tests.adapters.conftest import OpenPair
from tests.adapters.raw_server import JSON, dripped, raw_server, response, sent
from tests.adapters.test_binance_rest import DATE, DATE_MS, PAGE, ROW, ask, error_of, refused

GZIP = JSON | {"content-encoding": "gzip"}


def answer_of(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Answer("https://api.binance.com", "/api/v3/aggTrades", status, headers_in(pairs), body)


# -- bodies


BOMB = gzip.compress(b" " * (200 << 20))


@pytest.mark.parametrize("status", [200, 400, 429])
async def test_a_small_body_that_unpacks_to_hundreds_of_megabytes_takes_no_memory(
    scripted: OpenPair, status: int
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = await error_of(scripted, sent(response(status, BOMB, GZIP)))
    expected = {200: UnexpectedAnswer, 400: RequestRejected, 429: RateLimited}[status]
    assert type(error) is expected
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000, "kB"


@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "deflate", "zstd", "gzip;q=1", "\xff"])
async def test_only_the_one_coding_that_was_asked_for_is_unpacked(scripted: OpenPair, coding: str) -> None:
    twice = gzip.compress(gzip.compress(PAGE))
    head = f"HTTP/1.1 200 X\r\ncontent-length: {len(twice)}\r\ncontent-encoding: {coding}\r\n\r\n".encode("latin-1")
    error = await error_of(scripted, sent(head + twice))
    assert type(error) is UnexpectedAnswer
    assert "gzip was asked for" in str(error)


async def test_a_coding_named_in_two_headers_is_two_codings(scripted: OpenPair) -> None:
    twice = gzip.compress(gzip.compress(PAGE))
    head = f"HTTP/1.1 200 X\r\ncontent-length: {len(twice)}\r\n" + "content-encoding: gzip\r\n" * 2 + "\r\n"
    assert type(await error_of(scripted, sent(head.encode() + twice))) is UnexpectedAnswer


@pytest.mark.parametrize("cut", [1, 4, 8, 20])
async def test_a_gzip_that_is_cut_is_transient(scripted: OpenPair, cut: int) -> None:
    assert type(await error_of(scripted, sent(response(200, gzip.compress(PAGE)[:-cut], GZIP)))) is TransientError


async def test_a_body_without_an_end_is_left_at_its_bound(scripted: OpenPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is given up; the next question gets another."""
    monkeypatch.setattr(binance_rest, "TRADES_BYTES", 100_000)
    sizes: list[int] = []

    async def endless(stream: trio.SocketStream) -> bool:
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"2710\r\n" + b" " * 10_000 + b"\r\n")
            sizes.append(10_000)

    async with scripted(endless, sent(response(200, PAGE))) as (client, server):
        error = (await ask(client)).read()
        assert type(error) is UnexpectedAnswer
        assert "larger than 100,000 bytes" in str(error)
        assert isinstance((await ask(client)).read(), pl.DataFrame)
        assert server.connections == 2


@pytest.mark.parametrize("charset", ["undefined", "hex", "utf-16", "rot13", "nonsense", "idna", "\\"])
@pytest.mark.parametrize("status", [418, 429, 400, 200])
async def test_the_charset_of_an_answer_is_not_looked_at(scripted: OpenPair, charset: str, status: int) -> None:
    headers = {"content-type": f"application/json; charset={charset}", "retry-after": "3600"}
    body = PAGE if status == 200 else refused(-1003, "Way too much").encode()
    async with scripted(sent(response(status, body, headers))) as (client, _):
        result = (await ask(client)).read()
    if status == 200:
        assert isinstance(result, pl.DataFrame)
    elif status == 400:
        assert type(result) is TransientError
    else:
        assert isinstance(result, RateLimited)
        assert result.retry_after_s == 3600


# -- pauses


@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * 1000,
        b"[" * 100_000,
        b'{"code": 1' + b"0" * 5000 + b"}",
        b'{"code": -1003, "msg": ' + b'"x' * 40_000,
        b" " * 200_000,
        BOMB[:3000],
    ],
    ids=["bytes", "deep", "digits", "cut", "large", "gzip"],
)
@pytest.mark.parametrize("coding", ["identity", "gzip", "br"])
@pytest.mark.parametrize("status", [418, 429])
async def test_a_pause_survives_any_body(scripted: OpenPair, status: int, coding: str, body: bytes) -> None:
    error = await error_of(scripted, sent(response(status, body, {"retry-after": "77", "content-encoding": coding})))
    assert isinstance(error, RateLimited)
    assert (error.retry_after_s, error.banned) == (77, status == 418)


@pytest.mark.parametrize("status", [418, 429])
async def test_a_pause_does_not_wait_for_a_body_that_drips_or_breaks(scripted: OpenPair, status: int) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-length: 5000\r\nretry-after: 77\r\n\r\n".encode()

    async def dripping(stream: trio.SocketStream) -> bool:
        await stream.send_all(head)
        return await dripped(b" " * 5000)(stream)

    began_s = trio.current_time()
    for script in (dripping, raw.sent_and_closed(head), raw.sent_and_reset(head + b"{")):
        error = await error_of(scripted, script)
        assert isinstance(error, RateLimited)
        assert error.retry_after_s == 77
    assert trio.current_time() - began_s < 5, "seconds, of a request that may take 10"


@given(st.one_of(st.text(max_size=50), st.integers().map(str), st.from_regex(r"[0-9]{1,400}", fullmatch=True)))
def test_any_text_in_retry_after_is_a_bounded_number_or_none(text: str) -> None:
    answer = Answer("https://api.binance.com", "/", 429, {"retry-after": text})
    pause = pause_of(answer)
    assert pause is not None
    assert pause.retry_after_s is None or 0 <= pause.retry_after_s <= LONGEST_PAUSE_S
    if text.isascii() and text.isdecimal():
        assert pause.retry_after_s == min(int(text), LONGEST_PAUSE_S)


@pytest.mark.parametrize("until_ms", [9_999_999_999_999, 0, DATE_MS + 90_000])
def test_a_ban_lasts_three_days_at_most(until_ms: int) -> None:
    body = refused(-1003, f"IP banned until {until_ms:013}.").encode()
    refusal = refusal_in(answer_of(418, {"date": DATE}, body))
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after_s == min(LONGEST_PAUSE_S, max(0, (until_ms - DATE_MS) / 1000))


# -- headers


@pytest.mark.parametrize(
    ("date", "is_read"),
    [
        (DATE, True),
        ("Fri, 31 Dec 9999 23:59:59 GMT", False),
        ("Thu, 01 Jan 1970 00:00:00 GMT", False),
        ("Thu, 01 Jan 2101 00:00:00 GMT", False),
        ("Tue, 31 Feb 2022 21:04:50 GMT", False),
        ("Tue, 11 Jan 2022 21:04:61 GMT", False),
        ("Tue, 11 Jan 2022 21:04:50 +0900", False),
        ("Tue, 11 Jan 99999999 21:04:50 GMT", False),
        ("\u0661\u0661", False),
    ],
)
def test_a_date_out_of_our_time_is_no_date(date: str, is_read: bool) -> None:
    server_ms = usage_of(Answer("https://api.binance.com", "/", 200, {"date": date})).server_ms
    assert (server_ms == DATE_MS) if is_read else (server_ms is None)


@given(st.text(max_size=60))
def test_any_date_is_within_our_time_or_none(date: str) -> None:
    server_ms = usage_of(Answer("https://api.binance.com", "/", 200, {"date": date})).server_ms
    assert server_ms is None or EARLIEST_MS <= server_ms <= LATEST_MS


def test_used_weights_are_few_and_small() -> None:
    many = {f"x-mbx-used-weight-{number}m": "5" for number in range(1, 90)}
    assert len(usage_of(answer_of(200, many)).used) == MOST_USED_WEIGHTS
    odd = {"x-mbx-used-weight-1m": "9" * 10, "x-mbx-used-weight-2m": "\u0665", f"x-mbx-used-weight-{'9' * 50}m": "1"}
    assert usage_of(Answer("https://api.binance.com", "/", 200, odd)).used == {}


async def test_cookies_are_not_sent_back(scripted: OpenPair) -> None:
    headers = JSON | {"set-cookie": "session=1; Path=/"}
    async with scripted(sent(response(200, PAGE, headers))) as (client, server):
        for _ in range(2):
            await ask(client)
        assert not any("cookie" in each.lower() for each in server.requests)


@pytest.mark.parametrize(
    "message", ["a\nREADY=1", "\x1b]0;title\x07", "x" * 60_000, "\u2028b", "\ud83d", "\x9b2J"], ids=range(6)
)
async def test_a_message_of_the_exchange_is_one_printable_line(scripted: OpenPair, message: str) -> None:
    body = json.dumps({"code": -1100, "msg": message}).encode()
    for status, headers in ((400, JSON), (451, JSON), (429, JSON), (500, JSON)):
        line = str(await error_of(scripted, sent(response(status, body, headers))))
        assert line.isprintable()
        assert len(line) < 500


async def test_a_type_of_an_answer_is_one_printable_line(scripted: OpenPair) -> None:
    head = b"HTTP/1.1 404 X\r\ncontent-length: 0\r\ncontent-type: text\x1b[2J\xff" + b"y" * 5000 + b"\r\n\r\n"
    line = str(await error_of(scripted, sent(head)))
    assert line.isprintable()
    assert len(line) < 500


# -- after good answers


@pytest.mark.parametrize("strange", [(404, "<h1>"), (302, ""), (400, "not JSON"), (204, "")])
async def test_a_strange_answer_is_transient_once_the_host_has_answered_well(
    scripted: OpenPair, strange: tuple[int, str]
) -> None:
    """At the start it says that the base URL is wrong; in the middle it does not end a daemon."""
    script = sent(response(strange[0], strange[1], raw.HTML))
    async with scripted(script, sent(response(200, PAGE)), script) as (client, _):
        results = [(await ask(client)).read() for _ in range(3)]
    assert [type(each) for each in results] == [RequestRejected, pl.DataFrame, TransientError]


# -- rows


@pytest.mark.parametrize(
    "changed",
    [{"a": MAX_ID + 1}, {"l": 10**400}, {"T": LATEST_MS + 1}, {"a": -2}, {"a": 1.5}, {"T": -1}],
    ids=str,
)
def test_numbers_beyond_all_bounds_are_not_rows(changed: dict[str, Any]) -> None:
    assert isinstance(decode_trades(json.dumps([ROW | changed]).encode()), UnexpectedAnswer)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_rows_or_an_error(body: bytes) -> None:
    assert isinstance(decode_trades(body), pl.DataFrame | ExchangeError)


def test_ten_thousand_digits_and_lists_a_million_deep_are_errors() -> None:
    for body in (b"[" * 1_000_000, b'[{"a":' + b"9" * 10_000 + b"}]", b'{"a":' * 100_000):
        assert isinstance(decode_trades(body), ExchangeError)
        assert isinstance(decode_info(body, ["BTCUSDT"]), ExchangeError)


# -- exchangeInfo


def info_with(symbol: Mapping[str, Any] | None = None, **changed: Any) -> bytes:
    whole = {"rateLimits": [], "symbols": [{"symbol": "BTCUSDT"} | dict(symbol or {})], "serverTime": DATE_MS} | changed
    return json.dumps(whole).encode()


@given(
    st.dictionaries(st.sampled_from(["rateLimits", "symbols", "serverTime"]), JSON_VALUES),
    st.dictionaries(st.sampled_from(["filters", "onboardDate", "symbol"]), JSON_VALUES),
    st.lists(st.dictionaries(st.sampled_from(["rateLimitType", "interval", "intervalNum", "limit"]), JSON_VALUES)),
)
def test_any_exchange_info_is_bounded_or_an_error(
    changed: dict[str, Any], symbol: dict[str, Any], limits: list[dict[str, Any]]
) -> None:
    result = decode_info(info_with(symbol, **({"rateLimits": limits} | changed)), ["BTCUSDT"])
    assert isinstance(result, MarketInfo | ExchangeError)
    if isinstance(result, MarketInfo):
        assert all(1 <= each.count <= 60 and 1 <= each.limit <= 10**7 for each in result.limits)
        assert all(1e-12 <= tick <= 1e9 for tick in result.ticks.values())
        assert result.server_ms is None or EARLIEST_MS <= result.server_ms <= LATEST_MS


@pytest.mark.parametrize("count", [0, -1, 61, 10**9, 1.0, "1", None, True])
@pytest.mark.parametrize("limit", [0, -5, 2**63, 10**400, "6000", None])
def test_a_limit_that_makes_no_sense_is_not_said(count: object, limit: object) -> None:
    sound = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
    odd = [sound | {"intervalNum": count}, sound | {"limit": limit}, sound | {"interval": ["MINUTE"]}]
    result = decode_info(info_with(rateLimits=[*odd, sound]), ["BTCUSDT"])
    assert isinstance(result, MarketInfo)
    assert result.limits == (Limit(6000, 1, "MINUTE"),)


@pytest.mark.parametrize("tick", ["1e-300", "5e-324", "1e10", "-1", "inf", "nan", 0.5, None, "1" * 100, "1_0_0"])
def test_a_tick_that_makes_no_sense_is_a_hundredth(tick: object) -> None:
    filters = [{"filterType": "PRICE_FILTER", "tickSize": tick}]
    result = decode_info(info_with({"filters": filters}), ["BTCUSDT"])
    assert isinstance(result, MarketInfo)
    assert result.ticks["BTCUSDT"] in {0.01, 100.0}


@pytest.mark.parametrize(
    ("onboard", "onboard_ms"),
    [(1_569_398_400_000, 1_569_398_400_000), (0, None), ("soon", None), (True, None), (None, None)],
)
def test_a_listing_is_read_where_it_makes_sense(onboard: object, onboard_ms: int | None) -> None:
    result = decode_info(info_with({"onboardDate": onboard}), ["BTCUSDT"])
    assert isinstance(result, MarketInfo)
    assert result.onboard_ms.get("BTCUSDT") == onboard_ms


def test_more_symbols_than_any_exchange_has_are_refused() -> None:
    symbols = [{"symbol": f"S{number}"} for number in range(MOST_SYMBOLS + 1)]
    assert isinstance(decode_info(info_with(symbols=symbols), ["S1"]), UnexpectedAnswer)
    assert isinstance(decode_info(info_with(symbols=symbols[1:]), ["S1"]), MarketInfo)


def test_a_misspelt_symbol_is_named_with_its_nearest() -> None:
    result = decode_info(info_with(), ["BTCUSDTT"])
    assert isinstance(result, RequestRejected)
    assert "Did you mean BTCUSDT?" in str(result)


# -- ways to the host


async def _failure(url: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> ExchangeError:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with opener({Market.SPOT: (url,)}, 5)() as client:
        result = (await ask(client, instrument=Instrument.parse("spot:BTCUSDT"))).read()
    assert isinstance(result, ExchangeError)
    return result


async def _closed_port() -> int:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    return port


async def test_why_a_host_is_out_of_reach_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    refused_url = f"http://127.0.0.1:{await _closed_port()}"
    assert "the connection was refused" in str(await _failure(refused_url, monkeypatch))
    assert "not found in DNS" in str(await _failure("http://nowhere.invalid", monkeypatch))
    async with raw_server(raw.sent_and_closed(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:

        async def answering(stream: trio.SocketStream) -> None:
            await stream.receive_some(100)
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, answering, listeners)
            error = await _failure(f"https://127.0.0.1:{port}", monkeypatch)
            nursery.cancel_scope.cancel()
        assert server.connections == 0
    assert isinstance(error, Unreachable)
    assert "TLS failed" in str(error)
    assert "Error" not in str(error)


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_a_proxy_that_is_out_of_reach_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    port = await _closed_port()
    error = await _failure("http://10.1.2.3", monkeypatch, ALL_PROXY=f"{scheme}://me:hunter2@127.0.0.1:{port}")
    assert f"through the proxy {scheme}://127.0.0.1:{port}" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1", "socks4://127.0.0.1:1", "http://", "http://h:99999"])
async def test_what_is_not_a_proxy_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    with pytest.raises(SettingsError, match="a proxy is http://"):
        await _failure("http://10.1.2.3", monkeypatch, ALL_PROXY=proxy)


async def test_hosts_that_the_environment_excludes_are_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{await _closed_port()}"
    error = await _failure(url, monkeypatch, HTTP_PROXY="http://10.0.0.1:1", NO_PROXY="127.0.0.1")
    assert "proxy" not in str(error)


def test_https_never_falls_back_to_http() -> None:
    for urls in (("https://a", "http://b"), ("http://b", "https://a")):
        with pytest.raises(SettingsError, match="https never falls back to http"):
            opener({Market.SPOT: urls}, 5)


async def test_a_self_signed_certificate_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a certificate to serve, the reason is checked on the error that the library raises."""
    from backfilld.adapters.routes import reason_of  # noqa: PLC0415 - one test

    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    inner.verify_message = "self-signed certificate"
    outer = RuntimeError("outer")
    outer.__cause__ = inner
    assert reason_of(outer) == "its TLS certificate is not accepted (self-signed certificate)"
