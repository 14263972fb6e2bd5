"""The newest trades of each live instrument in memory, and whether they reach up to now.

Owns the rows that came live and are perhaps not on disk yet, and their bound. Must not wait for anybody.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from backfilld.core.live.trades import LiveTrade, frame_of
from backfilld.core.model import Instrument, day_of
from backfilld.core.serving.timeline import Piece
from backfilld.store.day_pieces import are_chronological, pieces_of

KEPT_ROWS = 300_000
"""Live trades of one instrument in memory, 15 MB: what came since the day file was written last, at 1,000 a second."""

PACKED_ROWS = 2048
"""Trades that make a frame: a trade as an object takes three times the memory."""

FRESH_S = 10.0
"""After this long without a trade the stream may be dead; the newest trades then come from the exchange."""


@dataclass(slots=True)
class Tail:
    """Trades of one instrument without a hole, in order."""

    packed: deque[list[Piece]] = field(default_factory=deque)
    loose: list[LiveTrade] = field(default_factory=list)
    rows: int = 0
    heard_at: float = float("-inf")
    _loose: list[Piece] = field(default_factory=list)

    @property
    def next_id(self) -> int | None:
        """The id after the newest trade."""
        if self.loose:
            return self.loose[-1].a + 1
        return self.packed[-1][-1].ids.last_id + 1 if self.packed else None

    def add(self, trades: Sequence[LiveTrade]) -> None:
        """Trades that follow; others begin a new tail."""
        if self.next_id not in {None, trades[0].a}:
            self.clear()
        self.loose += trades
        self.rows += len(trades)
        self._loose = []
        self.heard_at = trio.current_time()
        if len(self.loose) >= PACKED_ROWS:
            self.packed.append(_pieces(self.loose))
            self.loose = []
        while self.rows > KEPT_ROWS and len(self.packed) > 1:
            self.rows -= sum(len(piece.ids) for piece in self.packed.popleft())

    def clear(self) -> None:
        """Forget the trades: what follows does not adjoin them."""
        self.packed.clear()
        self.loose, self.rows, self._loose = [], 0, []
        self.heard_at = float("-inf")

    def begins_behind(self, trade_id: int | None) -> bool:
        """Whether the first trade has a higher id; None is behind all."""
        first_id = self.packed[0][0].ids.first_id if self.packed else self.loose[0].a if self.loose else None
        return trade_id is not None and first_id is not None and first_id > trade_id

    def is_fresh(self) -> bool:
        """Whether the stream has spoken of late."""
        return bool(self.rows) and trio.current_time() - self.heard_at < FRESH_S

    def pieces(self) -> list[Piece]:
        """The trades as pieces."""
        if self.loose and not self._loose:
            self._loose = _pieces(self.loose)
        return [piece for pieces in (*self.packed, self._loose) for piece in pieces]


def _pieces(trades: Sequence[LiveTrade]) -> list[Piece]:
    frame = frame_of(trades)
    ordered = are_chronological(frame)
    return [
        Piece(span.ids, span.first_ms, span.last_ms, key, day_of(span.first_ms), is_chronological=ordered)
        for span, key in pieces_of(frame)
    ]


@dataclass(slots=True)
class Tails:
    """The tails of all instruments."""

    of: dict[Instrument, Tail] = field(default_factory=dict)

    def tail(self, instrument: Instrument) -> Tail:
        """The tail of an instrument, empty at first."""
        return self.of.setdefault(instrument, Tail())
