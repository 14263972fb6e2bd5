"""What to ask next, so that every trade of a window is held and none is asked for twice.

Owns the plan of one instrument: a :class:`Backfill` is told what is held and what was answered, and says what to ask.
It asks for ids, and for times only to find the ends of the window:

    head   Since(start)  the first id, then Before(start), whose id + 1 must be the same: nothing was passed over;
                         if there is none, Before(stop) must be none of the window either
    tail   Tail(last)    what follows the newest id held; a short answer is the end
    end    Newest, or Since(stop) for a window that is over: the last id, once there is more than a page to get
    pages  Page(ids)     whatever is missing between the first and the last id known
    doubt  Later(held)   once, when a resumed tail is empty: later trades with lower ids are another sequence

Cold that is head, end, pages; on resume tail, and pages for holes. The pages are not a list that is worked off: each is
derived from what is held at that moment, so an answer that is short, or leaves ids out, needs no special plan.
It never looks at a clock: :meth:`Backfill.top_up` starts a new round of questions for a window that is still open.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from backfilld.core.ledger import Coverage
from backfilld.core.model import LATEST_MS, PAGE_ROWS, IdRange
from backfilld.core.query import Before, Found, Later, Newest, Page, Query, Since, Tail

MAX_ABSENT_RANGES = 20
"""How many ranges the exchange may pass over before a backfill takes its answers for lies and gives up whole pages."""


@dataclass(frozen=True, slots=True)
class Span:
    """Contiguous ids that are held, with the times of the first and the last row in ms."""

    ids: IdRange
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is wanted: ``start_ms`` up to, not including, ``stop_ms``; None is open: up to now."""

    start_ms: int
    stop_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A question that was given up, and why, in a sentence."""

    query: Query
    reason: str


def joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in id order, with neighbours joined where their ids adjoin."""
    result: list[Span] = []
    for span in sorted(spans, key=lambda each: each.ids):
        if result and result[-1].ids.last_id + 1 == span.ids.first_id:
            first = result.pop()
            result.append(Span(IdRange(first.ids.first_id, span.ids.last_id), first.first_ms, span.last_ms))
        else:
            result.append(span)
    return result


class Backfill:
    """The plan for one instrument and window.

    ``held`` are the spans on disk; ``first_is_proven`` says that the lowest id held is known to be the window's first.
    Every question from :meth:`take` must be followed by :meth:`answered` or :meth:`failed`, in any order.
    """

    def __init__(self, window: Window, held: Iterable[Span] = (), *, first_is_proven: bool = False) -> None:
        spans = joined(held)
        self.window = window
        self.received = Coverage.of(span.ids for span in spans)
        self.absent = Coverage()
        self.first_id: int | None = None
        self.first_is_proven = False
        self.last_id: int | None = None
        self.failures: list[Failure] = []
        self._given_up = Coverage()
        self._asked_pages: set[IdRange] = set()
        self._locating: deque[Query] = deque()
        self._open = 0
        self._tail_is_asked = False
        self._head_was_seen = False
        self._head_doubted = False
        self._begins_before_start = False
        self._begin(spans, first_is_proven=first_is_proven)

    def _begin(self, spans: list[Span], *, first_is_proven: bool) -> None:
        start_ms, stop_ms = self.window.start_ms, self.window.stop_ms
        over_start = next((span for span in spans if span.first_ms < start_ms <= span.last_ms), None)
        if over_start or (spans and first_is_proven):
            self._begins_before_start = over_start is not None
            self.first_id = (over_start or spans[0]).ids.first_id
            self.first_is_proven = True
        else:
            self._ask_head(1 if spans else PAGE_ROWS)
        over_stop = None if stop_ms is None else next((span for span in spans if span.last_ms >= stop_ms), None)
        if over_stop:
            self.last_id = over_stop.ids.last_id
        elif spans:
            self._ask_tail()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to ask in this round: complete, or as complete as the answers allowed."""
        return not self._locating and not self._open and self._next_page() is None

    @property
    def is_waiting(self) -> bool:
        """Whether a question that was taken has not come back."""
        return self._open > 0

    @property
    def is_complete(self) -> bool:
        """Whether the window is held without a hole up to its end or, if it is open, to the newest trade of this
        round."""
        if not self.is_done or self.failures or self.missing:
            return False
        return not self.received or (self.first_id is not None and self.last_id is not None)

    @property
    def neighbour(self) -> Before:
        """The question for the last trade before the window, which proves its first id."""
        return Before(self.window.start_ms)

    @property
    def proven_first_id(self) -> int | None:
        """The id that is proven to be the first at or after the start; None where what is held reaches over it."""
        return self.first_id if self.first_is_proven and not self._begins_before_start else None

    @property
    def missing(self) -> tuple[IdRange, ...]:
        """The ids between the window's first and last known id that are not held."""
        wanted = self._wanted()
        return self.received.missing(wanted) if wanted else ()

    def take(self, *, pages: bool = True) -> Query | None:
        """The next question to put, or None if there is none for now; without ``pages``, only one that locates."""
        query = self._locating.popleft() if self._locating else self._next_page() if pages else None
        if query is not None:
            self._open += 1
        if isinstance(query, Page):
            self._asked_pages.add(query.ids)
        return query

    def answered(self, query: Query, found: Found) -> None:
        """An answer was accepted; its rows, if any are to be kept, are on their way to the disk."""
        self._open -= 1
        if found.ids is not None and not isinstance(query, Before | Later):
            self.received |= Coverage((found.ids,))
        match query:
            case Page(ids):
                self._asked_pages.remove(ids)
            case Tail():
                self._reached(query.rows, found)
            case Before() if query == self.neighbour:
                self._neighbour_answered(found)
            case Before():
                self._emptiness_answered(query, found)
            case Since(start_ms) if start_ms == self.window.start_ms:
                self._head_answered(query, found)
            case Since():
                self._end_answered(query, found.beyond_id)
            case Later():
                pass
            case Newest():
                self._end_answered(query, None if found.ids is None else found.ids.last_id + 1)

    def failed(self, query: Query, reason: str, absent: IdRange | None = None) -> None:
        """A question was given up. ``absent``: the ids that the exchange passed over each time it was asked.

        Without the neighbour the window is held all the same, only its first id is not proven.
        """
        self._open -= 1
        if isinstance(query, Page):
            self._asked_pages.remove(query.ids)
        if (absent is not None and self._avoid(query, absent)) or query == self.neighbour:
            return
        self.failures.append(Failure(query, reason))
        if isinstance(query, Page):
            self._given_up |= Coverage((query.ids,))

    def _avoid(self, query: Query, absent: IdRange) -> bool:
        """Ask around ids that the exchange passes over; False if the question cannot be put another way."""
        if isinstance(query, Since) and query.rows > 1:
            self._head_was_seen = True
            self._locating.append(Since(query.start_ms, 1))
            return True
        if not isinstance(query, Page | Tail) or len(self.absent.ranges) >= MAX_ABSENT_RANGES:
            return False
        self.absent |= Coverage((absent,))
        if isinstance(query, Tail):
            self._locating.append(Tail(absent.last_id + 1))
        return True

    def top_up(self) -> None:
        """Begin a new round: ask for what is new, and again for what was given up. Only when :attr:`is_done`."""
        self.failures.clear()
        self._locating.clear()
        self._tail_is_asked = False
        self._head_doubted = False
        self._given_up = Coverage()
        self.last_id = None
        if self.first_id is None:
            self._ask_head(1 if self.received else PAGE_ROWS)
        elif not self.first_is_proven:
            self._locating.append(self.neighbour)
        if self.received:
            self._ask_tail()

    def doubt_silence(self, after_ms: int) -> None:
        """Ask whether the exchange has later trades although the tail was empty: then it counts in another sequence."""
        self._locating.append(Later(after_ms, self.received.last_id))

    def _ask_head(self, rows: int) -> None:
        self._locating.append(Since(self.window.start_ms, rows))

    def _ask_tail(self) -> None:
        self._tail_is_asked = True
        self._locating.append(Tail(max(self.received.last_id, self.absent.last_id if self.absent else 0) + 1))

    def _wanted(self) -> IdRange | None:
        first_id, last_id = self.first_id, self.last_id
        if self.received:
            first_id = self.received.first_id if first_id is None else first_id
            last_id = self.received.last_id if last_id is None else last_id
        if first_id is None or last_id is None or first_id > last_id:
            return None
        return IdRange(first_id, last_id)

    def _next_page(self) -> Page | None:
        wanted = self._wanted()
        if wanted is None:
            return None
        claimed = self.received | self.absent | self._given_up | Coverage.of(self._asked_pages)
        for ids in claimed.missing(wanted):
            return Page(IdRange(ids.first_id, min(ids.last_id, ids.first_id + PAGE_ROWS - 1)))
        return None

    def _head_answered(self, query: Since, found: Found) -> None:
        if found.ids is None and found.beyond_id is None:
            self._locating.append(self._last_of_window())
            return
        self.first_id = found.ids.first_id if found.ids else found.beyond_id
        self._locating.append(self.neighbour)
        if not self._tail_is_asked:
            self._reached(query.rows, found)

    def _last_of_window(self) -> Before:
        return Before(LATEST_MS if self.window.stop_ms is None else self.window.stop_ms)

    def _emptiness_answered(self, query: Before, found: Found) -> None:
        """No trade since the start was named: the last one of all must lie before it, or the answer was no answer."""
        is_empty = found.ids is None or found.first_ms < self.window.start_ms
        if is_empty and not self.received and not self._head_was_seen:
            return
        if self._head_doubted:
            self.failures.append(Failure(query, "the exchange has trades of the window and names no first one"))
            return
        self._head_doubted = True
        self._ask_head(1)

    def _neighbour_answered(self, found: Found) -> None:
        """The last trade before the window: the next id is the first, whatever the answer by time passed over."""
        self.first_is_proven = True
        if self.first_id is not None and found.ids is not None:
            self.first_id = min(self.first_id, found.ids.last_id + 1)

    def _reached(self, asked_rows: int, found: Found) -> None:
        """The page at the newest end came back: either it was the end, or the last id must be found."""
        if found.beyond_id is not None:
            self.last_id = found.beyond_id - 1
        elif found.rows < asked_rows:
            self.last_id = self.received.last_id
        else:
            stop_ms = self.window.stop_ms
            self._locating.append(self._newest() if stop_ms is None else Since(stop_ms, 1))

    def _end_answered(self, query: Since | Newest, next_id: int | None) -> None:
        if next_id is not None:
            self.last_id = next_id - 1
        elif isinstance(query, Since):
            self._locating.append(self._newest())
        else:
            self.failures.append(Failure(query, "the exchange has trades and names no newest one"))

    def _newest(self) -> Newest:
        return Newest(at_least_id=self.received.last_id)
