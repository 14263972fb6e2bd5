"""Whether the times of an answer fit the trades beside its ids.

Owns the times of the trades that are known around a page. An answer may have the ids that were asked for and the times
of another day: every row of it would go to the wrong file, and the window would seem to end with it.

1. Times ascend with ids, but for less than HALF_DAY_MS. An answer that breaks this against a row that is stored is
   never believed; against a trade that an answer only named, no more than one that fits no neighbour.
2. How long the rows of a page take shows the pace, whatever day they claim. At up to PACE_FACTOR times that pace or a
   part of it, give or take HALF_DAY_MS, they have to reach the trade that is nearest by id. If they do not, AGREEING
   answers have to say the same.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import polars as pl

from backfilld.core.backfill.questions import At, Found, Neighbour, Page, Query, Tail, brings_rows
from backfilld.core.model import IdRange
from backfilld.core.timespan import StoredSpan

HALF_DAY_MS = 43_200_000
"""Times that are wrong by a day are wrong by more than this, and no real page is."""

PACE_FACTOR = 10
"""How much faster or slower than within a page trading may be between it and the nearest known trade. Quiet and busy
hours of a symbol differ by about as much."""

AGREEING = 3
"""Answers that it takes to believe times that fit no neighbour."""


Paged = TypeVar("Paged", bound=Page | Tail | At)


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why the times of an answer do not fit. ``is_certain`` if no number of answers makes it true."""

    reason: str
    is_certain: bool


class KnownTimes:
    """The times of trades that are known by id: the ends of stored spans and of answers."""

    def __init__(self, spans: Iterable[StoredSpan]) -> None:
        self._rows: list[tuple[int, int]] = []
        self._named: list[tuple[int, int]] = []
        self._newest = (-1, 0)
        for span in spans:
            self.receive(span.ids.first_id, span.first_ms, span.ids.last_id, span.last_ms)

    def learn(self, query: Query, found: Found) -> None:
        """The question was answered."""
        if found.ids is None:
            return
        if brings_rows(query):
            self.receive(found.ids.first_id, found.first_ms, found.ids.last_id, found.last_ms)
        else:
            insort(self._named, (found.ids.last_id, found.last_ms))

    def receive(self, first_id: int, first_ms: int, last_id: int, last_ms: int) -> None:
        """These rows came."""
        for each in {(first_id, first_ms), (last_id, last_ms)}:
            insort(self._rows, each)

    def follow(self, found: Found) -> None:
        """Rows that nobody asked for came: only the newest is kept in mind."""
        if found.ids is not None:
            self._newest = max(self._newest, (found.ids.last_id, found.last_ms))

    def begin_round(self) -> None:
        """What was only named is not believed any longer than a round."""
        self._named.clear()

    def put_beside(self, query: Paged, ids: IdRange) -> Paged:
        """The question for these ids, with the trades beside them."""
        return replace(query, beside=self._beside(ids.first_id, ids.last_id))

    def _beside(self, first_id: int, last_id: int) -> tuple[Neighbour, ...]:
        """The nearest trades of each kind, up to ``first_id``, and the nearest from ``last_id`` on."""
        newest = [] if self._newest[0] < 0 else [self._newest]
        kinds = ((self._rows, True), (newest, True), (self._named, False))
        below = [Neighbour(*trades[at - 1], is_row) for trades, is_row in kinds if (at := _up_to(trades, first_id))]
        above = [
            Neighbour(*trades[at], is_row)
            for trades, is_row in kinds
            if (at := bisect_left(trades, (last_id, 0))) < len(trades)
        ]
        return (*below, *above)


def _up_to(trades: list[tuple[int, int]], trade_id: int) -> int:
    return bisect_right(trades, (trade_id, 2**63))


def misfit(trades: pl.DataFrame, asked_id: int, beside: tuple[Neighbour, ...]) -> Misfit | None:
    """Why the times of these rows, at least one, cannot be right beside these trades; None if they fit. They answer a
    question for the ids from ``asked_id`` on: those before the first row do not exist, by that answer."""
    if not beside:
        return None
    first_id, last_id = trades["a"][0], trades["a"][-1]
    pace_ms = max(0, trades["T"][-1] - trades["T"][0]) / max(1, last_id - first_id)
    gaps = [_gap(trades, asked_id, each) for each in beside]
    broken = [each for each in gaps if each.ms < -HALF_DAY_MS]
    nearest = min(gaps, key=lambda each: (each.distance, not each.trade.is_row))
    expected_ms = nearest.distance * pace_ms
    fits = expected_ms / PACE_FACTOR - HALF_DAY_MS <= nearest.ms <= expected_ms * PACE_FACTOR + HALF_DAY_MS
    if fits and not broken:
        return None
    of = min(broken or [nearest], key=lambda each: (not each.trade.is_row, each.distance)).trade
    reason = f"rows from T {trades['T'][0]} for ids from {first_id} on, beside id {of.trade_id} of T {of.at_ms}"
    return Misfit(reason, is_certain=bool(broken) and of.is_row)


@dataclass(frozen=True, slots=True)
class _Gap:
    """How far in ids and in time a trade lies from the rows of an answer; below 0 if the times contradict it."""

    trade: Neighbour
    distance: int
    ms: int


def _gap(trades: pl.DataFrame, asked_id: int, trade: Neighbour) -> _Gap:
    ids, times = trades["a"], trades["T"]
    if trade.trade_id < ids[0]:
        return _Gap(trade, max(1, min(ids[0], asked_id) - trade.trade_id), times[0] - trade.at_ms)
    if trade.trade_id > ids[-1]:
        return _Gap(trade, trade.trade_id - ids[-1], trade.at_ms - times[-1])
    row = bisect_left(ids, trade.trade_id)
    return _Gap(trade, int(ids[row] != trade.trade_id), -abs(times[row] - trade.at_ms))
