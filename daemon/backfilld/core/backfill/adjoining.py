"""Whether two trades can stand in this sequence.

Owns what one trade says of a later one: ids, times and the trade ids that it sums up ascend, and from one trade to the
next the price moves by a step. What contradicts it is a suspicion, which costs more answers, never a proof.
"""

import polars as pl

from backfilld.core.backfill.questions import Edge, Neighbour
from backfilld.core.day.division import OUT_OF_ORDER_MS

PRICE_STEP = 2.0
"""By so large a factor the price of one trade differs from that of the next only where they are of two symbols, or
right after a listing."""


def edge_of(trades: pl.DataFrame, row: int) -> Edge:
    """What this row says."""
    _, _, price, _, first_trade_id, last_trade_id, *_ = trades.row(row)
    return Edge(price, first_trade_id, last_trade_id)


def named(trades: pl.DataFrame, row: int) -> Neighbour:
    """This row, as a trade that an answer names."""
    at_ms, trade_id, *_ = trades.row(row)
    return Neighbour(trade_id, at_ms, is_row=False, edge=edge_of(trades, row))


def is_same(one: Neighbour, other: Neighbour) -> bool:
    """Whether two trades of one id say the same, as far as they are known."""
    return one.at_ms == other.at_ms and (one.edge is None or other.edge is None or one.edge == other.edge)


def can_follow(lower: Neighbour, upper: Neighbour) -> bool:
    """Whether ``upper``, which has the higher id, can come after ``lower``. A marker says nothing: it has the time of
    another trade."""
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


def _is_marker(trade: Neighbour) -> bool:
    return trade.edge is not None and trade.edge.price == 0
