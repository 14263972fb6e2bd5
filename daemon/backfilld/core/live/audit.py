"""Whether REST says the same as the stream of the trades that went out.

Owns those that are still to be compared, and when. Trades with wrong prices fit their neighbours, and nothing else
would ever show them. One answer proves little: ANSWERS in a row have to differ. Where more goes out than there is
weight to compare, the oldest go without.
"""

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from math import inf

from backfilld.core.live.trades import LiveTrade, is_same
from backfilld.core.model import IdRange

COMPARED, COMPARED_IN_ALL, LEAST_COMPARED = 900, 50_000, 20
"""Trades that wait to be compared: of one instrument, nearly a page; of all, about 10 MB; of one of very many."""

FIRST_S, EVERY_S, AGAIN_S = 30.0, 900.0, 2.0
"""Seconds from the beginning to the first look, from one look to the next while few trades go out, and after one that
differs."""

ANSWERS = 3
"""Answers in a row that must contradict the stream."""


@dataclass(slots=True)
class Audit:
    """The looks at one instrument: at ``due_at``, and before that once ``most`` trades wait. The last one that compared
    anything was at ``looked_at``."""

    due_at: float = inf
    most: int = COMPARED
    looked_at: float = -inf
    _waiting: deque[LiveTrade] = field(default_factory=deque)
    _differing: int = 0
    _wrong: IdRange | None = None

    @property
    def asks_at(self) -> float:
        """When the next look is due, if there is anything to compare."""
        is_full = len(self._waiting) >= self.most and not self._differing
        return -inf if is_full else self.due_at if self._waiting else inf

    @property
    def wrong(self) -> IdRange | None:
        """The trades in which enough answers differ, from the first to the last; None if the stream is to be
        believed."""
        return self._wrong if self._differing >= ANSWERS else None

    def begin(self, now: float) -> None:
        """Trades go out from now on."""
        self.due_at = now + FIRST_S

    def begins_at(self, next_id: int, now: float) -> int:
        """The id to ask from where ``next_id`` comes next: a look that is due costs nothing beside another question."""
        return self._waiting[0].a if self.asks_at <= now else next_id

    def went_out(self, trades: Iterable[LiveTrade], besides: Container[int] = ()) -> None:
        """Trades of a stream were given out; REST brought those with the ids ``besides``. While answers differ, it is
        the same ones that they are asked about."""
        if self._differing:
            return
        self._waiting.extend(each for each in trades if each.a not in besides)
        while len(self._waiting) > self.most:
            self._waiting.popleft()

    def compare(self, trades: Iterable[LiveTrade], now: float) -> None:
        """REST answered with these trades. What they confirm is not looked at again."""
        known = {each.a: each for each in self._waiting}
        compared = [(each, known[each.a]) for each in trades if each.a in known]
        differing = [ours.a for theirs, ours in compared if not is_same(theirs, ours)]
        if differing:
            self._differing += 1
            self._wrong = IdRange(differing[0], differing[-1])
            self.looked_at, self.due_at = now, now + AGAIN_S
        elif compared:
            self._differing, self.looked_at, self.due_at = 0, now, now + EVERY_S
            while self._waiting and self._waiting[0].a <= compared[-1][0].a:
                self._waiting.popleft()


def share_of_compared(instruments: int) -> int:
    """How many trades of each of ``instruments`` may wait to be compared."""
    return min(COMPARED, max(LEAST_COMPARED, COMPARED_IN_ALL // max(1, instruments)))
