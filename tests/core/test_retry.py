"""How long to wait before asking, or starting, again."""

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.retry import Backoff, Restarts


@given(
    st.integers(1, 60),
    st.floats(0, 100),
    st.floats(0, 1, exclude_max=True),
    st.builds(Backoff, deadline_s=st.floats(0, 60), attempts=st.integers(1, 60)),
)
def test_a_wait_is_between_half_a_step_and_the_cap_until_patience_is_over(
    failures: int, tried_s: float, jitter: float, backoff: Backoff
) -> None:
    wait_s = backoff.wait_s(failures, tried_s, jitter)
    assert (wait_s is None) == (failures >= backoff.attempts and tried_s >= backoff.deadline_s)
    if wait_s is not None:
        step_s = min(backoff.cap_s, backoff.first_s * 2 ** (failures - 1))
        assert step_s / 2 <= wait_s <= step_s <= backoff.cap_s


def test_steps_double_up_to_the_cap() -> None:
    backoff = Backoff(deadline_s=20.0, attempts=4, first_s=0.25, cap_s=4.0)
    assert [backoff.wait_s(n, 0.0, 0.0) for n in range(1, 8)] == [0.125, 0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert backoff.wait_s(1, 0.0, 0.5) == 0.1875


def test_patience_outlasts_the_ten_seconds_that_the_exchange_itself_may_take() -> None:
    """The exchange says -1007 after ten seconds: a single answer so late must not be the last."""
    assert Backoff().deadline_s > 10
    assert Backoff().wait_s(1, 30.0, 0.9) is not None
    assert Backoff().wait_s(4, 20.0, 0.9) is None


# -- starting again after a crash


@given(
    st.lists(st.floats(0.0, 400.0), min_size=1, max_size=40),
    st.integers(0, 6),
    st.floats(10.0, 1000.0),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_no_window_holds_more_starts_than_are_allowed_and_no_fewer_are_granted(
    gaps: list[float], most: int, window_s: float, jitter: float
) -> None:
    restarts, now = Restarts(most=most, window_s=window_s), 0.0
    crashes: list[float] = []
    for gap in gaps:
        now += gap
        crashes.append(now)
        recent = [at for at in crashes if at > now - window_s]
        wait_s = restarts.after_crash(now, jitter)
        assert (wait_s is None) == (len(recent) > most)
        if wait_s is not None:
            step_s = min(restarts.cap_s, restarts.first_s * 2 ** (len(recent) - 1))
            assert step_s / 2 <= wait_s <= step_s


def test_crashes_in_a_row_are_met_later_each_time_and_then_no_more() -> None:
    restarts = Restarts()
    assert [restarts.after_crash(n, 0.0) for n in range(7)] == [0.25, 0.5, 1.0, 2.0, 4.0, None, None]


def test_a_crash_that_is_long_ago_is_forgotten() -> None:
    restarts = Restarts(most=1, window_s=100.0)
    assert restarts.after_crash(0.0, 0.0) == 0.25
    assert restarts.after_crash(100.0, 0.0) == 0.25
    assert restarts.after_crash(199.9, 0.0) is None


def test_the_wait_is_capped() -> None:
    restarts = Restarts(most=100, cap_s=30.0)
    assert max(restarts.after_crash(0.0, 0.999) or 0.0 for _ in range(50)) <= 30.0
