"""The text of numbers is the exchange's, also where a float's own digits are not enough."""

import json
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.model import Instrument
from backfilld.core.serving.stream_texts import number_text
from backfilld.core.serving.texts import Digits, number_texts, trades_text
from tests.core.serving.rows import Row, frame_of_rows, rows_in_time


def plain(value: Decimal, digits: int) -> str:
    return f"{value:.{digits}f}"


# What markets write: eight decimals below 1e5, and larger numbers of fifteen digits or less.
SMALL = st.integers(0, 10**13 - 1).map(lambda units: Decimal(units).scaleb(-8))
LARGE = st.tuples(st.integers(10**5, 10**9), st.integers(0, 10**4 - 1)).map(
    lambda parts: Decimal(parts[0]) + Decimal(parts[1]).scaleb(-4)
)
WHOLE = st.integers(10**9, 10**15).map(Decimal)


@settings(max_examples=200, deadline=None)
@given(st.lists(SMALL | LARGE | WHOLE, min_size=1, max_size=20))
def test_eight_digits_are_written_as_the_exchange_writes_them(values: list[Decimal]) -> None:
    texts = number_texts(pl.Series([float(value) for value in values]), 8)
    assert texts.to_list() == [plain(value, 8) for value in values]
    assert [number_text(float(value), 8) for value in values] == [plain(value, 8) for value in values]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_futures_write_the_digits_of_the_symbol(units: int, digits: int) -> None:
    value = Decimal(units).scaleb(-digits)
    assert number_texts(pl.Series([float(value)]), digits).to_list() == [plain(value, digits)]
    assert number_text(float(value), digits) == plain(value, digits)


def test_a_number_that_needs_more_digits_than_the_symbol_has_is_not_cut() -> None:
    with pytest.raises(ValueError, match="digits"):
        number_texts(pl.Series([1.25]), 1)
    with pytest.raises(ValueError, match="too large"):
        number_texts(pl.Series([1e17]), 8)


@settings(max_examples=40, deadline=None)
@given(rows_in_time())
def test_a_page_is_the_json_of_its_trades(rows: list[Row]) -> None:
    spot = json.loads(trades_text(Instrument.parse("spot:BTCUSDT"), frame_of_rows(rows), Digits()))
    assert [list(each) for each in spot] == [["a", "p", "q", "f", "l", "T", "m", "M"]] * len(rows)
    assert [(each["a"], each["p"], each["q"], each["f"], each["l"], each["T"], each["m"]) for each in spot] == [
        (row.id, plain(row.price, 8), plain(row.quantity, 8), row.first, row.last, row.time_ms, row.is_maker)
        for row in rows
    ]
    coin = json.loads(trades_text(Instrument.parse("cm:BTCUSD_PERP"), frame_of_rows(rows), Digits()))
    assert [list(each) for each in coin] == [["a", "p", "q", "f", "l", "T", "m"]] * len(rows)


def test_no_trades_are_an_empty_array() -> None:
    assert trades_text(Instrument.parse("spot:BTCUSDT"), frame_of_rows([]), Digits()) == b"[]"
