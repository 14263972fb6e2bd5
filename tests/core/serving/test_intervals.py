"""The grid of candles agrees with the calendar."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.serving.intervals import Interval, interval_named

NAMES = ["1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"]
TIMES = st.integers(1_500_000_000_000, 1_900_000_000_000)
ZONES = st.integers(-12 * 60, 14 * 60)


@given(TIMES, st.sampled_from(NAMES), ZONES)
def test_each_instant_lies_in_one_candle(time_ms: int, name: str, minutes: int) -> None:
    interval = Interval(name, minutes * 60_000)
    open_ms = interval.open_ms(time_ms)
    next_ms = interval.next_ms(open_ms)
    assert open_ms <= time_ms < next_ms
    assert interval.open_ms(open_ms) == open_ms
    assert interval.open_ms(next_ms - 1) == open_ms
    assert interval.open_ms(next_ms) == next_ms


@given(TIMES, st.sampled_from(NAMES), ZONES, st.integers(0, 30))
def test_so_many_candles_on_and_back_again(time_ms: int, name: str, minutes: int, count: int) -> None:
    interval = Interval(name, minutes * 60_000)
    open_ms = interval.open_ms(time_ms)
    assert interval.after_ms(interval.after_ms(open_ms, count), -count) == open_ms


@given(TIMES, ZONES)
def test_days_weeks_and_months_open_at_local_midnight(time_ms: int, minutes: int) -> None:
    def local(name: str) -> datetime:
        open_ms = Interval(name, minutes * 60_000).open_ms(time_ms)
        return datetime.fromtimestamp(open_ms / 1000, UTC) + timedelta(minutes=minutes)

    assert {local(name).time() for name in ("1d", "1w", "1M")} == {datetime.min.time()}
    assert local("1w").weekday() == 0
    assert local("1M").day == 1


@pytest.mark.parametrize("name", ["", "1", "1S", "2m", "1y", "60m", "1m ", "\u0661m"])
def test_other_names_are_none(name: str) -> None:
    assert interval_named(name) is None
