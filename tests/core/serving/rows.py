"""Trades by traditional decimals, and as the frame that is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
from hypothesis import strategies as st

from backfilld.core.frame import SCHEMA


@dataclass(frozen=True, slots=True)
class Row:
    time_ms: int
    id: int
    price: Decimal
    quantity: Decimal
    first: int
    last: int
    is_maker: bool


def frame_of_rows(rows: Sequence[Row]) -> pl.DataFrame:
    columns = {
        "T": [row.time_ms for row in rows],
        "a": [row.id for row in rows],
        "p": [float(row.price) for row in rows],
        "q": [float(row.quantity) for row in rows],
        "f": [row.first for row in rows],
        "l": [row.last for row in rows],
        "m": [row.is_maker for row in rows],
        "M": [True] * len(rows),
    }
    return pl.DataFrame({name: columns[name] for name in SCHEMA}, schema=SCHEMA)


@st.composite
def rows_in_time(draw: st.DrawFn, *, least: int = 1, markers: bool = True) -> list[Row]:
    """Trades whose ids and times ascend; at least one is not a marker row."""
    steps = draw(
        st.lists(st.sampled_from([0, 1, 400, 999, 1000, 20_000, 60_000, 200_000]), min_size=least, max_size=40)
    )
    time_ms, first = draw(st.integers(0, 10**7)), draw(st.integers(0, 10**6))
    rows: list[Row] = []
    for number, step in enumerate(steps):
        time_ms += step
        is_marker = markers and number > 0 and draw(st.integers(0, 9)) == 0
        fills = draw(st.integers(1, 3))
        price = Decimal(draw(st.integers(1, 10**13))).scaleb(-8)
        quantity = Decimal(draw(st.integers(1, 10**12))).scaleb(-8)
        maker = draw(st.booleans())
        if is_marker:
            rows.append(Row(time_ms, 7 + number, Decimal(), Decimal(), -1, -1, maker))
        else:
            rows.append(Row(time_ms, 7 + number, price, quantity, first, first + fills - 1, maker))
            first += fills
    return rows
