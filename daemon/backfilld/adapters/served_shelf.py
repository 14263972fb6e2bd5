"""What the endpoint knows of the stored days of one instrument: the pieces of each, and how old that is.

Owns how often a day is looked at again. Synchronous; the adapter puts a look on a thread.
"""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from backfilld.core.ids import IdSet
from backfilld.core.model import Instrument
from backfilld.core.serving.timeline import Piece, Timeline
from backfilld.errors import DayLocked, StoreError
from backfilld.store.day_pieces import DayPieces, day_pieces, stamps_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.manager import BackfillCacheManager

FRESH_S = 1.0
"""A day is looked at again after so long, if anybody asks for it."""
LOOKS_PART = 0.05
"""The part of its time that a thread may look at one day that changes all the time, such as one with a long journal."""
LONGEST_FRESH_S = 10.0
KEPT_DAYS = 2048
"""Days of an instrument whose pieces are known, about 2 kB each."""
MOST_DAYS = 40
"""Days that one question may touch."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A day as it was when a thread looked at it last, and for how long that will do."""

    pieces: DayPieces
    looked_at: float
    fresh_s: float = FRESH_S

    def overdue_s(self, now: float) -> float:
        """For how long it should have been looked at again; negative if it need not be yet."""
        return now - self.looked_at - self.fresh_s


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is known of one instrument."""

    days: Sequence[date] = ()
    known: Mapping[date, _Known] = field(default_factory=dict)
    listed_at: float = float("-inf")

    def chosen(self, wanted: "Wanted") -> Sequence[date] | None:
        """The days that are wanted, None if one of them was never looked at."""
        try:
            days = wanted(self.days, lambda day: self.known[day].pieces)[:MOST_DAYS]
        except KeyError:
            return None
        return days if all(day in self.known for day in days) else None

    def overdue_s(self, days: Sequence[date], now: float) -> float:
        """The longest that a look at the list of days or at one of these is overdue."""
        return max(now - self.listed_at - FRESH_S, *(self.known[day].overdue_s(now) for day in days), float("-inf"))

    def doubted(self) -> "Shelf":
        """The same, of which nothing is to be used before the next look."""
        known = {day: replace(each, looked_at=float("-inf")) for day, each in self.known.items()}
        return replace(self, known=known, listed_at=float("-inf"))

    def timeline(self, days: Sequence[date]) -> Timeline:
        """The pieces of these days."""
        return timeline_of([self.known[day].pieces for day in days])


Wanted = Callable[[Sequence[date], Callable[[date], DayPieces]], Sequence[date]]
"""Which of the stored days a question touches; it may look into days."""


def around_id(trade_id: int, limit: int) -> Wanted:
    """The days with these ids. The one before them is among them if it has to prove that nothing lies between."""

    def wanted(days: Sequence[date], look: Callable[[date], DayPieces]) -> Sequence[date]:
        def last_id(day: date) -> int:
            pieces = look(day).pieces
            return pieces[-1].ids.last_id if pieces else -1

        at = bisect_left(days, trade_id, key=last_id)
        if at == len(days):
            return days[-1:]
        pieces = look(days[at]).pieces
        begins = bool(pieces) and pieces[0].ids.first_id <= trade_id
        rows = sum(
            each.ids.last_id + 1 - max(each.ids.first_id, trade_id) for each in pieces if each.ids.last_id >= trade_id
        )
        return days[at if begins else max(0, at - 1) : at + 1 if rows >= limit else at + 3]

    return wanted


def around_span(first: date, last: date) -> Wanted:
    """The stored days of the span, one before and two after."""

    def wanted(days: Sequence[date], _look: Callable[[date], DayPieces]) -> Sequence[date]:
        start, stop = bisect_left(days, first), bisect_right(days, last)
        return days[max(0, start - 1) : stop + 2]

    return wanted


def looked_at_disk(
    manager: BackfillCacheManager, instrument: Instrument, shelf: Shelf, wanted: Wanted, now: float
) -> tuple[Shelf, Sequence[date]]:
    """What is stored now; days whose files are as they were are not read again. On a thread."""
    days = manager.days()
    known: dict[date, _Known] = {}

    def known_of(day: date) -> DayPieces:
        if day not in known:
            known[day] = shelf.known.get(day) or _seen(manager, instrument, day, None, now)
        return known[day].pieces

    chosen = wanted(days, known_of)[:MOST_DAYS]
    for day in chosen:
        known_of(day)
        if known[day].overdue_s(now) >= 0:
            known[day] = _seen(manager, instrument, day, known[day], now)
    stored = frozenset(days if len(shelf.known) < KEPT_DAYS else ())
    kept = {day: each for day, each in shelf.known.items() if day in stored}
    return Shelf(days, kept | known, now), chosen


def _seen(
    manager: BackfillCacheManager, instrument: Instrument, day: date, before: _Known | None, now: float
) -> _Known:
    """A day as it is now."""
    if before is not None and before.pieces.stamps == stamps_of(manager, day):
        return replace(before, looked_at=now)
    began = time.perf_counter()
    pieces = _read(manager, instrument, day)
    fresh_s = (time.perf_counter() - began) / LOOKS_PART
    return _Known(pieces, now, min(max(fresh_s, FRESH_S), LONGEST_FRESH_S))


def _read(manager: BackfillCacheManager, instrument: Instrument, day: date) -> DayPieces:
    """The pieces of a day; none of one that cannot be trusted, or is gone."""
    try:
        return day_pieces(manager, instrument, day)
    except (UntrustedFile, DayLocked, StoreError):
        return DayPieces(stamps_of(manager, day), is_chronological=False)


def timeline_of(days: Sequence[DayPieces]) -> Timeline:
    """Days in a row. A day beside one whose times are out of order is not asked by time either: a filler row may lie on
    the other side of midnight."""
    ordered = [each.is_chronological for each in days]
    pieces: list[Piece] = []
    for at, each in enumerate(days):
        is_ordered = all(ordered[max(0, at - 1) : at + 2])
        pieces += [piece if is_ordered else replace(piece, is_chronological=False) for piece in each.pieces]
    absent = IdSet.of(ids for each in days for ids in each.absent)
    ascending = [each for at, each in enumerate(pieces) if at + 1 == len(pieces) or _ascends(each, pieces[at + 1])]
    return Timeline(ascending, absent)


def _ascends(piece: Piece, after: Piece) -> bool:
    return piece.ids.last_id < after.ids.first_id
