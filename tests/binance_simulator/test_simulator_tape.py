"""Laws of the generated trades and of their growth."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from binance_simulator import Tape
from binance_simulator.model import SCHEMA

START_MS = 1_767_225_600_000

seeds = st.integers(0, 2**32)
counts = st.integers(0, 300)
steps = st.sampled_from(["0.00001", "0.001", "0.01", "0.5", "1", "10"])


@settings(deadline=None)
@given(seed=seeds, trades=counts, span_ms=st.integers(1, 100_000), markers=st.integers(0, 5))
def test_ids_join_and_time_never_goes_back(seed: int, trades: int, span_ms: int, markers: int) -> None:
    tape = Tape.generate(start_ms=START_MS, stop_ms=START_MS + span_ms, trades=trades, seed=seed, markers=markers)
    frame = tape.frame
    assert frame.schema == pl.Schema(SCHEMA)
    assert frame["a"].to_list() == list(range(3_800_397_495, 3_800_397_495 + trades))
    assert frame["T"].is_sorted()
    assert frame["T"].is_between(START_MS, START_MS + span_ms - 1).all()
    trade_rows = frame.filter(pl.col("p") > 0)
    assert frame.height - trade_rows.height == min(markers, trades)
    assert (trade_rows["l"] >= trade_rows["f"]).all()
    assert ((trade_rows["f"] - trade_rows["l"].shift(1)).drop_nulls() == 1).all()


@settings(deadline=None)
@given(seed=seeds, trades=counts, tick=steps, lot=steps, price=st.floats(0.00001, 1e5))
def test_prices_and_quantities_lie_on_their_grids(seed: int, trades: int, tick: str, lot: str, price: float) -> None:
    tape = Tape.generate(
        start_ms=START_MS, stop_ms=START_MS + 1000, trades=trades, seed=seed, tick=tick, lot=lot, price=price
    )
    for column, step in (("p", tick), ("q", lot)):
        values = [Decimal(str(value)) for value in tape.frame[column]]
        assert all(value > 0 and value % Decimal(step) == 0 for value in values)


def test_marker_rows_keep_id_and_time_and_nothing_else() -> None:
    plain = Tape.generate(start_ms=START_MS, stop_ms=START_MS + 9000, trades=100, seed=3)
    marked = Tape.generate(start_ms=START_MS, stop_ms=START_MS + 9000, trades=100, seed=3, markers=4)
    assert_frame_equal(plain.frame.select("T", "a"), marked.frame.select("T", "a"))
    markers = marked.frame.filter(pl.col("p") == 0).select("p", "q", "f", "l")
    assert markers.rows() == [(0.0, 0.0, -1, -1)] * 4


def test_equal_parameters_give_equal_trades_and_another_seed_others() -> None:
    def tape(seed: int) -> pl.DataFrame:
        return Tape.generate(start_ms=START_MS, stop_ms=START_MS + 9000, trades=500, seed=seed).frame

    assert_frame_equal(tape(1), tape(1))
    assert not tape(1).equals(tape(2))


def test_generated_trades_come_in_bursts_and_leave_quiet_stretches() -> None:
    frame = Tape.generate(start_ms=START_MS, stop_ms=START_MS + 3_600_000, trades=200_000, seed=1).frame
    most_in_one_ms = frame.group_by("T").len()["len"].max()
    longest_silence_ms = frame["T"].diff().max()
    assert isinstance(most_in_one_ms, int)
    assert most_in_one_ms > 100
    assert isinstance(longest_silence_ms, int)
    assert longest_silence_ms > 200
    assert 0.2 < frame["m"].mean() < 0.8  # type: ignore[operator]  # polars types the mean of any column


@settings(deadline=None, max_examples=50)
@given(
    seed=seeds,
    rate=st.floats(0.05, 50),
    instants_ms=st.lists(st.integers(-5_000, 120_000), min_size=1, max_size=8).map(sorted),
)
def test_growth_adds_rows_and_never_changes_one(seed: int, rate: float, instants_ms: list[int]) -> None:
    """Seen at many instants or only at the last one, the tape is the same; and what was seen stays."""

    def tape() -> Tape:
        return Tape.generate(
            start_ms=START_MS - 5000, stop_ms=START_MS, trades=20, seed=seed, live_rate_per_s=rate, markers=1
        )

    growing = tape()
    seen = growing.visible(START_MS - 5001)
    for instant_ms in instants_ms:
        now = growing.visible(START_MS + instant_ms)
        assert_frame_equal(now.head(seen.height), seen)
        assert now["T"].is_empty() or int(now["T"][-1]) <= START_MS + instant_ms
        seen = now
    assert_frame_equal(seen, tape().visible(START_MS + instants_ms[-1]))
    assert (seen["a"].diff().drop_nulls() == 1).all()
    trade_rows = seen.filter(pl.col("p") > 0)
    assert ((trade_rows["f"] - trade_rows["l"].shift(1)).drop_nulls() == 1).all()


def test_live_trades_keep_their_rate() -> None:
    tape = Tape.generate(start_ms=START_MS - 1, stop_ms=START_MS, trades=0, live_rate_per_s=0.7)
    assert tape.rows_visible(START_MS + 3_600_000 - 1) == 2520


def test_everything_up_to_now_can_be_seen() -> None:
    tape = Tape.generate(start_ms=START_MS, stop_ms=START_MS + 60_000, trades=1000, seed=5)
    for now_ms in range(START_MS - 1, START_MS + 60_000, 777):
        assert tape.rows_visible(now_ms) == tape.frame.filter(pl.col("T") <= now_ms).height


def test_a_row_cannot_be_seen_before_those_in_front_of_it(make_frame: Callable[..., pl.DataFrame]) -> None:
    """T may go back; ids are still published in order."""
    tape = Tape.from_frame(make_frame([1, 2, 3, 4], [10, 50, 20, 60]))
    assert not tape.is_chronological
    assert [tape.rows_visible(now_ms) for now_ms in (9, 10, 20, 49, 50, 60)] == [0, 1, 1, 1, 3, 4]


def test_a_hand_made_tape_infers_its_grids(make_frame: Callable[..., pl.DataFrame]) -> None:
    grid = Tape.from_frame(make_frame([1], [1])).grid
    assert (grid.tick, grid.lot) == (Decimal("0.1"), Decimal("0.01"))


def test_live_trades_follow_a_hand_made_frame(make_frame: Callable[..., pl.DataFrame]) -> None:
    tape = Tape.from_frame(make_frame([5, 6], [START_MS, START_MS + 10]), live_rate_per_s=10)
    seen = tape.visible(START_MS + 60_000)
    assert seen["a"].to_list() == list(range(5, 5 + seen.height))
    assert seen.height > 500
    assert seen["f"][2] == 7
    assert 90 < seen["p"][-1] < 110


def test_appended_rows_must_follow(make_frame: Callable[..., pl.DataFrame]) -> None:
    tape = Tape.from_frame(make_frame([5, 6], [10, 20]))
    tape.append(make_frame([7], [15]))
    assert tape.visible(20)["a"].to_list() == [5, 6, 7]
    assert not tape.is_chronological
    with pytest.raises(ValueError, match="appended rows do not follow"):
        tape.append(make_frame([7], [30]))


def test_ids_of_a_hand_made_tape_must_ascend(make_frame: Callable[..., pl.DataFrame]) -> None:
    with pytest.raises(ValueError, match="must ascend"):
        Tape.from_frame(make_frame([5, 5], [10, 20]))


def test_live_trades_need_a_beginning(make_frame: Callable[..., pl.DataFrame]) -> None:
    with pytest.raises(ValueError, match="needs live_start_ms"):
        Tape.from_frame(make_frame([], []), live_rate_per_s=1)
    tape = Tape.from_frame(make_frame([], []), live_rate_per_s=1, live_start_ms=START_MS)
    assert tape.rows_visible(START_MS + 10_000) >= 10


@settings(deadline=None)
@given(seed=seeds, per_day=st.integers(1, 500), days=st.integers(0, 4), rest_ms=st.integers(0, 86_399_999))
def test_each_whole_day_has_its_trades(seed: int, per_day: int, days: int, rest_ms: int) -> None:
    """And keeps them when the tape is made again for a later now, but for markers."""
    first_day, stop_ms = date(2026, 1, 1), START_MS + days * 86_400_000 + rest_ms
    tape = Tape.generate_days(first_day=first_day, stop_ms=stop_ms, trades_per_day=per_day, seed=seed)
    expected = {START_MS + day * 86_400_000: per_day for day in range(days)}
    expected |= {START_MS + days * 86_400_000: per_day * rest_ms // 86_400_000}
    counted = tape.frame.group_by(pl.col("T") // 86_400_000 * 86_400_000).len()
    assert dict(counted.rows()) == {start_ms: rows for start_ms, rows in expected.items() if rows}
    assert tape.frame["a"].diff().drop_nulls().eq(1).all()
    later = Tape.generate_days(first_day=first_day, stop_ms=stop_ms + 10**8, trades_per_day=per_day, seed=seed)
    assert_frame_equal(later.frame.head(days * per_day), tape.frame.head(days * per_day))
