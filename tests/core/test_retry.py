"""How long to wait before asking again."""

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.retry import Backoff


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
