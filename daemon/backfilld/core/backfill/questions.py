"""The six questions that are put to the exchange about an instrument, and what an answer says.

Owns the vocabulary between planner, page check and client. Rules of selection: both times inclusive on ``T``,
``fromId`` inclusive, never both in one request; with a start the oldest rows are kept, with an end alone the newest.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange


class Edge(NamedTuple):
    """What the row at an end of an answer says besides its id and its time: the price, and the first and the last of
    the trades that it sums up. A marker has the price 0."""

    price: float
    first_trade_id: int
    last_trade_id: int


class Neighbour(msgspec.Struct, frozen=True):
    """A trade that is known. ``is_row`` if its row is stored or on its way there; else an answer has named it.

    ``came_with`` are the ids of the answer that brought it in this plan, None for what was stored before. ``is_sure``
    unless that answer stands alone: several answers have said the same, or an earlier process has stored it. ``edge``
    is the rest of its row, where it is known."""

    trade_id: int
    at_ms: int
    is_row: bool
    edge: Edge | None = None
    came_with: IdRange | None = None
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """The trades with exactly these ids, at most PAGE_ROWS of them. ``next_id`` is an id behind them that is known to
    exist, so that an answer cannot begin above it; None if none is known. With ``overlaps`` the trade before the ids,
    which exists, is asked for as well: an answer without it is wrong, and it is not kept again. ``beside`` are trades
    that are known around the ids."""

    ids: IdRange
    next_id: int | None = None
    overlaps: bool = False
    beside: tuple[Neighbour, ...] = field(default=(), compare=False, repr=False)

    @property
    def rows(self) -> int:
        """The limit to ask with."""
        return len(self.ids) + self.overlaps

    @property
    def first_id(self) -> int:
        """The id to ask from."""
        return self.ids.first_id - self.overlaps


@dataclass(frozen=True, slots=True)
class Tail:
    """Whatever follows: the trades from ``first_id`` on, up to a full page. ``known_id`` is an id that is known to
    exist: where it is not below ``first_id``, an empty answer is a lie. With ``overlaps`` the first trade is stored: it
    is asked for as a proof that the answer is not older, and not kept again. ``beside`` as for a page."""

    first_id: int
    rows: int = PAGE_ROWS
    known_id: int | None = None
    overlaps: bool = False
    beside: tuple[Neighbour, ...] = field(default=(), compare=False, repr=False)


class Since(msgspec.Struct, frozen=True):
    """The first trade at or after ``start_ms``."""

    start_ms: int
    rows: int = 1


class Before(msgspec.Struct, frozen=True):
    """The last trade before ``stop_ms``: the neighbour that proves which id is the first of a day."""

    stop_ms: int
    rows: int = 1


@dataclass(frozen=True, slots=True)
class At:
    """The trade with this id, behind which one is known to exist; or that one, if there is none with this id. It shows
    whether the trades from the next id on are the first ones. ``beside`` as for a page."""

    trade_id: int
    rows: int = 1
    beside: tuple[Neighbour, ...] = field(default=(), compare=False, repr=False)


class Newest(msgspec.Struct, frozen=True):
    """The newest trade, or the newest before ``stop_ms``. Its id cannot be below ``at_least_id``, which exists.

    With more ``rows`` those before it come too, and show at what pace trades come."""

    at_least_id: int
    stop_ms: int | None = None
    rows: int = 1


Query = Page | Tail | Since | Before | At | Newest


def brings_rows(query: Query) -> bool:
    """Whether the rows of the answer are kept. What answers a question by time only locates: nothing vouches for its
    id, and the page that it leads to brings it."""
    return isinstance(query, Page | Tail)


class Failure(msgspec.Struct, frozen=True):
    """A question that was given up, and why, in a sentence."""

    query: Query
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the rows of an accepted answer are: the first and the last id, and the times of those rows in ms.

    ``skipped`` are the ids that the answer passed over, from the first id asked for to its last row. ``beyond_id`` is
    the id of the first row at or after the window's stop, from which on all was cut off, or None if there was none.
    ``rows`` counts what the exchange sent, cut rows included. ``is_marker`` says that the last row is one of the
    exchange's markers, whose time is another trade's. ``lull_ms`` is the longest time between two rows, where several
    of the newest were asked for. ``edges`` are the rest of the first and the last row. ``is_confirmed`` if several
    answers have said the same.
    """

    ids: IdRange | None
    first_ms: int
    last_ms: int
    rows: int
    beyond_id: int | None = None
    is_marker: bool = False
    skipped: tuple[IdRange, ...] = ()
    lull_ms: int = 0
    edges: tuple[Edge, Edge] | None = field(default=None, compare=False, repr=False)
    is_confirmed: bool = field(default=False, compare=False, repr=False)

    @property
    def present(self) -> IdSet:
        """The ids that came."""
        return IdSet() if self.ids is None else IdSet((self.ids,)) - IdSet(self.skipped)


NOTHING = Found(ids=None, first_ms=0, last_ms=0, rows=0)
"""An accepted answer without rows."""
