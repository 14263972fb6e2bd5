"""The exchange's time: one answer moves it little, two agreeing ones set it, and no answer alone changes the day."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.model import EARLIEST_MS, LATEST_MS, MS_PER_DAY, day_of
from backfilld.core.sync.exchange_time import INSISTENCE_MS, STEP_MS, ExchangeTime, Stamp
from tests.fakes import DAY, DAY_MS

NOON_MS = DAY_MS + MS_PER_DAY // 2
LATER = DAY + timedelta(days=40)
JUMP_MS = 40 * MS_PER_DAY


def stamp(local_ms: float, error_ms: int = 0) -> Stamp:
    """An answer of an exchange whose clock stood at noon at local 0, stamped wrongly by ``error_ms``."""
    return Stamp(local_ms - 10, local_ms, int(NOON_MS + local_ms) + error_ms, 1)


def clock_of(*errors_ms: int, wall_error_ms: int = 0) -> ExchangeTime:
    """The clock after answers one second apart."""
    time = ExchangeTime(0.0, NOON_MS + wall_error_ms)
    for number, error_ms in enumerate(errors_ms):
        local_ms = 1000.0 * (number + 1)
        time.heard(stamp(local_ms, error_ms), NOON_MS + local_ms + wall_error_ms)
    return time


@pytest.mark.parametrize(
    ("errors_ms", "wall_error_ms", "today", "agreed"),
    [
        ((), 0, DAY, None),
        ((0,), 0, DAY, None),
        ((0, 0), 0, DAY, DAY),
        # One wrong stamp, first, last or between right ones.
        ((JUMP_MS, 0, 0), 0, DAY, DAY),
        ((0, 0, JUMP_MS), 0, DAY, None),
        ((0, JUMP_MS, 0), 0, DAY, None),
        ((0, JUMP_MS, 0, 0), 0, DAY, DAY),
        # Wrong stamps that agree: at the start they are believed and agree with nobody; later the day stands.
        ((JUMP_MS, JUMP_MS), 0, LATER, None),
        ((0, 0, JUMP_MS, JUMP_MS, JUMP_MS), 0, DAY, None),
        # A host whose clock is wrong: the exchange's day counts from its second answer on, and nobody agrees.
        ((0,), JUMP_MS, LATER, None),
        ((0, 0, 0), JUMP_MS, DAY, None),
        ((JUMP_MS, JUMP_MS, 0, 0), 0, DAY, None),
        ((JUMP_MS, JUMP_MS, 0, 0, 0), 0, DAY, DAY),
    ],
)
def test_table(errors_ms: tuple[int, ...], wall_error_ms: int, today: date, agreed: date | None) -> None:
    time = clock_of(*errors_ms, wall_error_ms=wall_error_ms)
    local_ms = 1000.0 * len(errors_ms)
    assert (time.day_at(local_ms), time.agreed_day(local_ms)) == (today, agreed)


@pytest.mark.parametrize("server_ms", [0, EARLIEST_MS - 1, LATEST_MS, 253_402_300_799_000, -1, 10**18])
def test_an_impossible_date_never_counts(server_ms: int) -> None:
    time = ExchangeTime(0.0, NOON_MS)
    for _ in range(3):
        time.heard(Stamp(0.0, 1.0, server_ms), NOON_MS)
    assert not time.is_heard
    assert time.day_at(1.0) == DAY


@pytest.mark.parametrize("wall_ms", [-1e15, 0.0, 1e18])
def test_a_host_clock_beyond_all_bounds_crashes_nothing(wall_ms: float) -> None:
    time = ExchangeTime(0.0, wall_ms)
    time.heard(stamp(1000.0), wall_ms)
    time.heard(stamp(2000.0), wall_ms)
    assert time.day_at(2000.0) == DAY
    assert time.agreed_day(2000.0) is None


def test_a_running_clock_follows_another_day_only_after_long_insistence() -> None:
    time = clock_of(0, 0)
    for local_ms in range(10_000, int(INSISTENCE_MS) + 20_000, 10_000):
        assert time.day_at(float(local_ms)) == DAY
        time.heard(stamp(float(local_ms), JUMP_MS), NOON_MS + local_ms)
    assert time.day_at(INSISTENCE_MS + 20_000.0) == LATER
    assert time.agreed_day(INSISTENCE_MS + 20_000.0) is None, "the host does not agree"


def test_midnight_comes_by_itself_and_is_agreed_on_by_two_answers_of_the_new_day() -> None:
    time = clock_of(0, 0)
    after_ms = float(MS_PER_DAY // 2 + 1000)
    assert time.day_at(after_ms) == DAY + timedelta(days=1)
    assert time.agreed_day(after_ms) is None
    for late_ms in (after_ms, after_ms + 1000):
        time.heard(stamp(late_ms), NOON_MS + late_ms)
    assert time.agreed_day(after_ms + 1000) == DAY + timedelta(days=1)


@given(st.lists(st.sampled_from([0, 0, 0, JUMP_MS, -JUMP_MS, 3 * STEP_MS]), max_size=30))
def test_no_wrong_stamps_make_a_wrong_day_agreed(errors_ms: list[int]) -> None:
    """While the host's clock is right, whatever the answers name."""
    local_ms = 1000.0 * len(errors_ms)
    assert clock_of(*errors_ms).agreed_day(local_ms) in {None, day_of(NOON_MS)}


def test_a_single_stamp_far_away_is_doubted_until_the_next_one() -> None:
    assert clock_of(0, JUMP_MS).is_doubted
    assert not clock_of(0, JUMP_MS, 0).is_doubted
    assert not clock_of(0, JUMP_MS, JUMP_MS).is_doubted
