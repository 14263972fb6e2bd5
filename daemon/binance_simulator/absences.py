"""Ids that the exchange itself does not have, although the tape made them.

Owns the rule that such an id is passed over wherever trades are shown. Must not decide which ids they are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from binance_simulator.query import TradesQuery
from binance_simulator.selection import selected_rows
from binance_simulator.tape import Tape

AbsentIds = Sequence[tuple[int, int]]
"""Ranges of ids, both ends inclusive."""


def without_absent(rows: pl.DataFrame, absent: AbsentIds) -> pl.DataFrame:
    """The rows whose ids the exchange has."""
    if not absent:
        return rows
    return rows.filter(~pl.any_horizontal(pl.col("a").is_between(first, last) for first, last in absent))


def present_rows(query: TradesQuery, tape: Tape, visible_rows: int, absent: AbsentIds) -> range | pl.DataFrame:
    """What ``selected_rows`` chooses among the rows that the exchange has; a full page stays a full page."""
    if absent:
        passed_over = sum(bisect_right(tape.ids, last) - bisect_left(tape.ids, first) for first, last in absent)
        wider = selected_rows(replace(query, limit=query.limit + passed_over), tape, visible_rows)
        rows = tape.frame[wider.start : wider.stop] if isinstance(wider, range) else wider
        kept = without_absent(rows, absent)
        if kept.height < rows.height:
            return kept.head(query.limit) if query.oldest_kept else kept.tail(query.limit)
    return selected_rows(query, tape, visible_rows)
