"""The questions that the live side asks REST: those about holes at once, precautions at a pace.

Owns which question of an instrument is out, and the rows that come before its answer. Must not know streams.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl
import trio

from backfilld.actors.live_announcements import LiveAnnouncements, LiveClock
from backfilld.actors.messages import FetchJob, Job
from backfilld.core.backfill.questions import Found, Tail
from backfilld.core.frame import empty_trades
from backfilld.core.live.asks import Ask, Why
from backfilld.core.live.attachment import Attachment
from backfilld.core.live.pace import JOIN_WEIGHT, SILENCE_WEIGHT, Pace
from backfilld.core.live.trades import LiveTrade, trades_of
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import IdRange, Instrument
from backfilld.core.weight.fair_queue import Rank
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import RateLimited, UnexpectedAnswer

Question = tuple[Instrument, Attachment, Ask]

_PACES = {Why.JOIN: JOIN_WEIGHT, Why.SILENCE: SILENCE_WEIGHT}
"""Questions that nothing that is known to be missing makes necessary, and the weight a minute that they may cost."""


@dataclass(slots=True)
class Healing:
    """The questions of all instruments; ``jobs`` go to fetchers that only heal."""

    jobs: trio.MemorySendChannel[Job]
    announce: LiveAnnouncements
    clock: LiveClock
    _asked: dict[Instrument, Ask] = field(default_factory=dict)
    _pages: dict[Instrument, pl.DataFrame] = field(default_factory=dict)
    _paces: dict[tuple[Pool, Why], Pace] = field(
        default_factory=lambda: {(pool, why): Pace(weight) for pool in Pool for why, weight in _PACES.items()}
    )

    def ask(self, questions: Iterable[Question], now: float) -> None:
        """Ask questions: precautions as the pace allows, those of the busiest instruments first."""
        cautious = []
        for question in questions:
            if question[2].why in _PACES:
                cautious.append(question)
            else:
                self._ask(question, now)
        for instrument, attachment, ask in sorted(cautious, key=lambda each: -each[1].published):
            rules = RULES[instrument.market]
            if self._paces[rules.pool, ask.why].take(rules.weights[Endpoint.TRADES], now):
                self._ask((instrument, attachment, ask), now)

    def ask_on(self, instrument: Instrument, attachment: Attachment, now: float) -> None:
        """Put the next question at once if it is about a hole: one of hundreds of pages does not wait for a look at the
        clock after each of them."""
        ask = attachment.question(now)
        if ask is not None and ask.why not in _PACES:
            self._ask((instrument, attachment, ask), now)

    def fetched(self, instrument: Instrument, trades: pl.DataFrame) -> None:
        """Take rows; the answer that they belong to comes next."""
        self._pages[instrument] = trades

    def answered(
        self, instrument: Instrument, attachment: Attachment | None, found: Found, now: float
    ) -> list[LiveTrade] | None:
        """Return the trades that can go out after this answer; None if nobody waits for it."""
        trades, ask = trades_of(self._pages.pop(instrument, empty_trades())), self._asked.pop(instrument, None)
        if attachment is None or ask is None:
            return None
        next_id = attachment.next_id or 0
        for absent in found.skipped:
            if absent.first_id <= next_id <= absent.last_id:
                attachment.passed_over(IdRange(next_id, absent.last_id), now)
        return attachment.answered(trades, ask.why, now)

    def failed(
        self, instrument: Instrument, attachment: Attachment | None, error: Exception | None, now: float
    ) -> None:
        """The question was given up."""
        self._pages.pop(instrument, None)
        self._asked.pop(instrument, None)
        if attachment is None:
            return
        if isinstance(error, UnexpectedAnswer) and error.absent is not None:
            attachment.passed_over(IdRange(*error.absent), now)
            return
        pause_s = error.retry_after_s if isinstance(error, RateLimited) else None
        attachment.failed(now, pause_s or 0.0)
        if error is not None:
            self.announce.unanswered(instrument, error)

    def _ask(self, question: Question, now: float) -> None:
        instrument, attachment, ask = question
        attachment.asked(now)
        self._asked[instrument] = ask
        self.announce.asked(instrument, attachment.sequence.hole)
        last = attachment.sequence.last
        query = Tail(ask.first_id, beside=() if last is None else (last,))
        latest_ms = self.clock.later_ms(instrument.market)
        if last is not None:
            latest_ms = max(latest_ms, last.at_ms)
        self.jobs.send_nowait(FetchJob(instrument, query, rank=Rank.HEAL, latest_ms=latest_ms))
