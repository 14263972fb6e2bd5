"""Candles equal the sums of traditional decimals, digit by digit, however the trades were cut into pieces."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.live.trades import trades_of
from backfilld.core.model import IdRange, Instrument
from backfilld.core.serving.candles import bars_of, candles, current, pieces_for, span_asked
from backfilld.core.serving.intervals import Interval
from backfilld.core.serving.live_candles import LiveCandle, candle_text
from backfilld.core.serving.questions import CandlesQuestion
from backfilld.core.serving.stream_requests import StreamName
from backfilld.core.serving.timeline import Piece, Timeline
from tests.core.serving.rows import Row, frame_of_rows, rows_in_time

BTC = Instrument.parse("spot:BTCUSDT")
MINUTE_MS = 60_000
PLACE = Decimal("0.00000001")


def naive(rows: Sequence[Row], interval: Interval, start_ms: int, stop_ms: int) -> list[list[object]]:
    """Candles of the span by decimals, row by row; the span must begin with a trade."""
    found: list[list[object]] = []
    close = Decimal()
    open_ms = start_ms
    while open_ms < stop_ms:
        next_ms = interval.next_ms(open_ms)
        within = [row for row in rows if open_ms <= row.time_ms < next_ms and row.first >= 0]
        prices = [row.price for row in within] or [close]
        close = prices[-1]
        quotes = [row.price * row.quantity for row in within]
        taken = [row for row in within if not row.is_maker]
        found.append(
            [
                open_ms,
                *(f"{each.quantize(PLACE):f}" for each in (prices[0], max(prices), min(prices), close)),
                f"{sum((row.quantity for row in within), Decimal()).quantize(PLACE):f}",
                next_ms - 1,
                f"{cut(sum(quotes, Decimal())):f}",
                sum(row.last - row.first + 1 for row in within),
                f"{sum((row.quantity for row in taken), Decimal()).quantize(PLACE):f}",
                f"{cut(sum((row.price * row.quantity for row in taken), Decimal())):f}",
                "0",
            ]
        )
        open_ms = next_ms
    return found


def cut(value: Decimal) -> Decimal:
    return value.quantize(PLACE, rounding="ROUND_DOWN")


@settings(max_examples=60, deadline=None)
@given(rows_in_time(), st.sampled_from(["1s", "1m", "3m", "1h"]), st.data())
def test_candles_are_the_sums_of_decimals_wherever_the_trades_are_cut(
    rows: list[Row], name: str, data: st.DataObject
) -> None:
    interval = Interval(name)
    traded = [row for row in rows if row.first >= 0]
    start_ms = interval.open_ms(traded[0].time_ms)
    stop_ms = min(interval.next_ms(interval.open_ms(traded[-1].time_ms)), interval.after_ms(start_ms, 1000))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    edges = [0, *cuts, len(rows)]
    span_ms = interval.span_ms if interval.is_below_minutes else MINUTE_MS
    bars = [bars_of(frame_of_rows(rows[a:b]), span_ms) for a, b in pairwise(edges) if a < b]
    with_bars = [each for each in bars if each.height]
    found = candles(interval, (start_ms, stop_ms), with_bars)
    assert found == naive(rows, interval, start_ms, stop_ms)


@settings(max_examples=40, deadline=None)
@given(rows_in_time())
def test_a_candle_that_grows_trade_by_trade_ends_as_the_one_of_all_its_trades(rows: list[Row]) -> None:
    interval = Interval("1h")
    start_ms = interval.open_ms(rows[0].time_ms)
    within = [row for row in rows if row.time_ms < interval.next_ms(start_ms) and row.first >= 0]
    if not within:
        return
    candle = LiveCandle.empty(start_ms, interval.next_ms(start_ms), 0)
    for trade in trades_of(frame_of_rows(within)):
        candle.add(trade)
    name = StreamName("btcusdt@kline_1h", BTC, interval)
    text = candle_text(name, candle, 1, is_over=True)
    (row,) = naive(within, interval, start_ms, interval.next_ms(start_ms))
    for key, place in {"o": 1, "h": 2, "l": 3, "c": 4, "v": 5, "q": 7, "V": 9, "Q": 10}.items():
        assert f'"{key}":"{row[place]}"' in text, key
    assert f'"n":{row[8]}' in text
    made = current((start_ms, interval.next_ms(start_ms)), [bars_of(frame_of_rows(within), MINUTE_MS)])
    assert made is not None
    assert candle_text(name, made, 1, is_over=True) == text


def test_an_interval_without_trades_before_the_first_known_one_is_not_answered() -> None:
    interval = Interval("1m")
    rows = [Row(3 * MINUTE_MS, 1, Decimal(5), Decimal(1), 1, 1, is_maker=False)]
    bars = [bars_of(frame_of_rows(rows), MINUTE_MS)]
    assert candles(interval, (0, 4 * MINUTE_MS), bars) is None
    assert candles(interval, (3 * MINUTE_MS, 5 * MINUTE_MS), bars) is not None


def question(**given: int) -> CandlesQuestion:
    return CandlesQuestion(BTC, Interval("1m"), given.pop("limit", 500), given.get("start_ms"), given.get("end_ms"))


def test_a_span_holds_the_candles_whose_open_time_is_asked_for() -> None:
    now = 100 * MINUTE_MS + 30_000
    assert span_asked(question(limit=3), now, now) == (98 * MINUTE_MS, 101 * MINUTE_MS)
    assert span_asked(question(start_ms=5), now, now) == (MINUTE_MS, 101 * MINUTE_MS)
    assert span_asked(question(start_ms=0, limit=2), now, now) == (0, 2 * MINUTE_MS)
    assert span_asked(question(end_ms=10 * MINUTE_MS, limit=2), now, now) == (9 * MINUTE_MS, 11 * MINUTE_MS)
    assert span_asked(question(start_ms=now + MINUTE_MS), now, now) is None


def test_a_clock_that_may_show_another_minute_leaves_the_newest_candle_to_the_exchange() -> None:
    edge = 100 * MINUTE_MS
    assert span_asked(question(limit=3), edge - 1, edge + 1) is None
    assert span_asked(question(start_ms=0, end_ms=MINUTE_MS), edge - 1, edge + 1) == (0, 2 * MINUTE_MS)


def piece(first_id: int, last_id: int, first_ms: int, last_ms: int) -> Piece:
    return Piece(IdRange(first_id, last_id), first_ms, last_ms, first_id, date(1970, 1, 1))


def test_the_pieces_of_a_span_are_proven_to_be_all() -> None:
    adjoining = Timeline([piece(0, 9, 0, 900), piece(10, 19, 1000, 1900), piece(20, 29, 2000, 2900)])
    found = pieces_for((1000, 2000), adjoining)
    assert found is not None
    assert [each.ids.first_id for each in found] == [0, 10]
    with_hole = Timeline([piece(0, 9, 0, 900), piece(11, 19, 1000, 1900), piece(20, 29, 2000, 2900)])
    assert pieces_for((1000, 2000), with_hole) is None
    assert pieces_for((2000, 4000), adjoining) is None, "what comes after the last piece is not known"


def test_bars_of_no_trades_are_none() -> None:
    assert bars_of(frame_of_rows([]), MINUTE_MS).select(pl.len()).item() == 0
