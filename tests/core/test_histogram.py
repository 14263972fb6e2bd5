"""Counts by size: every value is counted once, at the first bound that is not below it."""

import math

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.histogram import Histogram

BOUNDS = (0.1, 1.0, 10.0)


def test_a_value_on_a_bound_counts_below_it() -> None:
    assert Histogram.empty(*BOUNDS).plus(1.0).counts == (0, 1, 0, 0)
    assert Histogram.empty(*BOUNDS).plus(10.5).counts == (0, 0, 0, 1)


@given(st.lists(st.floats(0, 100)))
def test_every_value_is_counted_once(values: list[float]) -> None:
    histogram = Histogram.empty(*BOUNDS)
    for value in values:
        histogram = histogram.plus(value)
    assert histogram.count == len(values)
    assert math.isclose(histogram.total, math.fsum(values))
    for place, bound in enumerate(BOUNDS):
        assert sum(histogram.counts[: place + 1]) == sum(value <= bound for value in values)
