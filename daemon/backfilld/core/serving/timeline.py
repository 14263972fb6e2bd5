"""What is stored around a question, as pieces of contiguous ids, and what that proves.

Owns the proofs. A piece is stored without a hole; between two pieces something may be missing, unless their ids adjoin
or the exchange itself lacks those between. Must not read rows: they are asked for, and handed in.
"""

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import date

from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange, day_start_ms, day_stop_ms


@dataclass(frozen=True, slots=True)
class Piece:
    """Stored trades of contiguous ids. ``first_ms`` and ``last_ms`` are the times of the first and the last; ``key``
    says where they are. ``opens`` and ``closes`` say that the first or the last one is proven to be that of its day."""

    ids: IdRange
    first_ms: int
    last_ms: int
    key: Hashable
    day: date
    opens: bool = False
    closes: bool = False
    is_chronological: bool = True


@dataclass(frozen=True, slots=True)
class Timeline:
    """Pieces in order of their ids. ``is_live``: the last piece ends with the newest trade that the exchange has.
    ``is_first``: nothing was ever traded before the first piece."""

    pieces: Sequence[Piece]
    absent: IdSet = field(default_factory=IdSet)
    is_live: bool = False
    is_first: bool = False

    @property
    def next_id(self) -> int | None:
        """The id after the last stored one."""
        return self.pieces[-1].ids.last_id + 1 if self.pieces else None

    def at_id(self, trade_id: int) -> int | None:
        """The place of the piece with which the trades from this id on begin; None if one could be missing before."""
        at = bisect_left(self.pieces, trade_id, key=lambda piece: piece.ids.last_id)
        if at == len(self.pieces):
            return None
        begins = self.pieces[at].ids.first_id <= trade_id or (at > 0 and self.adjoins(at - 1))
        return at if begins else None

    def from_ms(self, start_ms: int) -> int | None:
        """The place of the piece with which the trades from this time on begin; None if one could be missing before,
        ``len(pieces)`` if all are proven to be earlier."""
        at = next((at for at, piece in enumerate(self.pieces) if piece.last_ms >= start_ms), len(self.pieces))
        if at == len(self.pieces):
            return at if self.pieces and self._ends_before(at - 1, start_ms) else None
        piece = self.pieces[at]
        is_proven = (
            piece.first_ms < start_ms
            or (at > 0 and self.adjoins(at - 1))
            or (piece.opens and day_start_ms(piece.day) <= start_ms)
            or (at == 0 and self.is_first)
        )
        return at if is_proven else None

    def up_to_ms(self, end_ms: int) -> int | None:
        """The place of the piece with which the trades up to and including this time end; None if one could be missing
        behind it."""
        places = [at for at, piece in enumerate(self.pieces) if piece.first_ms <= end_ms]
        if not places:
            return None
        at = places[-1]
        return at if self.pieces[at].last_ms > end_ms or self.is_over(at, end_ms) else None

    def is_over(self, at: int, end_ms: int) -> bool:
        """Whether no trade of this time or before it comes after this piece, all of whose trades are not later."""
        if self.adjoins(at):
            return self.pieces[at + 1].first_ms > end_ms
        return self._ends_before(at, end_ms + 1)

    def adjoins(self, at: int) -> bool:
        """Whether no trade lies between this piece and the next one."""
        if at + 1 >= len(self.pieces):
            return False
        last_id, first_id = self.pieces[at].ids.last_id, self.pieces[at + 1].ids.first_id
        return last_id + 1 == first_id or not self.absent.missing(IdRange(last_id + 1, first_id - 1))

    def are_chronological(self, first: int, last: int) -> bool:
        """Whether the times of these pieces ascend with the ids."""
        return all(piece.is_chronological for piece in self.pieces[first : last + 1])

    def _ends_before(self, at: int, stop_ms: int) -> bool:
        """Whether no trade before ``stop_ms`` comes after a piece behind which nothing adjoins."""
        piece = self.pieces[at]
        is_closed = piece.closes and stop_ms <= day_stop_ms(piece.day)
        return is_closed or (self.is_live and at == len(self.pieces) - 1)
