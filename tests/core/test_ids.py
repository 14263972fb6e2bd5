"""A coverage is a set of ids, however it was put together."""

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from tests.strategies import coverages, id_ranges


def ids_of(ranges: tuple[IdRange, ...]) -> list[int]:
    return [i for each in ranges for i in range(each.first_id, each.last_id + 1)]


def as_set(coverage: IdSet) -> set[int]:
    return set(ids_of(coverage.ranges))


@given(st.lists(id_ranges(), max_size=10))
def test_of_is_the_union_of_any_ranges_in_normal_form(ranges: list[IdRange]) -> None:
    coverage = IdSet.of(ranges)
    assert as_set(coverage) == set(ids_of(tuple(ranges)))
    for left, right in pairwise(coverage.ranges):
        assert left.last_id + 1 < right.first_id, "adjacent or overlapping ranges were left apart"


@given(st.sets(st.integers(0, 80), max_size=40))
def test_of_ids_holds_exactly_the_ids_of_the_series(ids: set[int]) -> None:
    coverage = IdSet.of_ids(pl.Series(sorted(ids), dtype=pl.Int64))
    assert as_set(coverage) == ids
    assert coverage == IdSet.of(IdRange(i, i) for i in ids)


@given(coverages(), coverages())
def test_or_is_union_and_does_not_care_for_order(one: IdSet, other: IdSet) -> None:
    assert as_set(one | other) == as_set(one) | as_set(other)
    assert one | other == other | one
    assert one | one == one
    assert one | IdSet() == one


@given(coverages(), coverages())
def test_and_and_minus_are_those_of_sets_in_normal_form(one: IdSet, other: IdSet) -> None:
    assert as_set(one & other) == as_set(one) & as_set(other)
    assert as_set(one - other) == as_set(one) - as_set(other)
    assert one & other == IdSet.of((one & other).ranges)
    assert one - other == IdSet.of((one - other).ranges)


@given(coverages(), st.sets(st.integers(0, 70)))
def test_within_gives_each_part_with_the_number_of_its_range(coverage: IdSet, cuts: set[int]) -> None:
    edges = sorted(cuts)
    ranges = [IdRange(first, stop - 1) for first, stop in pairwise(edges)]
    for number, each in enumerate(ranges):
        parts = tuple(part for at, part in coverage.within(ranges) if at == number)
        assert set(ids_of(parts)) == as_set(coverage) & set(ids_of((each,)))


@given(coverages(), id_ranges())
def test_missing_is_what_a_set_difference_leaves(coverage: IdSet, wanted: IdRange) -> None:
    missing = coverage.missing(wanted)
    assert ids_of(missing) == sorted(set(ids_of((wanted,))) - as_set(coverage))
    assert IdSet.of(missing).ranges == missing, "not in normal form"
    assert coverage | IdSet.of(missing) == coverage | IdSet.of([wanted])


@given(coverages())
def test_rows_ends_and_holes_are_those_of_the_set(coverage: IdSet) -> None:
    ids = as_set(coverage)
    assert coverage.rows == len(ids)
    assert bool(coverage) == bool(ids)
    if ids:
        assert (coverage.first_id, coverage.last_id) == (min(ids), max(ids))
        assert set(ids_of(coverage.holes)) == set(range(min(ids), max(ids) + 1)) - ids
    else:
        assert coverage.holes == ()


@given(coverages(), st.integers(-2, 70))
def test_holds_is_membership(coverage: IdSet, trade_id: int) -> None:
    assert (trade_id in coverage) == (trade_id in as_set(coverage))


def test_an_id_range_is_never_empty_and_as_long_as_its_ids() -> None:
    assert len(IdRange(3, 3)) == 1
    assert len(IdRange(0, 999)) == 1000
    with pytest.raises(ValueError, match=r"empty id range 4\.\.3"):
        IdRange(4, 3)
