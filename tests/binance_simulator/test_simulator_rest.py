"""The REST interface over a real socket: selection rules, refusals, headers, compression."""

from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from binance_simulator import Exchange, ExchangeOptions, Interval, Tape, open_exchange
from binance_simulator.model import SCHEMA, Instrument, Market

START_MS = 1_767_225_600_000
HOUR_MS = 3_600_000
FIRST_ID = 100_000
ROWS = 2500
TRADES_URL = {
    "spot": "/api/v3/aggTrades?symbol=BTCUSDT",
    "um": "/fapi/v1/aggTrades?symbol=BTCUSDT",
    "cm": "/dapi/v1/aggTrades?symbol=BTCUSD_PERP",
}

markets = pytest.mark.parametrize("market", list(TRADES_URL))


async def ids(client: httpx.AsyncClient, market: str, query: str) -> list[int]:
    answer = await client.get(TRADES_URL[market] + query)
    assert answer.status_code == 200, answer.text
    return [row["a"] for row in answer.json()]


def ids_where(exchange: Exchange, condition: pl.Expr) -> list[int]:
    """The ids of the visible spot rows that fulfil a condition; the other markets' rows have equal times."""
    return exchange.visible(Instrument.parse("spot:BTCUSDT")).filter(condition)["a"].to_list()


@markets
async def test_nothing_given_answers_the_newest_500(client: httpx.AsyncClient, market: str) -> None:
    newest = FIRST_ID + ROWS
    assert await ids(client, market, "") == list(range(newest - 500, newest))


@markets
@pytest.mark.parametrize(("limit", "rows"), [(1, 1), (1000, 1000), (1001, 1000), (5000, 1000)])
async def test_limit_is_kept_and_clamped_to_1000(client: httpx.AsyncClient, market: str, limit: int, rows: int) -> None:
    assert len(await ids(client, market, f"&limit={limit}")) == rows


@markets
async def test_from_id_is_inclusive_and_ascends(client: httpx.AsyncClient, market: str) -> None:
    assert await ids(client, market, f"&fromId={FIRST_ID + 77}&limit=3") == [FIRST_ID + 77 + step for step in range(3)]


@markets
async def test_an_id_below_the_first_is_answered_silently_from_the_first(
    client: httpx.AsyncClient, market: str
) -> None:
    assert await ids(client, market, "&fromId=1&limit=2") == [FIRST_ID, FIRST_ID + 1]


@markets
async def test_past_the_newest_there_is_nothing(client: httpx.AsyncClient, market: str) -> None:
    assert await ids(client, market, f"&fromId={FIRST_ID + ROWS - 1}") == [FIRST_ID + ROWS - 1]
    assert await ids(client, market, f"&fromId={FIRST_ID + ROWS}") == []


@markets
async def test_start_time_alone_answers_the_oldest_from_it(
    client: httpx.AsyncClient, exchange: Exchange, market: str
) -> None:
    start_ms = int(exchange.visible(Instrument.parse("spot:BTCUSDT"))["T"][700])
    expected = ids_where(exchange, pl.col("T") >= start_ms)[:10]
    assert await ids(client, market, f"&startTime={start_ms}&limit=10") == expected


@markets
async def test_end_time_alone_answers_the_newest_up_to_it(
    client: httpx.AsyncClient, exchange: Exchange, market: str
) -> None:
    end_ms = int(exchange.visible(Instrument.parse("spot:BTCUSDT"))["T"][700])
    expected = ids_where(exchange, pl.col("T") <= end_ms)[-10:]
    assert await ids(client, market, f"&endTime={end_ms}&limit=10") == expected


@markets
@pytest.mark.parametrize("limit", [10, 1000])
async def test_both_times_answer_the_oldest_between_them(
    client: httpx.AsyncClient, exchange: Exchange, market: str, limit: int
) -> None:
    start_ms, end_ms = START_MS + 600_000, START_MS + 1_200_000
    expected = ids_where(exchange, pl.col("T").is_between(start_ms, end_ms))[:limit]
    assert await ids(client, market, f"&startTime={start_ms}&endTime={end_ms}&limit={limit}") == expected


@markets
async def test_equal_times_answer_their_millisecond_and_crossed_ones_nothing(
    client: httpx.AsyncClient, exchange: Exchange, market: str
) -> None:
    at_ms = int(exchange.visible(Instrument.parse("spot:BTCUSDT"))["T"][700])
    expected = ids_where(exchange, pl.col("T") == at_ms)[:1000]
    assert await ids(client, market, f"&startTime={at_ms}&endTime={at_ms}&limit=1000") == expected
    assert await ids(client, market, f"&startTime={at_ms}&endTime={at_ms - 1}") == []


async def test_spot_takes_microseconds_too(client: httpx.AsyncClient, exchange: Exchange) -> None:
    at_ms = int(exchange.visible(Instrument.parse("spot:BTCUSDT"))["T"][700])
    expected = ids_where(exchange, pl.col("T") == at_ms)
    found = await ids(client, "spot", f"&startTime={at_ms * 1000 - 999}&endTime={at_ms * 1000 + 999}&limit=1000")
    assert found == expected


@pytest.mark.parametrize("market", ["um", "cm"])
async def test_futures_ignore_times_beside_from_id(client: httpx.AsyncClient, market: str) -> None:
    query = f"&fromId={FIRST_ID}&startTime={START_MS + HOUR_MS}&endTime={START_MS + 3 * HOUR_MS}&limit=1"
    assert await ids(client, market, query) == [FIRST_ID]


async def test_time_that_goes_back_selects_by_time_and_answers_by_id(make_frame: Any) -> None:
    tape = Tape.from_frame(make_frame([1, 2, 3, 4, 5], [100, 300, 200, 300, 400]))
    async with (
        open_exchange({Instrument.parse("spot:BTCUSDT"): tape}) as exchange,
        httpx.AsyncClient(base_url=exchange.url, timeout=60) as client,
    ):
        assert await ids(client, "spot", "&startTime=300") == [2, 4, 5]
        assert await ids(client, "spot", "&endTime=300&limit=2") == [3, 4]
        assert await ids(client, "spot", "&startTime=150&endTime=250") == [3]
        assert await ids(client, "spot", "&startTime=500") == []
        assert await ids(client, "spot", "&fromId=3") == [3, 4, 5]


async def test_rows_appear_when_their_time_comes(exchange: Exchange, client: httpx.AsyncClient, clock: Any) -> None:
    clock.now_ms = START_MS + 600_000
    expected = exchange.tapes[Instrument.parse("spot:BTCUSDT")].frame.filter(pl.col("T") <= clock.now_ms)["a"]
    assert await ids(client, "spot", "&limit=1000") == expected.tail(1000).to_list()


SPOT = "/api/v3/aggTrades"
LEGAL_NUMBER = "'^[0-9]{1,20}$'"
LEGAL_SYMBOL = r"'^[\w\-._&&[^a-z]]{1,50}$'"
REFUSALS = [
    (f"{SPOT}?symbol=ETHUSDT", -1121, "Invalid symbol."),
    (f"{SPOT}?limit=5", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
    (f"{SPOT}?symbol=", -1105, "Parameter 'symbol' was empty."),
    (f"{SPOT}?symbol=BTCUSDT&limit=", -1105, "Parameter 'limit' was empty."),
    (
        f"{SPOT}?symbol=btcusdt",
        -1100,
        f"Illegal characters found in parameter 'symbol'; legal range is {LEGAL_SYMBOL}.",
    ),
    (
        f"{SPOT}?symbol=BTCUSDT&endTime=1.5",
        -1100,
        f"Illegal characters found in parameter 'endTime'; legal range is {LEGAL_NUMBER}.",
    ),
    (
        f"{SPOT}?symbol=BTCUSDT&fromId=-1",
        -1100,
        f"Illegal characters found in parameter 'fromId'; legal range is {LEGAL_NUMBER}.",
    ),
    (f"{SPOT}?symbol=BTCUSDT&fromId={2**63}", -1130, "Data sent for parameter 'fromId' is not valid."),
    (f"{SPOT}?symbol=BTCUSDT&limit=0", -1130, "Data sent for parameter 'limit' is not valid."),
    (f"{SPOT}?symbol=BTCUSDT&a=1&b=2", -1101, "Too many parameters; expected '1' and received '3'."),
    (f"{SPOT}?symbol=BTCUSDT&symbol=BTCUSDT", -1101, "Duplicate values for a parameter detected."),
    (f"{SPOT}?symbol=BTCUSDT&fromId=1&startTime=1", -1128, "Combination of optional parameters invalid."),
    (f"{SPOT}?symbol=BTCUSDT&fromId=1&endTime=1", -1128, "Combination of optional parameters invalid."),
    ("/fapi/v1/aggTrades?symbol=X", -1121, "Invalid symbol."),
    (
        f"{TRADES_URL['um']}&startTime={START_MS}&endTime={START_MS + HOUR_MS}",
        -1127,
        "More than 1 hours between startTime and endTime.",
    ),
    (
        f"{TRADES_URL['um']}&startTime={START_MS - 48 * HOUR_MS}",
        -4166,
        "Search window is restricted to recent 2 days only.",
    ),
    (
        f"{TRADES_URL['cm']}&endTime={START_MS - 24 * HOUR_MS}",
        -4166,
        "Search window is restricted to recent 1 days only.",
    ),
    ("/api/v3/exchangeInfo?symbol=ETHUSDT", -1121, "Invalid symbol."),
    ("/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22,%22X%22%5D", -1121, "Invalid symbol."),
]


@pytest.mark.parametrize(("url", "code", "message"), REFUSALS)
async def test_broken_rules_are_refused_in_the_exchanges_words(
    client: httpx.AsyncClient, exchange: Exchange, url: str, code: int, message: str
) -> None:
    answer = await client.get(url)
    assert (answer.status_code, answer.json()) == (400, {"code": code, "msg": message})
    assert exchange.requests[-1].status == 400
    assert answer.headers["x-mbx-used-weight-1m"] == str(exchange.requests[-1].weight), "a refusal costs too"


async def test_times_of_an_hour_less_a_millisecond_are_taken(client: httpx.AsyncClient) -> None:
    assert await ids(client, "um", f"&startTime={START_MS}&endTime={START_MS + HOUR_MS - 1}&limit=1") == [FIRST_ID]


async def test_spot_has_no_window_rule(client: httpx.AsyncClient) -> None:
    assert await ids(client, "spot", f"&startTime=0&endTime={START_MS + HOUR_MS}&limit=1") == [FIRST_ID]


async def test_futures_ignore_parameters_they_do_not_know(client: httpx.AsyncClient) -> None:
    assert await ids(client, "um", "&color=red&limit=1") == [FIRST_ID + ROWS - 1]


async def test_the_lookback_holds_for_from_id_and_can_be_turned_off(
    client: httpx.AsyncClient, exchange: Exchange, clock: Any
) -> None:
    clock.now_ms = START_MS + 49 * HOUR_MS
    answer = await client.get(f"{TRADES_URL['um']}&fromId={FIRST_ID}")
    assert answer.json()["code"] == -4166
    exchange.options = replace(exchange.options, lookback_hours={Market.UM: None})
    assert await ids(client, "um", f"&fromId={FIRST_ID}&limit=1") == [FIRST_ID]
    assert (await client.get(f"{TRADES_URL['cm']}&fromId={FIRST_ID}")).json()["code"] == -4166


ROW_FIELDS = {
    "spot": {"a": int, "p": str, "q": str, "f": int, "l": int, "T": int, "m": bool, "M": bool},
    "um": {"a": int, "p": str, "q": str, "nq": str, "f": int, "l": int, "T": int, "m": bool},
    "cm": {"a": int, "p": str, "q": str, "f": int, "l": int, "T": int, "m": bool},
}


@markets
async def test_rows_say_what_the_tape_holds(client: httpx.AsyncClient, exchange: Exchange, market: str) -> None:
    """Every page of the whole tape, marker rows among them, read back and compared."""
    rows: list[dict[str, Any]] = []
    while page := (await client.get(f"{TRADES_URL[market]}&limit=999&fromId={FIRST_ID + len(rows)}")).json():
        rows += page
    instrument = next(instrument for instrument in exchange.tapes if instrument.market == market)
    read_back = pl.DataFrame(
        [{**row, "p": float(row["p"]), "q": float(row["q"]), "M": True} for row in rows], schema=SCHEMA
    )
    assert_frame_equal(read_back, exchange.visible(instrument))
    assert {key: type(value) for key, value in rows[0].items()} == ROW_FIELDS[market]
    assert sum(row["f"] == -1 for row in rows) == 3


async def test_spot_decimals_have_eight_digits_and_futures_those_of_their_grid(client: httpx.AsyncClient) -> None:
    decimals = {}
    for market, url in TRADES_URL.items():
        row = (await client.get(f"{url}&limit=1")).json()[0]
        decimals[market] = [len(row[key].partition(".")[2]) for key in "pq"]
    assert decimals == {"spot": [8, 8], "um": [2, 3], "cm": [2, 0]}


async def test_headers_name_the_used_weight_and_the_servers_time(client: httpx.AsyncClient, exchange: Exchange) -> None:
    exchange.options = replace(exchange.options, clock_skew_ms=-HOUR_MS)
    spot = await client.get(TRADES_URL["spot"])
    assert spot.headers["content-type"] == "application/json;charset=UTF-8"
    assert spot.headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert (spot.headers["x-mbx-used-weight"], spot.headers["x-mbx-used-weight-1m"]) == ("4", "4")
    futures = await client.get(TRADES_URL["um"])
    assert futures.headers["x-mbx-used-weight-1m"] == "20"
    assert "x-mbx-used-weight" not in futures.headers


async def test_the_header_is_named_for_the_interval(client: httpx.AsyncClient, exchange: Exchange) -> None:
    exchange.options = replace(exchange.options, interval=Interval.parse("10S"))
    answer = await client.get(TRADES_URL["um"])
    assert answer.headers["x-mbx-used-weight-10s"] == "20"
    limits = (await client.get("/fapi/v1/exchangeInfo")).json()["rateLimits"]
    assert limits[0] == {"rateLimitType": "REQUEST_WEIGHT", "interval": "SECOND", "intervalNum": 10, "limit": 2400}


@pytest.mark.parametrize(
    ("path", "weight"),
    [
        ("/api/v3/aggTrades?symbol=BTCUSDT&limit=1", 4),
        ("/api/v3/exchangeInfo", 20),
        ("/api/v3/time", 1),
        ("/api/v3/ping", 1),
        ("/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1", 20),
        ("/fapi/v1/exchangeInfo?symbol=IGNORED", 1),
        ("/dapi/v1/time", 1),
        ("/dapi/v1/ping", 1),
    ],
)
async def test_each_endpoint_costs_what_is_documented(client: httpx.AsyncClient, path: str, weight: int) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["x-mbx-used-weight-1m"] == str(weight)


async def test_time_and_ping_answer_as_the_exchange_does(client: httpx.AsyncClient, clock: Any) -> None:
    assert (await client.get("/fapi/v1/time")).json() == {"serverTime": clock.now_ms}
    assert (await client.get("/dapi/v1/ping")).json() == {}


async def test_exchange_info_lists_symbols_and_their_grids(client: httpx.AsyncClient, exchange: Exchange) -> None:
    exchange.options = replace(exchange.options, statuses={"spot:BTCUSDT": "BREAK"})
    found = {}
    for query in ("", "?symbol=BTCUSDT", "?symbols=" + quote('["BTCUSDT"]')):
        (symbol,) = (await client.get("/api/v3/exchangeInfo" + query)).json()["symbols"]
        filters = {entry["filterType"]: entry for entry in symbol["filters"]}
        found[query] = (symbol["symbol"], symbol["status"])
        assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
        assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert set(found.values()) == {("BTCUSDT", "BREAK")}


async def test_large_bodies_are_compressed_for_who_accepts_it(client: httpx.AsyncClient, exchange: Exchange) -> None:
    url = TRADES_URL["spot"]
    plain = await client.get(url, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = await client.get(url, headers={"accept-encoding": "gzip, deflate"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 3
    assert "content-encoding" not in (await client.get(f"{url}&limit=2")).headers
    exchange.options = replace(exchange.options, gzip=False)
    assert "content-encoding" not in (await client.get(url)).headers


async def test_other_paths_get_a_page_and_cost_nothing(client: httpx.AsyncClient, exchange: Exchange) -> None:
    answer = await client.get("/api/v3/account?symbol=BTCUSDT")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert not exchange.requests


async def test_symbols_of_any_script_are_served(make_frame: Any) -> None:
    tape = Tape.from_frame(make_frame([1], [1]))
    async with (
        open_exchange({Instrument.parse("spot:币安人生USDT"): tape}, ExchangeOptions()) as exchange,
        httpx.AsyncClient(base_url=exchange.url, timeout=60) as client,
    ):
        answer = await client.get(SPOT, params={"symbol": "币安人生USDT"})
        assert [row["a"] for row in answer.json()] == [1]


async def test_the_body_of_the_context_fails_with_its_own_exception() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_exchange({}):
            raise KeyError("mine")
