"""Whether an answer fits the trades that are known around its ids.

Owns the trades that are known around a page. A wrong answer may have the ids that were asked for with the times of
another day. Its rows would go to the wrong file, and the window would seem to end there. Or it has the rows of another
symbol.

1. A known trade is equal in each answer, and trades follow each other as :mod:`.adjoining` allows. If an answer breaks
   this, CONTRADICTING more answers must say so than say anything else. If it is off by more than HALF_DAY_MS from a
   sure row, or changes the time of a sure trade, it is never believed. A trade is sure if it was stored before, or if
   several answers agree on it.
2. An answer that begins more than A_JUMP ids after the one asked for takes FOR_A_JUMP equal answers, unless it begins
   with a known trade.
3. The rows of a page show the pace of trading, whatever day they claim. At that pace, within a factor of PACE_FACTOR
   and HALF_DAY_MS, they must reach the known trade that is nearest by id. If they do not, AGREEING answers must be
   equal.
4. Two pages that were asked for at the same time are compared once both have come. If they contradict each other, the
   one that is not sure is doubted, and its ids are asked for again.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import polars as pl

from backfilld.core.backfill.adjoining import can_follow, is_same, named
from backfilld.core.backfill.questions import At, Found, Neighbour, Page, Query, Tail, brings_rows
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from backfilld.core.timespan import StoredSpan

HALF_DAY_MS = 43_200_000
"""Times that are wrong by a day are wrong by more than this, and no real page is."""

PACE_FACTOR = 10
"""The largest factor between the pace within a page and the pace from there to the nearest known trade. Quiet and busy
hours of a symbol differ by about this much."""

AGREEING = 3
"""Equal answers needed to believe rows that do not fit their neighbours."""

CONTRADICTING = 8
"""Answers that it takes to believe what cannot stand beside a trade that is known. A thousand pages of which three of
ten answers are an hour early have one in 15 that is believed; if one of ten is, one in 100,000."""

A_JUMP, FOR_A_JUMP = 100, 5
"""If more than 100 ids in a row seem to be absent, and the trade after them is not known, five equal answers are
needed: the rows may be another symbol's."""


Paged = TypeVar("Paged", bound=Page | Tail | At)


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why the rows of an answer do not fit. ``answers`` is how many equal answers are needed to believe them. If
    ``is_certain``, none suffice: the trade that they contradict, ``against``, is sure."""

    reason: str
    is_certain: bool
    answers: int = AGREEING
    against: int | None = None


NO_IDS = IdSet()


class KnownTrades:
    """The trades that are known by id: the ends of stored spans and of answers. ``doubted`` are the ids that came with
    answers that contradict each other."""

    def __init__(self, spans: Iterable[StoredSpan], weak: IdSet = NO_IDS) -> None:
        self.doubted = IdSet()
        self._rows: list[Neighbour] = []
        self._named: list[Neighbour] = []
        self._newest: list[Neighbour] = []
        for span in spans:
            is_sure = not weak & IdSet((span.ids,))
            came_with = None if is_sure else span.ids
            for trade_id, at_ms in ((span.ids.first_id, span.first_ms), (span.ids.last_id, span.last_ms)):
                self._receive(Neighbour(trade_id, at_ms, is_row=True, came_with=came_with, is_sure=is_sure))

    def doubt(self, ids: IdRange) -> None:
        """Doubt what came of these ids: it is to be asked for again."""
        self.doubted |= IdSet((ids,))

    def learn(self, query: Query, found: Found) -> int:
        """Take note of the first and last trade of an answer. Trades that it contradicts are doubted.

        Returns how many trades are known otherwise: the stored one that the answer names, or those that were named and
        that it brings."""
        if found.ids is None:
            return 0
        first, last = _ends(found, found.ids, is_row=brings_rows(query))
        if not brings_rows(query):
            self._doubt_beside(last, self._rows)
            insort(self._named, last, key=_place)
            return self._contradicted(last, self._rows)
        contradicted = sum(self._contradicted(end, self._named) for end in {first, last})
        for end in (first, last):
            self._doubt_beside(end, self._named)
        self._named = [each for each in self._named if all(_agree(each, end) for end in (first, last))]
        self._doubt(self._below(self._rows, first.trade_id - 1), first)
        self._doubt(last, self._above(self._rows, last.trade_id + 1))
        self._receive(first)
        self._receive(last)
        return contradicted

    def follow(self, found: Found) -> None:
        """Take note of the newest of rows that came from a stream."""
        if found.ids is not None:
            last = _ends(found, found.ids, is_row=True)[1]
            newest = Neighbour(last.trade_id, last.at_ms, is_row=True, edge=last.edge)
            self._newest = [max([*self._newest, newest], key=_place)]

    def row(self, trade_id: int) -> Neighbour | None:
        """The row with this id, the newest one known."""
        rows = (self._below(kind, trade_id) for kind in (self._newest, self._rows))
        return next((each for each in rows if each is not None and each.trade_id == trade_id), None)

    def begin_round(self) -> None:
        """Forget trades that an answer has named without their rows: they count for one round only."""
        self._named.clear()

    def put_beside(self, query: Paged, ids: IdRange) -> Paged:
        """A copy of the question, with the known trades around these ids."""
        return replace(query, beside=tuple(self._beside(ids.first_id, ids.last_id)))

    def _beside(self, first_id: int, last_id: int) -> Iterator[Neighbour]:
        """The nearest trades of each kind, up to ``first_id``, and the nearest from ``last_id`` on."""
        kinds = (self._rows, self._newest, self._named)
        yield from (each for kind in kinds if (each := self._below(kind, first_id)) is not None)
        yield from (each for kind in kinds if (each := self._above(kind, last_id)) is not None)

    def _receive(self, row: Neighbour) -> None:
        insort(self._rows, row, key=_place)

    def _doubt_beside(self, trade: Neighbour, trades: list[Neighbour]) -> None:
        self._doubt(self._below(trades, trade.trade_id), trade)
        self._doubt(trade, self._above(trades, trade.trade_id))

    def _doubt(self, one: Neighbour | None, other: Neighbour | None) -> None:
        if one is not None and other is not None and not _agree(one, other):
            self.doubted |= IdSet.of(each.came_with for each in (one, other) if each.came_with and not each.is_sure)

    @staticmethod
    def _contradicted(trade: Neighbour, trades: list[Neighbour]) -> int:
        """How many of these give the trade another row."""
        first, stop = bisect_left(trades, trade.trade_id, key=_id), bisect_right(trades, trade.trade_id, key=_id)
        return sum(not is_same(each, trade) for each in trades[first:stop])

    @staticmethod
    def _below(trades: list[Neighbour], trade_id: int) -> Neighbour | None:
        at = bisect_right(trades, trade_id, key=_id)
        return trades[at - 1] if at else None

    @staticmethod
    def _above(trades: list[Neighbour], trade_id: int) -> Neighbour | None:
        at = bisect_left(trades, trade_id, key=_id)
        return trades[at] if at < len(trades) else None


def _id(trade: Neighbour) -> int:
    return trade.trade_id


def _place(trade: Neighbour) -> tuple[int, int]:
    return trade.trade_id, trade.at_ms


def _ends(found: Found, ids: IdRange, *, is_row: bool) -> tuple[Neighbour, Neighbour]:
    first, last = found.edges or (None, None)
    came_with = ids if is_row else None
    return (
        Neighbour(ids.first_id, found.first_ms, is_row, first, came_with, found.is_confirmed),
        Neighbour(ids.last_id, found.last_ms, is_row, last, came_with, found.is_confirmed),
    )


def _agree(one: Neighbour, other: Neighbour) -> bool:
    """Whether both can be true."""
    if one.trade_id == other.trade_id:
        return is_same(one, other)
    return can_follow(*sorted((one, other), key=_id))


def misfit(trades: pl.DataFrame, asked_id: int, beside: tuple[Neighbour, ...]) -> Misfit | None:
    """Why these rows, at least one, cannot be right beside these trades; None if they fit. They answer a question for
    the ids from ``asked_id`` on: those before the first row do not exist, by that answer."""
    first, last = named(trades, 0), named(trades, -1)
    first_id = first.trade_id
    if first_id - asked_id > A_JUMP and not is_tied(trades[:1], beside):
        return Misfit(f"rows from id {first_id} where {asked_id} was asked for", is_certain=False, answers=FOR_A_JUMP)
    if not beside:
        return None
    pace_ms = max(0, last.at_ms - first.at_ms) / max(1, last.trade_id - first_id)
    gaps = [_gap(trades, (first, last), asked_id, each) for each in beside]
    broken = [each for each in gaps if not each.is_possible]
    nearest = min(gaps, key=lambda each: (each.distance, not each.trade.is_row))
    expected_ms = nearest.distance * pace_ms
    fits = expected_ms / PACE_FACTOR - HALF_DAY_MS <= nearest.ms <= expected_ms * PACE_FACTOR + HALF_DAY_MS
    if fits and not broken:
        return None
    of = min(broken or [nearest], key=lambda each: (not each.is_proof, not each.trade.is_row, each.distance))
    beside_it = f"id {of.trade.trade_id} of T {of.trade.at_ms}"
    reason = f"rows from T {first.at_ms} for ids from {first_id} on, beside {beside_it}"
    answers = CONTRADICTING if broken else AGREEING
    return Misfit(reason, is_certain=bool(broken) and of.is_proof, answers=answers, against=of.trade.trade_id)


def is_tied(trades: pl.DataFrame, beside: Sequence[Neighbour]) -> bool:
    """Whether these rows, which fit, have one of these trades."""
    ids = trades["a"]
    # `in` of a series is a query of polars' lazy engine: a third of what a page took.
    return any((at := bisect_left(ids, each.trade_id)) < ids.len() and ids[at] == each.trade_id for each in beside)


@dataclass(frozen=True, slots=True)
class _Gap:
    """How far in ids and in time a trade lies from the rows of an answer; below 0 if the times contradict it."""

    trade: Neighbour
    distance: int
    ms: int
    is_possible: bool

    @property
    def is_proof(self) -> bool:
        """Whether the answer is wrong: a trade that is sure has another time in it, or lies far on its other side."""
        is_other = not self.distance and not self.is_possible
        is_behind = self.trade.is_row and self.ms < -HALF_DAY_MS
        return self.trade.is_sure and (is_other or is_behind)


def _gap(trades: pl.DataFrame, ends: tuple[Neighbour, Neighbour], asked_id: int, trade: Neighbour) -> _Gap:
    first, last = ends
    if trade.trade_id < first.trade_id:
        distance = max(1, min(first.trade_id, asked_id) - trade.trade_id)
        return _Gap(trade, distance, first.at_ms - trade.at_ms, can_follow(trade, first))
    if trade.trade_id > last.trade_id:
        return _Gap(trade, trade.trade_id - last.trade_id, trade.at_ms - last.at_ms, can_follow(last, trade))
    row = named(trades, bisect_left(trades["a"], trade.trade_id))
    is_there = row.trade_id == trade.trade_id
    return _Gap(trade, int(not is_there), -abs(row.at_ms - trade.at_ms), _agree(row, trade))
