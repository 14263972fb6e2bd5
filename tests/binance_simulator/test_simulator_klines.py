"""Candles are what the trades of the same exchange add up to, and their endpoint selects as the exchange does."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.binance_simulator.conftest import START_MS

from binance_simulator import Exchange, Tape, open_exchange
from binance_simulator.candles import INTERVALS, Steps, parse_offset_ms

URL = "/api/v3/klines?symbol=BTCUSDT"
FUTURES_URL = "/fapi/v1/klines?symbol=BTCUSDT"
MINUTE_MS = 60_000


async def all_trades(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """Every trade of the exchange by its own aggTrades, without markers."""
    rows: list[dict[str, Any]] = []
    next_id = 0
    while page := (await client.get(path, params={"symbol": "BTCUSDT", "limit": 1000, "fromId": next_id})).json():
        rows += page
        next_id = page[-1]["a"] + 1
    return [row for row in rows if row["f"] >= 0]


def naive_candle(rows: list[dict[str, Any]], start_ms: int, span_ms: int, places: tuple[str, str, str]) -> list[Any]:
    """One candle with traditional decimals, row by row."""
    price, volume, quote = (Decimal(place) for place in places)
    prices = [Decimal(row["p"]) for row in rows]
    amounts = [(Decimal(row["q"]), Decimal(row["p"]) * Decimal(row["q"]), row["m"]) for row in rows]
    return [
        start_ms,
        *(f"{each.quantize(price):f}" for each in (prices[0], max(prices), min(prices), prices[-1])),
        f"{sum((q for q, _, _ in amounts), Decimal()).quantize(volume):f}",
        start_ms + span_ms - 1,
        f"{sum((pq for _, pq, _ in amounts), Decimal()).quantize(quote):f}",
        sum(row["l"] - row["f"] + 1 for row in rows),
        f"{sum((q for q, _, m in amounts if not m), Decimal()).quantize(volume):f}",
        f"{sum((pq for _, pq, m in amounts if not m), Decimal()).quantize(quote):f}",
        "0",
    ]


@pytest.mark.parametrize(
    ("url", "trades", "places"),
    [
        (URL, "/api/v3/aggTrades", ("0.00000001", "0.00000001", "0.00000001")),
        (FUTURES_URL, "/fapi/v1/aggTrades", ("0.01", "0.001", "0.00001")),
    ],
)
async def test_every_candle_is_the_sum_of_its_trades(
    client: httpx.AsyncClient, url: str, trades: str, places: tuple[str, str, str]
) -> None:
    rows = await all_trades(client, trades)
    found = (await client.get(f"{url}&interval=1m")).json()
    by_minute: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        by_minute.setdefault(row["T"] // MINUTE_MS * MINUTE_MS, []).append(row)
    traded = [row for row in found if row[0] in by_minute]
    expected = [naive_candle(rows, start_ms, MINUTE_MS, places) for start_ms, rows in sorted(by_minute.items())]
    assert traded == expected
    assert len(found) == 61, "a candle each minute, the unfinished one included"


async def test_a_step_without_trades_repeats_the_last_close_and_the_open_candle_is_the_last(
    make_frame: Callable[..., pl.DataFrame],
) -> None:
    rows = make_frame([1, 2, 3], [START_MS + 1, START_MS + 2, START_MS + 3 * MINUTE_MS])
    rows = rows.with_columns(p=pl.Series([5.0, 7.5, 6.0]))
    now_ms = START_MS + 4 * MINUTE_MS + 10
    async with (
        open_exchange({"spot:BTCUSDT": Tape.from_frame(rows)}, clock_ms=lambda: now_ms) as exchange,
        httpx.AsyncClient(base_url=exchange.url, timeout=60) as client,
    ):
        found = (await client.get(f"{URL}&interval=1m")).json()
    assert [(row[0] - START_MS) // MINUTE_MS for row in found] == [0, 1, 2, 3, 4]
    assert [(row[1], row[4], row[8]) for row in found] == [
        ("5.00000000", "7.50000000", 2),
        ("7.50000000", "7.50000000", 0),
        ("7.50000000", "7.50000000", 0),
        ("6.00000000", "6.00000000", 1),
        ("6.00000000", "6.00000000", 0),
    ]


@pytest.mark.parametrize(
    ("query", "minutes"),
    [
        ("limit=3", [58, 59, 60]),
        (f"startTime={START_MS}&limit=2", [0, 1]),
        (f"startTime={START_MS + 1}&limit=2", [1, 2]),
        (f"startTime={START_MS * 1000 + 1}&limit=1", [1]),
        (f"endTime={START_MS + 5 * MINUTE_MS}&limit=2", [4, 5]),
        (f"endTime={START_MS + 5 * MINUTE_MS - 1}&limit=2", [3, 4]),
        (f"startTime={START_MS + MINUTE_MS}&endTime={START_MS + 3 * MINUTE_MS}", [1, 2, 3]),
        (f"startTime={START_MS + 70 * MINUTE_MS}", []),
        ("endTime=5", []),
        (f"startTime={START_MS + 5 * MINUTE_MS}&endTime={START_MS}", []),
    ],
)
async def test_times_filter_the_open_time(client: httpx.AsyncClient, query: str, minutes: list[int]) -> None:
    found = (await client.get(f"{URL}&interval=1m&{query}")).json()
    assert [(row[0] - START_MS) // MINUTE_MS for row in found] == minutes


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/api/v3/klines?symbol=BTCUSDT", -1102),
        ("/api/v3/klines?interval=1m", -1102),
        (f"{URL}&interval=7m", -1120),
        (f"{URL}&interval=1m&timeZone=15:00", -1130),
        (f"{URL}&interval=1m&cache=1", -1101),
        (f"{URL}&interval=1m&limit=0", -1130),
        (f"{URL}&interval=1m&limit=x", -1100),
        (f"{URL}&interval=1m&startTime=", -1105),
        ("/api/v3/klines?symbol=NONE&interval=1m", -1121),
        (f"{FUTURES_URL}&interval=1s", -1120),
    ],
)
async def test_broken_parameters_are_refused(client: httpx.AsyncClient, url: str, code: int) -> None:
    answer = await client.get(url)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_limits_differ_between_the_markets(exchange: Exchange, clock: Any, client: httpx.AsyncClient) -> None:
    clock.now_ms = START_MS + 40 * 3_600_000
    assert len((await client.get(f"{URL}&interval=1m&limit=1500")).json()) == 1000
    assert len((await client.get(f"{FUTURES_URL}&interval=1m&limit=2000")).json()) == 1500
    assert len((await client.get(f"{URL}&interval=1m")).json()) == 500


instants = st.integers(0, 4_102_444_800_000)
steps = st.builds(Steps, st.sampled_from(INTERVALS), st.integers(-12 * 4, 14 * 4).map(lambda q: q * 900_000))


@given(steps=steps, time_ms=instants)
def test_every_instant_lies_in_exactly_one_step(steps: Steps, time_ms: int) -> None:
    start_ms = steps.start_ms(time_ms)
    next_ms = steps.next_ms(start_ms)
    assert start_ms <= time_ms < next_ms
    assert steps.start_ms(next_ms) == next_ms
    assert steps.start_ms(next_ms - 1) == start_ms
    assert steps.before_ms(next_ms) == start_ms


@settings(max_examples=50)
@given(time_ms=instants, hours=st.integers(-12, 14))
def test_weeks_begin_on_mondays_and_months_on_the_first_of_the_zone(time_ms: int, hours: int) -> None:
    def local(start_ms: int) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=start_ms, hours=hours)

    offset_ms = parse_offset_ms(str(hours))
    monday, first = (local(Steps(interval, offset_ms).start_ms(time_ms)) for interval in ("1w", "1M"))
    assert (monday.weekday(), monday.hour, monday.minute) == (0, 0, 0)
    assert (first.day, first.hour, first.minute) == (1, 0, 0)
