"""What to ask next, so that every trade of a window is held and none is asked for twice.

Owns the plan of one instrument: it takes what is stored and what was answered, and names the next question.
It asks for ids, and for times only to find the ends of the window:

    head   Since(start)  the first id, and Before(start), whose id + 1 must be the same: nothing was passed over
    end    Newest        the last id, and of days that are over the one behind it; head and end are asked for at once.
                         Where the end is surely far from the start, the head is a full page
    tail   Tail(last)    in place of the end where something is held: what follows; a short answer is the end
    pages  Page(ids)     whatever is missing between the first and the last id known
    doubt  Later(held)   once, when a resumed tail is empty: later trades with lower ids are another sequence

Each page is derived from what is stored at that moment, so a short answer, or one that leaves ids out, needs no special
plan. It never looks at a clock: :meth:`BackfillPlan.top_up` starts a new round of questions for an open window.
"""

from collections import deque
from collections.abc import Iterable

from backfilld.core.backfill.paging import next_page
from backfilld.core.backfill.questions import Before, Failure, Found, Later, Newest, Page, Query, Since, Tail
from backfilld.core.backfill.window_start import PAGE_MS, WindowStart
from backfilld.core.ids import IdSet
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.core.timespan import StoredSpan, TimeSpan, joined

MAX_ABSENT_RANGES = 20
"""How many ranges the exchange may pass over before a backfill takes its answers for lies and gives up whole pages."""

NOTHING = IdSet()


class BackfillPlan:
    """The plan for one instrument and window.

    ``held`` are the spans on disk; ``first_is_proven`` and ``last_is_proven`` say that the lowest and the highest id
    held are known to be the window's first and last. Ids in ``absent`` the exchange is known not to have; those in
    ``postponed`` are missing, but not to be asked for now. Without ``proves_first`` the first id need not be proven.
    ``now_ms`` is about the exchange's time, if it is known. Pages are taken from the oldest on, or from the newest.
    Every question from :meth:`take` must be followed by :meth:`answered` or :meth:`failed`, in any order.
    """

    def __init__(
        self,
        window: TimeSpan,
        held: Iterable[StoredSpan] = (),
        *,
        first_is_proven: bool = False,
        last_is_proven: bool = False,
        absent: IdSet = NOTHING,
        postponed: IdSet = NOTHING,
        now_ms: int = 0,
        newest_first: bool = False,
        proves_first: bool = True,
    ) -> None:
        spans = joined(held)
        self.window = window
        self.received = IdSet.of(span.ids for span in spans)
        self.absent = absent | postponed
        self._known_absent, self._known_ranges = absent, len(self.absent.ranges)
        self.last_id: int | None = None
        self.beyond_id: int | None = None
        """The first id after the window, where the exchange has shown it."""
        self._is_over = window.stop_ms is not None and window.stop_ms % MS_PER_DAY == 0 and window.stop_ms <= now_ms
        self.failures: list[Failure] = []
        self._given_up = IdSet()
        self._asked_pages: set[IdRange] = set()
        self._locating: deque[Query] = deque()
        self._open = 0
        self._newest_first = newest_first
        self._end_is_missing = False
        self._doubted: set[type[Query]] = set()
        is_long = min(now_ms, window.stop_ms or now_ms) >= window.start_ms + 2 * PAGE_MS
        self._head = WindowStart(window.start_ms, takes_page=is_long, proves=proves_first)
        self._begin(spans, first_is_proven=first_is_proven, last_is_proven=last_is_proven)

    def _begin(self, spans: list[StoredSpan], *, first_is_proven: bool, last_is_proven: bool) -> None:
        start_ms, stop_ms = self.window.start_ms, self.window.stop_ms
        over_start = next((span for span in spans if span.first_ms < start_ms <= span.last_ms), None)
        if over_start or (spans and first_is_proven):
            self._head.hold((over_start or spans[0]).ids.first_id, reaches_over=over_start is not None)
        else:
            self._head.ask(with_first=not spans)
        over_stop = None if stop_ms is None else next((span for span in spans if span.last_ms >= stop_ms), None)
        if over_stop or (spans and last_is_proven):
            self.last_id = (over_stop or spans[-1]).ids.last_id
        else:
            self._ask_end()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to ask in this round: complete, or as complete as the answers allowed."""
        return not (self._locating or self._head.to_ask or self._open) and self._next_page() is None

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
        return not self.received or self.is_located

    @property
    def is_located(self) -> bool:
        """Whether both ends are known, and with them how much there is to fetch."""
        return self.first_id is not None and self.last_id is not None

    @property
    def first_id(self) -> int | None:
        """The window's first id, as far as it is known."""
        return self._head.first_id

    @property
    def first_is_proven(self) -> bool:
        """Whether the id before the first is known to lie before the window."""
        return self._head.is_proven

    @property
    def neighbour(self) -> Before:
        """The question for the last trade before the window, which proves its first id."""
        return self._head.neighbour

    @property
    def proven_first_id(self) -> int | None:
        """The id that is held, or absent for good, and proven to be the first at or after the start; None where what
        is held reaches over it."""
        if self.first_id is None or not self.first_is_proven or self._head.reaches_over:
            return None
        return self.first_id if self.first_id in (self.received | self._known_absent) else None

    @property
    def missing(self) -> tuple[IdRange, ...]:
        """The ids between the window's first and last known id that are not held, without those known to be absent."""
        wanted = self._wanted()
        return (self.received | self._known_absent).missing(wanted) if wanted else ()

    def next_question(self, *, pages: bool = True) -> Query | None:
        """What :meth:`take` would return, without taking it."""
        if self._head.to_ask:
            return self._head.to_ask[0]
        if self._locating:
            return self._locating[0]
        return self._next_page() if pages else None

    def take(self, *, pages: bool = True) -> Query | None:
        """The next question to put, or None if there is none for now; without ``pages``, only one that locates."""
        query = self.next_question(pages=pages)
        if query is None:
            return None
        self._open += 1
        for questions in (self._head.to_ask, self._locating):
            if questions and questions[0] is query:
                questions.popleft()
                break
        if isinstance(query, Page):
            self._asked_pages.add(query.ids)
        return query

    def answered(self, query: Query, found: Found) -> None:
        """An answer was accepted; its rows, if any are to be kept, are on their way to the disk."""
        self._open -= 1
        if found.ids is not None and found.last_ms >= self.window.start_ms and not isinstance(query, Later):
            self.received |= IdSet((found.ids,))
        match query:
            case Page(ids):
                self._asked_pages.remove(ids)
                self._head.heed(found)
            case Tail():
                self._head.heed(found)
                self._tail_answered(query.rows, found)
            case Before():
                self._head.neighbour_answered(found)
                if self.received and self.first_id is not None:
                    self._head.lower(self.received.first_id)
            case Since():
                self._head.first_answered(query, found)
            case Newest():
                self._end_answered(found)
            case Later():
                pass
        self._doubt_emptiness(query)

    def _doubt_emptiness(self, query: Query) -> None:
        """Where trades of the window are held, the exchange must name a first and a last one: it is asked once more."""
        if self.received and self._head.is_missing and self.first_id is None:
            self._head.is_missing = False
            if self._doubts(Since, query, "the exchange has trades of the window and names no first one"):
                self._head.ask_first()
        if (self.received or self._head.is_preceded) and self._end_is_missing:
            self._end_is_missing = False
            if self._doubts(Newest, query, "the exchange has trades and names no newest one"):
                self._ask_newest()

    def _doubts(self, kind: type[Query], query: Query, reason: str) -> bool:
        if kind in self._doubted:
            self.failures.append(Failure(query, reason))
            return False
        self._doubted.add(kind)
        return True

    def failed(self, query: Query, reason: str, absent: IdRange | None = None) -> None:
        """A question was given up. ``absent``: the ids that the exchange passed over each time it was asked.

        Without the neighbour the window is held all the same, only its first id is not proven.
        """
        self._open -= 1
        if isinstance(query, Page):
            self._asked_pages.remove(query.ids)
        if isinstance(query, Since) and self._head.first_failed(query):
            return
        if absent is not None and self._avoid(query, absent):
            return
        if query == self.neighbour:
            self._head.neighbour_failed()
            return
        self.failures.append(Failure(query, reason))
        if isinstance(query, Page):
            self._given_up |= IdSet((query.ids,))

    def unanswered(self, query: Query, reason: str) -> None:
        """The exchange answers nothing of so long ago, or of the symbol at all: no older ids are asked for, and what is
        held is all there is to know of the ends."""
        self._open -= 1
        if isinstance(query, Page):
            self._asked_pages.remove(query.ids)
            self._given_up |= IdSet((IdRange(0, query.ids.last_id),))
        if isinstance(query, Since):
            self._head.first_failed(query)
        elif query == self.neighbour and self.received:
            self._head.lower(self.received.first_id)
        elif query == self.neighbour:
            self._head.neighbour_failed()
        elif isinstance(query, Tail | Newest) and self.received:
            self.last_id = self.received.last_id
        if isinstance(query, Page) or (isinstance(query, Since | Newest) and not self.received):
            self.failures.append(Failure(query, reason))

    def _avoid(self, query: Query, absent: IdRange) -> bool:
        """Ask around ids that the exchange passes over; False if the question cannot be put another way."""
        if not isinstance(query, Page | Tail) or len(self.absent.ranges) >= MAX_ABSENT_RANGES + self._known_ranges:
            return False
        self.absent |= IdSet((absent,))
        if isinstance(query, Tail):
            self._locating.append(Tail(absent.last_id + 1))
        return True

    def arrived(self, found: Found) -> None:
        """Rows that nobody asked for are on their way to the disk."""
        if found.ids is not None and found.last_ms >= self.window.start_ms:
            self.received |= IdSet((found.ids,))

    def certify(self, absent: Iterable[IdRange]) -> None:
        """These ids are known to be absent: they are not missing."""
        self._known_absent |= IdSet.of(absent)

    def top_up(self, *, asks_end: bool = True) -> None:
        """Begin a new round: ask for what is new, unless that arrives by itself, and again for what was given up."""
        self.failures.clear()
        self._doubted.clear()
        self._locating.clear()
        self._given_up = IdSet()
        self.last_id = None if asks_end or not self.received else self.received.last_id
        if not self.first_is_proven:
            self._head.ask(with_first=not self.received and self.first_id is None)
        if self.last_id is None:
            self._ask_end()

    def doubt_silence(self, after_ms: int) -> None:
        """Ask whether the exchange has later trades although the tail was empty: then it counts in another sequence."""
        self._locating.append(Later(after_ms, self.received.last_id))

    def _ask_end(self) -> None:
        """What follows what is held, or where there is nothing to follow, the last id."""
        if self.received:
            self._locating.append(Tail(max(self.received.last_id, self.absent.last_id if self.absent else 0) + 1))
        elif self.first_is_proven and self.first_id is not None:
            self._locating.append(Tail(self.first_id))
        else:
            self._ask_newest()

    def _ask_newest(self) -> None:
        self._end_is_missing = False
        held_id = self.received.last_id if self.received else 0
        self._locating.append(Newest(held_id, self.window.start_ms, self.window.stop_ms))

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
        if wanted is None or self._head.is_open:
            return None
        claimed = self.received | self.absent | self._given_up | IdSet.of(self._asked_pages)
        missing = claimed.missing(wanted)
        return next_page(missing, self.received, newest_first=self._newest_first) if missing else None

    def _tail_answered(self, asked_rows: int, found: Found) -> None:
        """The page at the newest end came back: either it was the end, or the last id must be found."""
        if found.beyond_id is not None:
            self.last_id, self.beyond_id = found.beyond_id - 1, found.beyond_id
        elif found.rows >= asked_rows:
            self._ask_newest()
        elif self.received:
            self.last_id = self.received.last_id

    def _end_answered(self, found: Found) -> None:
        self._end_is_missing = found.ids is None
        if found.ids is not None:
            self.last_id = found.ids.last_id
            if self._is_over:
                self._locating.append(Tail(self.last_id + 1, rows=1))
