"""The six questions that are put to the exchange about an instrument, and what an answer says.

Owns the vocabulary between planner, page check and client. Rules of selection: both times inclusive on ``T``,
``fromId`` inclusive, never both in one request; with a start the oldest rows are kept, with an end alone the newest.
"""

from dataclasses import dataclass

from backfilld.core.model import PAGE_ROWS, IdRange


@dataclass(frozen=True, slots=True)
class Page:
    """The trades with exactly these ids, at most PAGE_ROWS of them."""

    ids: IdRange

    @property
    def rows(self) -> int:
        """The limit to ask with."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Tail:
    """Whatever follows: the trades from ``first_id`` on, up to a full page. A short answer means the newest is
    reached."""

    first_id: int
    rows: int = PAGE_ROWS


@dataclass(frozen=True, slots=True)
class Since:
    """The first trades at or after ``start_ms``, and before ``stop_ms`` if it is given, in id order."""

    start_ms: int
    rows: int = 1
    stop_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """The last trade before ``stop_ms``: the neighbour that proves which id is the first of a day."""

    stop_ms: int
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest trade, or the newest before ``stop_ms``. Its id cannot be below ``at_least_id``, which is held; it is
    not wanted if it is older than ``since_ms``."""

    at_least_id: int
    since_ms: int = 0
    stop_ms: int | None = None
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Later:
    """Any trade at or after ``after_ms``; its id cannot be ``held_id`` or below, which was traded before."""

    after_ms: int
    held_id: int
    rows: int = 1


Query = Page | Tail | Since | Before | Newest | Later


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that was given up, and why, in a sentence."""

    query: Query
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the rows of an accepted answer are: contiguous ids, and the times of the first and the last row in ms.

    ``beyond_id`` is the id of the first row at or after the window's stop, which was cut off, or None if there was
    none. ``rows`` counts what the exchange sent, cut rows included. ``is_marker`` says that the last row is one of the
    exchange's markers, whose time is another trade's.
    """

    ids: IdRange | None
    first_ms: int
    last_ms: int
    rows: int
    beyond_id: int | None = None
    is_marker: bool = False


NOTHING = Found(ids=None, first_ms=0, last_ms=0, rows=0)
"""An accepted answer without rows."""
