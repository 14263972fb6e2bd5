"""Which rows answer a question: the exchange's selection rules, on the rows that can be seen.

Owns the rules of section "REST aggTrades" of the notes on the exchange: which end is kept, what an id below the first
kept one gets, how far back one may look. Must not know how rows are written or sent.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import polars as pl

from binance_simulator.query import Refusal, TradesQuery
from binance_simulator.tape import Tape

_DAY_MS = 86_400_000


def selected_rows(query: TradesQuery, tape: Tape, visible_rows: int) -> range | pl.DataFrame:
    """The rows that answer ``query``, in ascending id, at most ``query.limit``.

    A ``range`` of row numbers of ``tape.frame`` where they lie together, else the rows themselves.

    * ``from_id``: rows with ``a >= from_id``; below the first id kept, silently from that one; past the newest, none.
    * only ``end_ms``, or nothing: the newest rows (up to and including it).
    * ``start_ms``, alone or with ``end_ms``: the oldest rows from it.
    """
    if query.from_id is not None:
        first = min(visible_rows, bisect_left(tape.ids, query.from_id, tape.restart_row))
        return range(first, min(first + query.limit, visible_rows))
    if tape.is_chronological:
        start, stop = _rows_between(tape.times_ms, query, visible_rows)
        if query.oldest_kept:
            return range(start, min(start + query.limit, stop))
        return range(max(start, stop - query.limit), stop)
    rows = _rows_within(tape.frame.head(visible_rows), query)
    return rows.head(query.limit) if query.oldest_kept else rows.tail(query.limit)


def refuse_too_old(query: TradesQuery, tape: Tape, now_ms: int, lookback_ms: int) -> None:
    """Raise Refusal -4166 if the question begins too long ago, by its times or by the time of its first id.

    An id below the first one kept counts as that one: how old it is, no one can tell.
    """
    begins_ms = query.start_ms if query.start_ms is not None else query.end_ms
    if query.from_id is not None:
        first = bisect_left(tape.ids, query.from_id, tape.restart_row)
        begins_ms = tape.times_ms[first] if first < len(tape.ids) else None
    if begins_ms is not None and begins_ms < now_ms - lookback_ms:
        days = math.ceil(lookback_ms / _DAY_MS)
        raise Refusal(-4166, f"Search window is restricted to recent {days} days only.")


def _rows_between(times_ms: Sequence[int], query: TradesQuery, visible_rows: int) -> tuple[int, int]:
    """First row and the row after the last one that lie in the query's times, T ascending."""
    start, stop = 0, visible_rows
    if query.start_ms is not None:
        start = min(visible_rows, bisect_left(times_ms, query.start_ms))
    if query.end_ms is not None:
        stop = min(visible_rows, bisect_right(times_ms, query.end_ms))
    return start, max(start, stop)


def _rows_within(rows: pl.DataFrame, query: TradesQuery) -> pl.DataFrame:
    """The rows in the query's times where T is not in order: every row is looked at."""
    if query.start_ms is not None:
        rows = rows.filter(pl.col("T") >= query.start_ms)
    if query.end_ms is not None:
        rows = rows.filter(pl.col("T") <= query.end_ms)
    return rows
