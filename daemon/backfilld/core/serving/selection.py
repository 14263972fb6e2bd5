"""Which stored trades answer a question, by the exchange's rules; nothing where that is not proven.

Owns the rules. Each function is a generator: it yields the pieces whose rows it needs, gets each as a frame of exactly
the piece's ids, and returns the answer, None for a question that only the exchange can answer. Places are looked for by
bisection in Python: polars' own search wakes its threads, which costs ten times as much.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Generator

import polars as pl

from backfilld.core.frame import empty_trades
from backfilld.core.model import INT64_MAX
from backfilld.core.serving.questions import TradesQuestion
from backfilld.core.serving.timeline import Piece, Timeline

Selecting = Generator[Piece, pl.DataFrame, pl.DataFrame | None]


def select(question: TradesQuestion, timeline: Timeline) -> Selecting:
    """The trades that answer the question."""
    if question.from_id is not None:
        return _from_id(question.from_id, question.limit, timeline)
    if question.start_ms is not None:
        end_ms = INT64_MAX if question.end_ms is None else question.end_ms
        return _between(question.start_ms, end_ms, question.limit, timeline)
    return _newest(question.end_ms, question.limit, timeline)


def _from_id(from_id: int, limit: int, timeline: Timeline) -> Selecting:
    at = timeline.at_id(from_id)
    if at is None:
        # A client that has everything asks for what is next.
        return empty_trades() if timeline.is_live and from_id == timeline.next_id else None
    found: list[pl.DataFrame] = []
    while True:
        rows = yield timeline.pieces[at]
        found.append(rows.slice(max(0, from_id - timeline.pieces[at].ids.first_id), limit))
        limit -= found[-1].height
        if limit <= 0:
            return pl.concat(found)
        if not timeline.adjoins(at):
            return pl.concat(found) if timeline.is_live and at == len(timeline.pieces) - 1 else None
        at += 1


def _between(start_ms: int, end_ms: int, limit: int, timeline: Timeline) -> Selecting:
    at = timeline.from_ms(start_ms)
    if at is None:
        return None
    found = [empty_trades()]
    while at < len(timeline.pieces):
        piece = timeline.pieces[at]
        if not piece.is_chronological:
            return None
        if piece.first_ms > end_ms:
            return pl.concat(found)
        rows = yield piece
        start = bisect_left(rows["T"], start_ms)
        stop = bisect_right(rows["T"], end_ms)
        found.append(rows.slice(start, min(limit, stop - start)))
        limit -= found[-1].height
        if limit <= 0 or stop < rows.height:
            return pl.concat(found)
        if not timeline.adjoins(at):
            return pl.concat(found) if timeline.is_over(at, end_ms) else None
        at += 1
    return pl.concat(found)


def _newest(end_ms: int | None, limit: int, timeline: Timeline) -> Selecting:
    if end_ms is None:
        at = len(timeline.pieces) - 1 if timeline.is_live and timeline.pieces else None
    else:
        at = timeline.up_to_ms(end_ms)
    if at is None:
        return None
    found: list[pl.DataFrame] = []
    while True:
        piece = timeline.pieces[at]
        if end_ms is not None and not piece.is_chronological:
            return None
        rows = yield piece
        stop = rows.height if end_ms is None else bisect_right(rows["T"], end_ms)
        start = max(0, stop - limit)
        found.insert(0, rows.slice(start, stop - start))
        limit -= stop - start
        is_beginning = at == 0 and timeline.is_first
        if limit <= 0 or is_beginning:
            return pl.concat(found)
        if at == 0 or not timeline.adjoins(at - 1):
            return None
        at -= 1
