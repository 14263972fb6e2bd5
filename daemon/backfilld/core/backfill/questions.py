"""The seven questions that we ask the exchange about an instrument, and what an answer says.

Owns the vocabulary between planner, answer check and client. The exchange selects rows by ``T``, both ends inclusive,
or from ``fromId`` on, inclusive, never by both in one request. With a start it sends the oldest rows, with an end alone
the newest.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange


class Edge(NamedTuple):
    """The rest of the row at an end of an answer, beside its id and time: the price, and the first and the last of the
    trades that it aggregates. A marker has the price 0."""

    price: float
    first_trade_id: int
    last_trade_id: int


class Neighbour(msgspec.Struct, frozen=True):
    """A known trade near the ids of a question. ``is_row`` if its row is stored or on its way there; else an answer has
    only named it.

    ``came_with`` are the ids of the answer that brought it in this plan, None if it was stored before. It ``is_sure``
    if several answers agree on it, or an earlier process has stored it. ``edge`` is the rest of its row, if known."""

    trade_id: int
    at_ms: int
    is_row: bool
    edge: Edge | None = None
    came_with: IdRange | None = None
    is_sure: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """The trades with exactly these ids, at most PAGE_ROWS of them. ``next_id`` is an id after them that is known to
    exist, so no answer may begin above it; None if none is known. With ``overlaps`` the question includes the trade
    before the ids, which exists: an answer without it is wrong. That trade is not kept again. ``beside`` are known
    trades around the ids."""

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
    """The trades from ``first_id`` on, up to a full page. ``known_id`` is an id that is known to exist: unless it is
    below ``first_id``, an empty answer is wrong. With ``overlaps`` the first trade is stored already: it proves that
    the answer does not come from an older replica, and is not kept again. ``beside`` as for a page."""

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
    """The trade with this id or, if there is none, the next one, which is known to exist. The answer shows whether the
    next id is the window's first. ``beside`` as for a page."""

    trade_id: int
    rows: int = 1
    beside: tuple[Neighbour, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Again(At):
    """The trade with this id, which came before: another answer is to speak for it."""


class Newest(msgspec.Struct, frozen=True):
    """The newest trade, or the newest before ``stop_ms``. Its id cannot be below ``at_least_id``, which exists.

    With more ``rows`` the trades before it come too, and show the pace of trades. It ``needs_agreement`` after one
    that was refuted: then several have to say the same."""

    at_least_id: int
    stop_ms: int | None = None
    rows: int = 1
    needs_agreement: bool = False


Query = Page | Tail | Since | Before | At | Again | Newest


def brings_rows(query: Query) -> bool:
    """Whether the rows of the answer are kept. The answer to a question by time only locates an id, which nothing
    confirms; the page with that id brings the row."""
    return isinstance(query, Page | Tail)


class Failure(msgspec.Struct, frozen=True):
    """A question that was given up, and the reason as a sentence."""

    query: Query
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """Summary of an accepted answer: its first and last id, and the times of those two rows in ms.

    ``skipped`` are the ids that the answer passed over, from the first id asked for to its last row. ``beyond_id`` is
    the id of the first row at or after the window's stop, None if there is none; the rows from there on were cut off.
    ``rows`` counts all rows that the exchange sent. ``is_marker``: the last row is one of the exchange's markers, which
    have the time of another trade. ``lull_ms`` is the longest time between two rows, if several of the newest were
    asked for. ``edges`` are the rest of the first and the last row. ``is_confirmed``: several answers agreed,
    of which ``agreeing`` said this and those ``against`` something else.
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
    agreeing: int = field(default=1, compare=False, repr=False)
    against: int = field(default=0, compare=False, repr=False)

    @property
    def present(self) -> IdSet:
        """The ids of the rows."""
        return IdSet() if self.ids is None else IdSet((self.ids,)) - IdSet(self.skipped)


NOTHING = Found(ids=None, first_ms=0, last_ms=0, rows=0)
"""An accepted answer without rows."""
