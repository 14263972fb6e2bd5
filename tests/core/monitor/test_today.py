"""Today's figures equal those of the whole day read at once, whatever came from the disk and what came live."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.figures import Figures
from backfilld.core.live.trades import LiveTrade, frame_of
from backfilld.core.model import day_start_ms
from backfilld.core.monitor.today import MOST_BINS, Today

DAY = date(2026, 11, 7)
START_MS = day_start_ms(DAY)


@st.composite
def tapes(draw: st.DrawFn) -> list[LiveTrade]:
    steps = draw(st.lists(st.tuples(st.integers(0, 400_000), st.integers(1, 900), st.integers(1, 50), st.booleans())))
    trades, at_ms = [], START_MS
    for number, (step_ms, price, quantity, is_sold) in enumerate(steps):
        at_ms = min(at_ms + step_ms, START_MS + 86_399_999)
        is_marker = price == 13
        p, q = (0.0, 0.0) if is_marker else (price / 4, quantity / 8)
        fills = (-1, -1) if is_marker else (number, number)
        trades.append(LiveTrade(at_ms, 100 + number, p, q, *fills, is_sold))
    return trades


@given(tapes(), st.integers(0, 60), st.integers(0, 10))
def test_the_figures_are_those_of_the_whole_day(trades: list[LiveTrade], from_disk: int, again: int) -> None:
    today = Today(DAY)
    today.take_frame(frame_of(trades[:from_disk]))
    today.take(trades[max(0, from_disk - again) :])
    whole = Figures.of(frame_of(trades), 0.25)
    assert (today.trades, today.missing) == (len(trades), 0)
    assert today.poc == whole.poc
    assert sum(each.volume for each in today.bins) == pytest.approx(whole.volume)
    assert len(today.bins) <= MOST_BINS
    assert [each.low for each in today.bins] == sorted(each.low for each in today.bins)
    if whole.volume:
        last = today.points[-1]
        assert last.vwap == pytest.approx(whole.vwap)
        assert last.delta == pytest.approx(whole.delta)
        assert last.price == next(each.p for each in reversed(trades) if each.p)
        (poc,) = [each for each in today.bins if each.is_poc]
        assert poc.low - 1e-9 <= (whole.poc or 0) < poc.high
    else:
        assert today.points == []


def test_the_frame_and_the_single_trade_mean_the_same() -> None:
    trades = [LiveTrade(START_MS + n * 7_000, n, 100 + n % 5, 1.5, n, n, n % 3 == 0) for n in range(60)]
    one, other = Today(DAY), Today(DAY)
    one.take_frame(frame_of(trades))
    other.take(trades)
    assert one.points == other.points
    assert one.bins == other.bins


def test_ids_that_are_not_there_are_counted_and_other_days_are_not() -> None:
    today = Today(DAY)
    today.take([LiveTrade(START_MS, 10, 1.0, 1.0, 0, 0, False), LiveTrade(START_MS + 1, 14, 1.0, 1.0, 0, 0, False)])
    today.take([LiveTrade(START_MS - 1, 15, 9.0, 1.0, 0, 0, False)])
    assert (today.trades, today.missing, today.next_id) == (2, 3, 15)
    today.take_frame(pl.DataFrame(frame_of([])))
    assert today.next_id == 15
