"""The paths, the names and the messages of the exchange's streams, and nothing else."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.model import Instrument, Market
from backfilld.core.serving.stream_requests import BadRequest, Target, names_of, parse_name, parse_request, parse_target

TRADES = "btcusdt@aggTrade"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"/ws/{TRADES}", Target(Market.SPOT, is_combined=False, names=(TRADES,))),
        (f"/ws/{TRADES}/ethusdt@kline_1m", Target(Market.SPOT, is_combined=False, names=(TRADES, "ethusdt@kline_1m"))),
        ("/ws/btcusdt%40aggTrade", Target(Market.SPOT, is_combined=False, names=(TRADES,))),
        ("/ws", Target(Market.SPOT, is_combined=False)),
        ("/ws/", Target(Market.SPOT, is_combined=False)),
        ("/ws/12", Target(Market.SPOT, is_combined=False)),
        (f"/stream?streams={TRADES}/x", Target(Market.SPOT, is_combined=True, names=(TRADES, "x"))),
        ("/stream", Target(Market.SPOT, is_combined=True)),
        ("/stream/ws/0", Target(Market.SPOT, is_combined=True)),
        ("/stream/ws", Target(Market.SPOT, is_combined=True)),
        (f"/market/ws/{TRADES}", Target(Market.UM, is_combined=False, names=(TRADES,))),
        ("/public/stream", Target(Market.UM, is_combined=True)),
        ("/market/stream/ws/3", Target(Market.UM, is_combined=True)),
        ("/cm/ws", Target(Market.CM, is_combined=False)),
        ("/cm/market/stream", Target(Market.CM, is_combined=True)),
    ],
)
def test_the_paths_of_clients(path: str, target: Target) -> None:
    assert parse_target(path) == target


@pytest.mark.parametrize("path", ["", "/", "/wss", "/x/ws", "/ws2", "/stream/x", "/private/ws", "/market", "ws"])
def test_other_paths_are_none(path: str) -> None:
    assert parse_target(path) is None


@pytest.mark.parametrize(
    ("market", "text", "symbol"),
    [
        (Market.SPOT, TRADES, "BTCUSDT"),
        (Market.CM, "btcusd_perp@aggTrade", "BTCUSD_PERP"),
        (Market.SPOT, "btcusdt@kline_1M", "BTCUSDT"),
        (Market.SPOT, "btcusdt@kline_1d@+08:00", "BTCUSDT"),
    ],
)
def test_names_that_are_served(market: Market, text: str, symbol: str) -> None:
    found = parse_name(market, text)
    assert found is not None
    assert found.instrument == Instrument.parse(f"{market}:{symbol}")


@pytest.mark.parametrize(
    "text",
    ["", "@aggTrade", "BTCUSDT@aggTrade", "btcusdt@AGGTRADE", "btcusdt@trade", "btcusdt@kline_7m", "a b@aggTrade"],
)
def test_other_names_are_not(text: str) -> None:
    assert parse_name(Market.SPOT, text) is None


def test_candles_of_futures_are_not_served() -> None:
    assert parse_name(Market.UM, "btcusdt@kline_1m") is None


@pytest.mark.parametrize("request_id", [None, 0, -1, 2**53, "", "x" * 36, "4e5f"])
def test_an_id_is_echoed(request_id: object) -> None:

    text = msgspec.json.encode({"method": "SUBSCRIBE", "params": [TRADES], "id": request_id})
    request = parse_request(text)
    assert request.id == request_id
    assert [name.text for name in names_of(request, Market.SPOT)] == [TRADES]


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_request_or_a_bad_one(text: bytes) -> None:
    with suppress(BadRequest):
        names_of(parse_request(text), Market.SPOT)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        "{}",
        '{"method":1}',
        '{"method":"X","id":true}',
        '{"method":"X","id":1.5}',
        '{"method":"X","params":{"a":1}}',
        "[" * 5000,
    ],
)
def test_a_bad_request_has_a_code(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_request(text.encode())


def test_one_name_that_is_not_served_refuses_all_of_them() -> None:
    request = parse_request(b'{"method":"SUBSCRIBE","params":["btcusdt@aggTrade","btcusdt@depth"],"id":1}')
    with pytest.raises(BadRequest, match="btcusdt@depth"):
        names_of(request, Market.SPOT)
