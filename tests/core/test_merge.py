"""Joining trades keeps every id once, counts what was there twice, and never drops a difference silently."""

from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.merge import deduplicate, merge, typed
from tests.fakes import DAY_MS, trade_frame

IDS = st.sets(st.integers(0, 40), max_size=30)


def rows_of(ids: set[int], changed: set[int] = frozenset()) -> pl.DataFrame:  # type: ignore[assignment]
    """The one true row of each id, or another one for the ids that are ``changed``."""
    frame = trade_frame(sorted(ids), [DAY_MS + i for i in sorted(ids)])
    return frame.with_columns(p=pl.when(pl.col("a").is_in(list(changed))).then(pl.col("p") + 1).otherwise(pl.col("p")))


@given(IDS, IDS)
def test_merge_is_the_sorted_union_and_the_order_of_the_two_does_not_matter(stored: set[int], new: set[int]) -> None:
    merged = merge(rows_of(stored), rows_of(new))
    assert_frame_equal(merged.trades, rows_of(stored | new))
    assert_frame_equal(merged.trades, pl.concat([rows_of(stored), rows_of(new)]).unique().sort("a"))
    assert merged.duplicates == len(stored & new)
    assert merged.conflicts.is_empty()
    assert_frame_equal(merge(rows_of(new), rows_of(stored)).trades, merged.trades)


@given(IDS, IDS)
def test_merging_again_changes_nothing(stored: set[int], new: set[int]) -> None:
    once = merge(rows_of(stored), rows_of(new)).trades
    again = merge(once, rows_of(new))
    assert_frame_equal(again.trades, once)
    assert again.duplicates == len(new)


@given(IDS, IDS, IDS)
def test_of_two_different_trades_under_one_id_the_stored_one_stays_and_the_other_is_reported(
    stored: set[int], new: set[int], changed: set[int]
) -> None:
    merged = merge(rows_of(stored), rows_of(new, changed))
    conflicting = stored & new & changed
    assert_frame_equal(merged.trades, rows_of(stored | new, changed - stored))
    assert_frame_equal(merged.conflicts, rows_of(conflicting, changed))
    assert merged.duplicates == len(stored & new) - len(conflicting)


@given(st.lists(st.integers(0, 15), max_size=40), st.integers(0, 99))
def test_deduplicate_keeps_the_first_row_of_each_id_in_order(ids: list[int], seed: int) -> None:
    """Against a dictionary; every row is drawn from two that an id may have."""
    random = Random(seed)
    rows = [rows_of({i}, {i} if random.random() < 0.3 else set()) for i in ids]
    first: dict[int, pl.DataFrame] = {}
    for i, row in zip(ids, rows, strict=True):
        first.setdefault(i, row)
    same = sum(row.equals(first[i]) for i, row in zip(ids, rows, strict=True)) - len(first)
    result = deduplicate(pl.concat([empty_trades(), *rows]))
    assert_frame_equal(result.trades, pl.concat([empty_trades(), *(first[i] for i in sorted(first))]))
    assert result.duplicates == same
    assert result.conflicts.height == len(ids) - len(first) - same


def test_rows_after_the_end_are_appended_without_a_copy() -> None:
    """The fast path of every page of a running day: two chunks, the first untouched."""
    stored, new = rows_of({1, 2, 3}), rows_of({4, 5})
    merged = merge(stored, new)
    assert merged.trades.n_chunks() == 2
    assert merged.trades["a"].get_chunks()[0].to_list() == [1, 2, 3]
    assert merge(new, stored).trades["a"].to_list() == [1, 2, 3, 4, 5]


# -- typed

SENT = {
    "a": 26129,
    "p": "0.01633102",
    "q": "4.70443515",
    "f": 27781,
    "l": 27781,
    "T": 1498793709153,
    "m": True,
    "M": True,
}


def test_trades_as_binance_sends_them_become_the_columns_of_the_schema() -> None:
    frame = typed([SENT, SENT | {"a": 26130, "p": "0.00000000", "q": "0", "f": -1, "l": -1, "nq": "1"}])
    assert dict(frame.schema) == SCHEMA
    assert frame.row(0) == (1498793709153, 26129, 0.01633102, 4.70443515, 27781, 27781, True, True)
    assert frame.row(1, named=True)["p"] == 0.0


def test_a_market_without_best_match_has_it_true() -> None:
    rows = [{name: value for name, value in SENT.items() if name != "M"}, SENT | {"M": False}]
    assert typed(rows)["M"].to_list() == [True, False]
    frame = trade_frame([1, 2], [DAY_MS, DAY_MS]).drop("M")
    assert typed(frame)["M"].to_list() == [True, True]


def test_frames_of_other_order_and_types_are_brought_into_the_schema() -> None:
    frame = trade_frame([1, 2], [DAY_MS, DAY_MS])
    odd = frame.select(*reversed(frame.columns), pl.lit(1).alias("extra")).with_columns(
        pl.col("p", "q").cast(pl.String)
    )
    assert_frame_equal(typed(odd), frame)
    assert_frame_equal(typed(frame), frame)
    assert_frame_equal(typed([]), empty_trades())


def test_numbers_and_texts_may_stand_side_by_side() -> None:
    assert typed([SENT | {"p": 1.5}, SENT | {"p": "2.5"}, SENT | {"p": 3}])["p"].to_list() == [1.5, 2.5, 3.0]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(pl.exceptions.PolarsError):
        typed([SENT | {"p": "twelve"}])
    with pytest.raises(KeyError):
        typed([{"a": 1}])
    with pytest.raises(pl.exceptions.PolarsError):
        typed(pl.DataFrame({"a": [1]}))
