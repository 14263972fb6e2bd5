"""What to ask next, so that every trade of a window is stored and none is asked for twice.

Owns the plan of one instrument: it takes what is stored and what was answered, and names the next question:

    start  Since(start)  the first id, and Before(start), whose id + 1 must be the same: :mod:`.window_start`
    end    Newest        the last id, and Tail(ids), where two must agree: :mod:`.window_end`
    pages  Page(ids)     ids that are missing between the first and the last one known; the last page is a tail

Each page is derived from the ids that are missing at that moment, so a short answer needs no special plan. If an answer
passes over ids, they are asked for once more by themselves; if the second answer passes over them too, they are
suspected to be absent. Ids that the exchange refuses for their age are left out (:mod:`.lookback`). The plan never
looks at a clock: :meth:`BackfillPlan.top_up` starts a new round of questions for an open window.
"""

from collections.abc import Collection, Iterable

from backfilld.core.backfill.asks import Asks
from backfilld.core.backfill.known_window import KnownWindow
from backfilld.core.backfill.neighbours import KnownTrades
from backfilld.core.backfill.newest_shown import NewestShown
from backfilld.core.backfill.pace import Pace
from backfilld.core.backfill.questions import Again, At, Before, Failure, Found, Newest, Page, Query, Since, Tail
from backfilld.core.backfill.support import Support
from backfilld.core.backfill.wanted_ids import WantedIds, asked_ids
from backfilld.core.backfill.window_start import WindowStart
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from backfilld.core.timespan import StoredSpan, TimeSpan, joined

NOTHING = IdSet()


class BackfillPlan(KnownWindow):
    """The plan for one instrument and window.

    ``held`` are the spans on disk. ``first_is_proven`` and ``last_is_proven``: the lowest and the highest of their ids
    are known to be the window's first and last. The exchange is known not to have the ids in ``absent``; those in
    ``postponed`` are missing, but not to be asked for now. Without ``proves_first`` the first id need not be proven.
    ``now_ms`` is roughly the exchange's time, 0 if it is not known. Pages are taken in ascending order, or
    ``newest_first``. ``shown`` is the newest trade that the exchange has shown before, ``support`` the answers for rows
    so far. If ``is_wary``, an answer has to overlap a known trade, or several answers have to agree. Each
    question from :meth:`take` must be followed by :meth:`answered`, :meth:`failed` or :meth:`unanswered`, in any order.
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
        shown: NewestShown | None = None,
        very_first: Collection[int] = (),
        is_wary: bool = False,
        support: Support | None = None,
    ) -> None:
        spans = joined(held)
        received = IdSet.of(span.ids for span in spans)
        super().__init__(
            window,
            WantedIds(received, absent, postponed, newest_first=newest_first, is_wary=is_wary),
            WindowStart(window.start_ms, proves=proves_first, very_first=very_first),
            KnownTrades(spans, NOTHING if support is None else support.weak(received)),
            shown,
            support,
        )
        self._failures: list[Failure] = []
        self._refusal: Failure | None = None
        self._open, self._start_was_doubted = 0, False
        self._pace = Pace(window.start_ms, spans, now_ms or None)
        self._begin(spans, first_is_proven=first_is_proven, last_is_proven=last_is_proven)

    def _begin(self, spans: list[StoredSpan], *, first_is_proven: bool, last_is_proven: bool) -> None:
        start_ms, stop_ms = self.window.start_ms, self.window.stop_ms
        over_start = next((span for span in spans if span.first_ms < start_ms <= span.last_ms), None)
        if over_start or (spans and first_is_proven):
            self._head.hold((over_start or spans[0]).ids.first_id, reaches_over=over_start is not None)
        elif spans and self._end.shown.is_first(spans[0].ids.first_id, start_ms):
            self._head.check(spans[0].ids.first_id)
        else:
            self._head.ask(with_first=not spans)
        over_stop = None if stop_ms is None else next((span for span in spans if span.last_ms >= stop_ms), None)
        if over_stop or (spans and last_is_proven):
            self._end.settle((over_stop or spans[-1]).ids.last_id)
        elif spans:
            self._end.hold(spans[-1].ids.last_id, spans[-1].last_ms)

    # -- where it stands

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The questions that were given up in this round, and the first one that the exchange refused for its age."""
        unproven = None if self._open or self._failures else self._head.failure(has_trades=self._has_trades)
        also = (self._refusal if self.missing else None, unproven)
        return (*self._failures, *(each for each in also if each is not None))

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to ask in this round: the window is as complete as the answers allowed."""
        return not self._open and self.next_question() is None

    @property
    def is_complete(self) -> bool:
        """Whether the window is stored without a hole up to its end, which is proven, or agreed on in this round."""
        is_stored = self.is_done and not self.failures and not self.missing and self._end.is_agreed
        return is_stored and not self._lacks_support

    # -- asking

    def next_question(self, asks: Asks = Asks.ALL) -> Query | None:
        """What :meth:`take` would return, without taking it."""
        if self._head.to_ask and asks is not Asks.NEWEST:
            return self._head.to_ask[0]
        page = self._next_page()
        is_filled = page is None and not self._ids.are_asked and not self._head.is_open
        holds_rows = self.last_id is not None and self.last_id in self.received
        query = self._end.question(holds_rows=holds_rows, is_filled=is_filled)
        if asks is Asks.NEWEST:
            return query if isinstance(query, Newest) and query.stop_ms is None else None
        return query if query is not None or asks is Asks.LOCATING else page or self._confirmation()

    def take(self, asks: Asks = Asks.ALL) -> Query | None:
        """The next question to ask, None if there is none for now."""
        if (query := self.next_question(asks)) is None:
            return None
        self._open += 1
        if isinstance(query, Page | Tail):
            self._ids.took(query, self._to_page)
            query = self._trades.put_beside(query, asked_ids(query))
        if isinstance(query, Tail | Newest):
            self._end.took()
        elif isinstance(query, Before | Since | At):
            if not isinstance(query, Again):
                self._head.to_ask.remove(query)
            if isinstance(query, At):
                query = self._trades.put_beside(query, IdRange(query.trade_id, query.trade_id))
        return query

    # -- answers

    def answered(self, query: Query, found: Found, now_ms: int | None = None) -> None:
        """Enter an accepted answer; its rows are on their way to the disk. ``now_ms`` as for the plan, if known."""
        self._end.shown.now_ms = self._pace.now_ms = now_ms or self._pace.now_ms
        self._came_back(query)
        contradicted = self._trades.learn(query, found)
        if isinstance(query, Page | Tail):
            self._receive(query, found)
        self._answer_start(query, found)
        if isinstance(query, Page | Tail) and found.ids is not None:
            self._receive_any_time(found, found.ids)
        # A stored id lies in the window, unless an answer that overlaps shows the same row after it.
        is_stored = found.beyond_id in self.received if found.beyond_id is not None else False
        overlaps = isinstance(query, Page | Tail) and query.overlaps
        match query:
            case _ if (overlaps or not is_stored) and self._end.show_behind(query, found):
                pass
            case Tail():
                self._end.tail_answered(query, found, self._pace)
            case Newest():
                reason = self._end.newest_answered(query, found, self._pace)
                if reason is not None:
                    self._failures.append(Failure(query, reason))
        if self._head.is_missing and self._has_trades:
            self._doubt_start(query)
        self.doubts.weigh(query, found, self.first_id, self.received, contradicted)

    def _receive(self, query: Page | Tail, found: Found) -> None:
        if self._is_of_window(found):
            self._hold(found)
            if found.ids is not None and not isinstance(query, Tail):
                self._end.show(found.ids.last_id, found.last_ms)
        self._ids.answered(query, found)

    def _hold(self, found: Found) -> None:
        new = found.present - self.received
        self._ids.receive(new)
        self._pace.count(new.rows, found.first_ms, found.last_ms)

    def _receive_any_time(self, found: Found, ids: IdRange) -> None:
        """Once the first id is known, rows from it on are of the window, whatever their times say."""
        if self.first_id is not None and ids.first_id >= self.first_id:
            self._hold(found)

    def _answer_start(self, query: Query, found: Found) -> None:
        match query:
            case Page() | Tail():
                self._head.show(found)
                self._head.take(found)
            case Before():
                self._ids.neighbour_id = None if found.ids is None else found.ids.last_id
                self._head.neighbour_answered(found, self.received.first_id if self.received else None)
                self._lower_first()
                if found.ids is not None:
                    self._end.show(found.ids.last_id, found.last_ms)
            case Since():
                self._head.first_answered(found)
                if found.ids is not None:
                    self._end.show(found.ids.first_id, found.first_ms)
            case At() if not isinstance(query, Again):
                self._head.at_answered(query, found)
                self._lower_first()
            case _:
                pass

    def _doubt_start(self, query: Query) -> None:
        """The exchange has shown trades of the window, so it must name a first one. Ask again, once."""
        was_doubted, self._start_was_doubted, self._head.is_missing = self._start_was_doubted, True, False
        if not was_doubted:
            self._head.doubt()
        elif self.first_id is None:
            self._failures.append(Failure(query, "the exchange has trades of the window and names no first one"))

    def failed(self, query: Query, reason: str, absent: IdRange | None = None) -> None:
        """Enter that a question was given up. ``absent`` are the ids of a jump too long to believe one answer alone;
        they are taken as absent if the newest trade comes after them.

        Without the neighbour the window is stored all the same; only its first id is not proven.
        """
        self._came_back(query)
        if isinstance(query, Since) and self._head.first_failed():
            return
        if isinstance(query, Again):
            self.doubts.confirmation_failed()
        elif query == self.neighbour or isinstance(query, At):
            self._head.proof_failed(query)
            return
        if isinstance(query, Page | Tail):
            if absent is not None and self.last_id is not None and absent.last_id < self.last_id:
                self._ids.absent |= IdSet((absent,))
                self._end.put_back(query)
                return
            self._ids.give_up(query)
        self._failures.append(Failure(query, reason))
        self._end.failed(query)

    def refuted(self, query: Page | Tail, reason: str) -> bool:
        """Give up ids that only one answer has named and no answer brings, if no row above them is stored; then the
        newest trade has to be named anew. Return whether the question was of that kind."""
        if not self._is_only_named(asked_ids(query)):
            return False
        self._came_back(query)
        self._ids.give_up(query)
        self._end.put_back(query)
        if self._is_only_named(IdRange(self.last_id or 0, self.last_id or 0)):
            self._end.refute(self.received.last_id if self.received else None, self._pace.last_ms)
        if self._end.is_failed:
            self._failures.append(Failure(query, reason))
        return True

    def unanswered(self, query: Query, reason: str, *, too_old: bool = True) -> None:
        """Enter that the exchange refuses to answer for a time so long ago (``too_old``), or for the symbol at all. Its
        ids are not asked for again, and the ends stay as proven by what is stored."""
        self._came_back(query)
        first_held, last_held = (self.received.first_id, self.received.last_id) if self.received else (None, None)
        if isinstance(query, Since):
            self._head.first_failed()
        elif isinstance(query, Again):
            self.doubts.confirmation_failed()
        elif query == self.neighbour or isinstance(query, At):
            self._head.neighbour_refused(first_held)
        elif isinstance(query, Page) or (isinstance(query, Tail) and self._is_wanted(query.first_id)):
            self._ids.refused(query, too_old=too_old)
            self._refusal = self._refusal or Failure(query, reason)
            self._end.put_back(query)
        elif isinstance(query, Tail | Newest):
            self._end.refused(query, last_held)
        if isinstance(query, Since | Newest) and last_held is None:
            self._failures.append(Failure(query, reason))

    def arrived(self, found: Found) -> None:
        """Enter rows that nobody asked for; they are on their way to the disk."""
        if found.ids is not None and self._is_of_window(found):
            self._hold(found)
            self._trades.follow(found)
            if self.window.stop_ms is None:
                self._end.show(found.ids.last_id, found.last_ms)

    def top_up(self, *, asks_end: bool = True) -> None:
        """Begin a new round: ask again for ids that were given up and, with ``asks_end``, for new trades."""
        self._failures.clear()
        self._start_was_doubted = False
        self.doubts.begin_round()
        self._ids.begin_round()
        self._end.begin_round((self.received.last_id, self._pace.last_ms) if self.received else None)
        if not asks_end and self.received and not self._end.shown.is_behind(self.received.last_id, self._pace.last_ms):
            self._end.settle(self.received.last_id)
        if not self.first_is_proven:
            self._head.ask(with_first=not self.received and self.first_id is None)

    # -- inside

    def _came_back(self, query: Query) -> None:
        self._open -= 1
        if isinstance(query, Page | Tail):
            self._ids.came_back(query)
