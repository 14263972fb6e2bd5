"""The figures are those of their definitions, and those of two spans add up."""

import math
from collections import defaultdict

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.figures import Figures
from backfilld.core.frame import SCHEMA, empty_trades
from tests.fakes import DAY_MS

TICK = 0.01

Row = tuple[int, int, bool]
ROWS = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 64), st.booleans()), max_size=40)
"""Price in ticks, quantity in eighths (exact in binary, so that sums tie where they should), buyer is maker."""


def frame_of(rows: list[Row], markers: int = 0) -> pl.DataFrame:
    real = [(DAY_MS, i, ticks * TICK, eighths / 8, i, i, m, True) for i, (ticks, eighths, m) in enumerate(rows)]
    void = [(DAY_MS, 1000 + i, 0.0, 0.0, -1, -1, True, True) for i in range(markers)]
    return pl.DataFrame(real + void, schema=SCHEMA, orient="row")


@given(ROWS, st.integers(0, 2), st.sampled_from([1, 2, 5]))
def test_the_figures_are_those_of_a_plain_reference(rows: list[Row], markers: int, ticks_a_bin: int) -> None:
    context = Figures.of(frame_of(rows, markers), ticks_a_bin * TICK)
    volume = sum(eighths / 8 for _, eighths, _ in rows)
    notional = sum(ticks * TICK * eighths / 8 for ticks, eighths, _ in rows)
    assert context.trades == len(rows) + markers
    assert context.volume == volume
    assert context.notional == pytest.approx(notional)
    assert context.delta == sum(-eighths / 8 if m else eighths / 8 for _, eighths, m in rows)
    assert (context.vwap is None) == (volume == 0)
    assert context.vwap is None or context.vwap == pytest.approx(notional / volume)
    if not rows:
        assert (context.low, context.high, context.price_range, context.poc) == (None, None, None, None)
        return
    prices = [ticks * TICK for ticks, _, _ in rows]
    assert context.price_range == max(prices) - min(prices)
    bins: defaultdict[int, float] = defaultdict(float)
    for ticks, eighths, _ in rows:
        bins[ticks // ticks_a_bin] += eighths / 8
    best = min(number for number, stored in bins.items() if stored == max(bins.values()))
    assert context.poc is not None
    assert context.poc == pytest.approx(best * ticks_a_bin * TICK)


@given(ROWS, ROWS, st.sampled_from([TICK, 0.05]))
def test_the_figures_of_two_spans_add_up_to_those_of_both(one: list[Row], other: list[Row], bin_size: float) -> None:
    total = Figures.of(frame_of(one), bin_size) + Figures.of(frame_of(other), bin_size)
    both = Figures.of(frame_of(one + other), bin_size)
    assert (total.trades, total.volume, total.low, total.high) == (both.trades, both.volume, both.low, both.high)
    assert total.delta == both.delta
    assert math.isclose(total.notional, both.notional, abs_tol=1e-9)
    assert total.poc == both.poc


@given(st.integers(1, 10_000_000), st.sampled_from([0.1, 0.01, 0.0001, 0.00001]))
def test_a_price_on_the_edge_of_a_bin_lies_in_that_bin(ticks: int, tick: float) -> None:
    """Price / tick is rarely a whole number in binary: 0.29 / 0.01 is 28.999."""
    price = float(f"{ticks * tick:.8f}")
    frame = frame_of([(1, 8, False)]).with_columns(p=pl.lit(price))
    assert Figures.of(frame, tick).poc == pytest.approx(price, rel=1e-12)


def test_of_equal_bins_the_lower_price_is_the_point_of_control() -> None:
    assert Figures.of(frame_of([(300, 8, True), (100, 8, False), (200, 8, False)]), TICK).poc == 1.0


def test_marker_rows_count_as_trades_and_are_left_out_of_every_figure() -> None:
    plain, marked = Figures.of(frame_of([(100, 8, False)]), TICK), Figures.of(frame_of([(100, 8, False)], 3), TICK)
    assert marked.trades == 4
    assert (marked.low, marked.vwap, marked.poc, marked.delta) == (plain.low, plain.vwap, plain.poc, plain.delta)


def test_nothing_is_the_neutral_element() -> None:
    some = Figures.of(frame_of([(100, 8, True), (102, 16, False)]), TICK)
    for total in (Figures(TICK) + some, some + Figures(TICK), some + Figures.of(empty_trades(), TICK)):
        assert (total.trades, total.vwap, total.poc, total.price_range) == (2, some.vwap, some.poc, some.price_range)
    assert Figures(TICK).vwap is None
    assert Figures(TICK).poc is None


def test_a_price_that_fits_no_bin_is_counted_in_the_highest() -> None:
    rows = frame_of([(1, 8, True), (2, 8, True)]).with_columns(p=pl.Series([1e308, 2 * TICK]))
    assert Figures.of(rows, TICK).volume_by_bin["volume"].sum() == 2.0
