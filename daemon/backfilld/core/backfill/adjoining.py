"""Whether one trade can come after another.

Owns the rules for two trades of one symbol. Ids, times and the ids of the fills that a trade sums up all ascend. From
one trade to the next the price moves by a small factor. A pair that breaks a rule is only suspect: more answers are
asked for."""

import polars as pl

from backfilld.core.backfill.questions import Edge, Neighbour
from backfilld.core.day.anomalies import MARKER
from backfilld.core.day.division import OUT_OF_ORDER_MS

PRICE_STEP = 2.0
"""The largest factor between the prices of two trades with adjacent ids. A larger one means two symbols, or the first
minutes after a listing."""


def edge_of(trades: pl.DataFrame, row: int) -> Edge:
    """The price of this row, and the first and last fill that it sums up."""
    _, _, price, _, first_trade_id, last_trade_id, *_ = trades.row(row)
    return Edge(price, first_trade_id, last_trade_id)


def named(trades: pl.DataFrame, row: int) -> Neighbour:
    """The trade in this row."""
    at_ms, trade_id, *_ = trades.row(row)
    return Neighbour(trade_id, at_ms, is_row=False, edge=edge_of(trades, row))


def is_same(one: Neighbour, other: Neighbour) -> bool:
    """Whether two trades with one id are equal in all that is known of both."""
    return one.at_ms == other.at_ms and (one.edge is None or other.edge is None or one.edge == other.edge)


def can_follow(lower: Neighbour, upper: Neighbour) -> bool:
    """Whether ``upper``, which has the higher id, can come after ``lower``. A marker row has the time of another trade,
    so it fits everywhere."""
    if _is_marker(lower) or _is_marker(upper):
        return True
    if upper.at_ms < lower.at_ms - OUT_OF_ORDER_MS:
        return False
    if lower.edge is None or upper.edge is None:
        return True
    is_step = lower.trade_id + 1 < upper.trade_id or (
        lower.edge.price <= upper.edge.price * PRICE_STEP and upper.edge.price <= lower.edge.price * PRICE_STEP
    )
    return is_step and lower.edge.last_trade_id < upper.edge.first_trade_id


def goes_back(trades: pl.DataFrame) -> tuple[int, int] | None:
    """Two times of rows in sequence of their ids of which the second is earlier than it can be; None if all can be."""
    if trades["T"].is_sorted():
        return None
    times = trades.filter(~MARKER)["T"]
    latest = times.cum_max()
    at = int((latest - times).arg_max() or 0) if times.len() else 0
    return (latest[at], times[at]) if times.len() and times[at] < latest[at] - OUT_OF_ORDER_MS else None


def _is_marker(trade: Neighbour) -> bool:
    return trade.edge is not None and trade.edge.price == 0
