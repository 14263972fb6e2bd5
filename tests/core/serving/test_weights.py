"""What a request costs by its path and its parameters, as the documents say, and how long its answer keeps."""

import pytest

from backfilld.core.model import Market
from backfilld.core.serving.weights import UNKNOWN_WEIGHT, has_true_count, kept_s, market_of, route_of, weight_of

SYMBOLS = '["A","B"]'


@pytest.mark.parametrize(
    ("path", "query", "weight"),
    [
        ("/api/v3/ping", "", 1),
        ("/api/v3/exchangeInfo", "symbol=BTCUSDT", 20),
        ("/api/v3/aggTrades", "symbol=BTCUSDT&limit=1000", 4),
        ("/api/v3/klines", "symbol=BTCUSDT&interval=1m&limit=1000", 2),
        ("/api/v3/uiKlines", "", 2),
        ("/api/v3/trades", "", 25),
        *(("/api/v3/depth", f"limit={limit}", weight) for limit, weight in [(1, 5), (100, 5), (101, 25), (500, 25)]),
        *(("/api/v3/depth", f"limit={limit}", weight) for limit, weight in [(1000, 50), (5000, 250), (99999, 250)]),
        ("/api/v3/depth", "symbol=BTCUSDT", 5),
        ("/api/v3/ticker/24hr", "symbol=BTCUSDT", 2),
        ("/api/v3/ticker/24hr", "", 80),
        ("/api/v3/ticker/24hr", f"symbols={SYMBOLS}", 2),
        ("/api/v3/ticker/24hr", "symbols=" + ",".join("A" * 21), 40),
        ("/api/v3/ticker/24hr", "symbols=" + ",".join("A" * 101), 80),
        ("/api/v3/ticker/price", "symbol=BTCUSDT", 2),
        ("/api/v3/ticker/price", "", 4),
        ("/api/v3/ticker/bookTicker", f"symbols={SYMBOLS}", 4),
        ("/api/v3/ticker", f"symbols={SYMBOLS}", 8),
        ("/api/v3/ticker/tradingDay", "symbols=" + ",".join("A" * 100), 200),
        ("/fapi/v1/aggTrades", "limit=1", 20),
        *(("/fapi/v1/klines", f"limit={limit}", weight) for limit, weight in [(99, 1), (100, 2), (499, 2), (500, 5)]),
        *(("/dapi/v1/klines", f"limit={limit}", weight) for limit, weight in [(1000, 5), (1001, 10), (1500, 10)]),
        ("/fapi/v1/klines", "", 5),
        ("/fapi/v1/premiumIndex", "symbol=BTCUSDT", 1),
        ("/fapi/v1/premiumIndex", "", 10),
        ("/dapi/v1/premiumIndex", "symbol=BTCUSD_PERP", 10),
        ("/dapi/v1/ticker/bookTicker", "pair=BTCUSD", 2),
        ("/fapi/v1/ticker/24hr", "", 40),
        ("/fapi/v1/nothing", "", UNKNOWN_WEIGHT),
        ("/elsewhere", "", UNKNOWN_WEIGHT),
        ("/api/v3/depth", "limit=x", 5),
        ("/api/v3/depth", "limit=-1", 5),
        ("/api/v3/depth", "limit=\u0663", 5),
    ],
)
def test_the_weight_is_the_documented_one(path: str, query: str, weight: int) -> None:
    assert weight_of(path, query) == weight


def test_a_route_is_one_of_a_few_names_whatever_a_client_writes() -> None:
    assert route_of("/api/v3/klines") == "/api/v3/klines"
    assert route_of("/api/v3/whatever/x") == "spot:other"
    assert route_of("/api/v9/klines") == "spot:other"
    assert route_of("/x") == "other"


def test_a_market_has_its_prefixes() -> None:
    paths = ("/api/v3/x", "/fapi/v1/x", "/futures/data/x", "/dapi/v1/x", "/sapi/v1/x", "/apiv3")
    assert [market_of(path) for path in paths] == [Market.SPOT, Market.UM, Market.UM, Market.CM, None, None]


@pytest.mark.parametrize(
    ("path", "query", "seconds"),
    [
        ("/api/v3/exchangeInfo", "", 300),
        ("/fapi/v1/exchangeInfo", "", 300),
        ("/api/v3/ticker/24hr", "symbol=BTCUSDT", 1),
        ("/api/v3/ticker/24hr", "", 4),
        ("/fapi/v1/ticker/24hr", "", 2),
        ("/api/v3/ticker/price", "", 1),
        ("/api/v3/ticker/bookTicker", "", 0),
        ("/api/v3/depth", "", 0),
        ("/api/v3/klines", "", 0),
        ("/api/v9/exchangeInfo", "", 0),
        ("/x/v3/exchangeInfo", "", 0),
    ],
)
def test_only_what_changes_slowly_is_kept(path: str, query: str, seconds: float) -> None:
    assert kept_s(path, query) == seconds


def test_the_dearest_tickers_cost_at_most_a_fifth_of_the_limit_a_minute() -> None:
    for path in ("/api/v3/ticker/24hr", "/fapi/v1/ticker/24hr"):
        assert 60 / kept_s(path, "") * weight_of(path, "") <= 1200


def test_the_count_of_some_futures_paths_is_not_believed() -> None:
    assert not has_true_count("/fapi/v1/ticker/bookTicker")
    assert not has_true_count("/fapi/v2/ticker/price")
    assert has_true_count("/fapi/v1/ticker/price")
