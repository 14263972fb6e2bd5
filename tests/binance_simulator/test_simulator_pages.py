"""The text of a row says exactly what the tape holds."""

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binance_simulator import Tape
from binance_simulator.model import SCHEMA, Market
from binance_simulator.pages import BLOCK_ROWS, Pages

prices = st.integers(0, 10**14).map(lambda units: units / 10**8)


@settings(deadline=None)
@given(values=st.lists(st.tuples(prices, prices), min_size=1, max_size=20))
def test_decimal_text_reads_back_as_the_float_it_was_written_from(values: list[tuple[float, float]]) -> None:
    ids = range(len(values))
    frame = pl.DataFrame(
        {"T": ids, "a": ids, "p": [p for p, _ in values], "q": [q for _, q in values], "f": -1, "l": -1}
    ).with_columns(m=pl.lit(value=True), M=pl.lit(value=False))
    rows = json.loads(Pages(Tape.from_frame(frame), Market.SPOT).page(range(len(values))))
    assert [(float(row["p"]), float(row["q"])) for row in rows] == values
    assert rows[0].keys() == set(SCHEMA)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 3 * BLOCK_ROWS), rows=st.integers(0, 1000))
def test_a_page_is_the_same_wherever_blocks_end(make_frame: Callable[..., pl.DataFrame], start: int, rows: int) -> None:
    """Cut from finished blocks, across their edges, and from the unfinished last one."""
    total = 2 * BLOCK_ROWS + 100
    ids = list(range(total))
    pages = Pages(Tape.from_frame(make_frame(ids, ids)), Market.CM)
    stop = min(start + rows, total)
    page: list[dict[str, Any]] = json.loads(pages.page(range(min(start, stop), stop)))
    assert [row["a"] for row in page] == ids[start:stop]


@pytest.mark.parametrize(
    ("quantity", "text"),
    [(36_038_999.3, "36038999.30000000"), (999_999_999_999.0, "999999999999.00000000"), (0.1 + 0.2, "0.30000000")],
)
def test_large_and_odd_floats_are_written_as_the_exchange_has_them(
    make_frame: Callable[..., pl.DataFrame], quantity: float, text: str
) -> None:
    """A rounding to eight decimals of the whole float writes 36038999.29999999."""
    frame = make_frame([1], [1]).with_columns(q=pl.lit(quantity))
    tape = Tape.from_frame(frame, lot="0.1")
    (row,) = json.loads(Pages(tape, Market.SPOT).page(range(1)))
    assert row["q"] == text


def test_futures_write_their_precision_and_not_the_digits_of_the_tick() -> None:
    tape = Tape.generate(start_ms=0, stop_ms=1000, trades=3, tick="0.1", lot="0.001", price_precision=2)
    for row in json.loads(Pages(tape, Market.UM).page(range(3))):
        assert [len(row[key].partition(".")[2]) for key in "pq"] == [2, 3]
