"""A worker that is closing and does not end is ended."""

from collections import deque

import pytest

from backfilld.adapters.dask_worker import CLOSING_S, LOOK_S, watch


@pytest.mark.parametrize(
    ("states", "expected_s"),
    [
        (["running"] * 100 + ["closing"] * 1000, 100 + CLOSING_S),
        (["init", "running"] + ["closing"] * 10 + ["running"] * 5 + ["closed"] * 1000, 17 + CLOSING_S),
        (["running"] + ["closing_gracefully", "closing", "failed"] * 100, 1 + CLOSING_S),
    ],
)
def test_a_worker_is_ended_once_it_has_been_closing_for_long(states: list[str], expected_s: float) -> None:
    waiting, now, ends = deque(states), [0.0], list[int]()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    watch(waiting.popleft, ends.append, lambda: now[0], sleep)
    assert ends == [1]
    assert now[0] == pytest.approx(expected_s, abs=LOOK_S)
