"""What is known of a window: its ends, the ids received, and those that are missing.

Owns the read-only side of a plan. Must not ask, and must not take answers; the plan does.
"""

from collections.abc import Iterable

from backfilld.core.backfill.doubts import Doubts
from backfilld.core.backfill.neighbours import KnownTrades
from backfilld.core.backfill.newest_shown import NewestShown, ShownEnd
from backfilld.core.backfill.pace import Pace
from backfilld.core.backfill.paging import towards_end
from backfilld.core.backfill.questions import Again, Before, Found, Neighbour, Newest, Page, Tail
from backfilld.core.backfill.support import Support
from backfilld.core.backfill.wanted_ids import WantedIds
from backfilld.core.backfill.window_end import WindowEnd
from backfilld.core.backfill.window_start import WindowStart
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from backfilld.core.timespan import TimeSpan


class KnownWindow:
    """The window between what is known of its start and of its end."""

    _pace: Pace
    _open: int

    def __init__(
        self,
        window: TimeSpan,
        ids: WantedIds,
        head: WindowStart,
        trades: KnownTrades,
        shown: NewestShown | None = None,
        support: Support | None = None,
    ) -> None:
        self.window = window
        self._ids = ids
        self._head = head
        self._trades = trades
        self._end = WindowEnd(window.stop_ms, shown)
        self._support = Support() if support is None else support
        if support is None:
            self._support.trust(ids.received)
        self.doubts = Doubts(self._support, trades)
        """Which rows are doubted."""

    @property
    def received(self) -> IdSet:
        """The ids that are stored, or on their way to the disk."""
        return self._ids.received

    def row(self, trade_id: int) -> Neighbour | None:
        """What is known of the row with this id, if it is at the end of an answer or of what was stored."""
        return self._trades.row(trade_id)

    @property
    def absent(self) -> IdSet:
        """Ids not to ask for: the exchange passed over them in this round, or is known not to have them."""
        return self._ids.absent

    @absent.setter
    def absent(self, ids: IdSet) -> None:
        self._ids.absent = ids

    @property
    def doubted(self) -> IdSet:
        """The ids that came with answers that contradict each other."""
        return self.doubts.doubted

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is awaited."""
        return self._open > 0

    @property
    def _lacks_support(self) -> IdSet:
        """The rows that too few answers speak for, where the window is all that is wanted."""
        return self._support.weak(self.received) if self._head.proves else IdSet()

    def _confirmation(self) -> Again | None:
        """The question for a trade of rows that too few answers speak for, where the window is all that is wanted."""
        return None if self._open or not self._head.proves else self.doubts.confirmation(self.received)

    def doubt_beside(self, query: Page | Tail | Again | Newest) -> bool:
        """No answer to this question could be used. Whether rows beside its ids are doubted."""
        return self.doubts.doubt_beside(query, self.received, is_wary=self._ids.is_wary)

    def doubt_what_is_contested(self) -> bool:
        """Nothing is left to ask. Whether rows are doubted that some answers contradict, and too few speak for."""
        return self.doubts.doubt_what_is_contested(self.received)

    @property
    def is_located(self) -> bool:
        """Whether both ends are known, and so how much there is to fetch."""
        return self.first_id is not None and self.last_id is not None

    @property
    def first_id(self) -> int | None:
        """The window's first id, as far as it is known."""
        return self._head.first_id

    @property
    def first_ms(self) -> int | None:
        """The time of the window's first trade, if its row came."""
        return self._head.first_ms

    @property
    def last_id(self) -> int | None:
        """The window's last id, as far as it is known."""
        return self._end.last_id

    @property
    def reaches_end(self) -> bool:
        """Whether an answer of this round named the last known id as the newest, or ended with it."""
        return self._end.is_shown

    @property
    def beyond_id(self) -> int | None:
        """The first id after the window, once the exchange has shown it."""
        return self._end.beyond_id

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
        """The first id at or after the start, if that is proven and the id is stored or known to be absent. None if the
        stored trades reach over the start."""
        if self.first_id is None or not self.first_is_proven or self._head.reaches_over:
            return None
        return self.first_id if self.first_id in (self.received | self._ids.known_absent) else None

    @property
    def missing(self) -> tuple[IdRange, ...]:
        """The ids between the window's first and last known id that are neither received nor known to be absent."""
        return self._ids.missing(self._wanted())

    def shown_to_note(self) -> ShownEnd | None:
        """What the next process must know of the trades that the exchange has shown; None if nothing changed."""
        return self._end.shown.to_note(self.received.last_id if self.received else None, self._pace.last_ms)

    def certify(self, absent: Iterable[IdRange]) -> None:
        """Note that these ids are known to be absent, so they are not missing."""
        self._ids.known_absent |= IdSet.of(absent)

    @property
    def _has_trades(self) -> bool:
        """Whether trades of the window are stored, or an answer has shown one."""
        return bool(self.received) or self._end.reaches(self.window.start_ms)

    @property
    def _to_page(self) -> IdRange | None:
        """The ids that pages may ask for: none while the window's first trade is awaited."""
        return None if self._head.is_open else self._wanted()

    def _next_page(self) -> Page | Tail | None:
        page = self._ids.next_page(self._to_page)
        if page is None or self.last_id is None or not self._end.wants_tail:
            return page
        is_closed = self.window.stop_ms is not None
        return towards_end(page, self.last_id, is_closed=is_closed, is_wary=self._ids.is_wary)

    def _wanted(self) -> IdRange | None:
        first_id, last_id = self.first_id, self.last_id
        if self.received:
            first_id = self.received.first_id if first_id is None else first_id
            last_id = self.received.last_id if last_id is None else last_id
        if first_id is None or last_id is None or first_id > last_id:
            return None
        return IdRange(first_id, last_id)

    def _is_of_window(self, found: Found) -> bool:
        """Whether there are rows of the window: by their times or, whatever those say, because they follow stored rows
        of the window."""
        is_behind = bool(self.received) and found.ids is not None and self.received.first_id < found.ids.first_id
        return found.ids is not None and (is_behind or max(found.first_ms, found.last_ms) >= self.window.start_ms)

    def _is_only_named(self, ids: IdRange) -> bool:
        """Whether no row of the window is stored from these ids on."""
        return not self.received or ids.first_id > self.received.last_id

    def _is_wanted(self, trade_id: int) -> bool:
        return self.last_id is not None and trade_id <= self.last_id and trade_id not in self.received

    def _lower_first(self) -> None:
        if self.received and self.first_id is not None:
            self._head.lower(self.received.first_id)
