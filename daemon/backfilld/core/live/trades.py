"""A trade as it comes by a stream, and frames of them.

Owns the row type of everything live. Rows stay single objects until they are stored: a frame per message would cost
more than the message.
"""

from collections.abc import Sequence

import msgspec
import polars as pl

from backfilld.core.backfill.questions import Edge, Neighbour
from backfilld.core.frame import SCHEMA
from backfilld.core.model import EARLIEST_MS, LATEST_MS, MAX_ID


class LiveTrade(msgspec.Struct, gc=False):
    """One aggregate trade; the fields are the columns of SCHEMA."""

    T: int
    a: int
    p: float
    q: float
    f: int
    l: int  # noqa: E741 - the exchange's name
    m: bool
    M: bool = True


def is_plausible(trade: LiveTrade) -> bool:
    """Whether every value keeps the rules that a checked page keeps. NaN fails every comparison."""
    if not (0 <= trade.a <= MAX_ID and EARLIEST_MS <= trade.T <= LATEST_MS):
        return False
    if trade.p == 0:
        return trade.q == 0 and trade.f == -1 and trade.l == -1
    return 0 < trade.p < float("inf") and 0 <= trade.q < float("inf") and 0 <= trade.f <= trade.l <= MAX_ID


def neighbour_of(trade: LiveTrade) -> Neighbour:
    """The trade as one that others stand beside."""
    return Neighbour(trade.a, trade.T, is_row=True, edge=Edge(trade.p, trade.f, trade.l), is_sure=False)


def frame_of(trades: Sequence[LiveTrade]) -> pl.DataFrame:
    """The trades as a frame with SCHEMA."""
    return pl.DataFrame({name: [getattr(trade, name) for trade in trades] for name in SCHEMA}, schema=SCHEMA)


def trades_of(frame: pl.DataFrame) -> list[LiveTrade]:
    """The rows of a frame with SCHEMA."""
    return [LiveTrade(*row) for row in frame.select(list(SCHEMA)).iter_rows()]
