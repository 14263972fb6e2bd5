"""Which day an id belongs to: the one rule for pages, tails, streams, healed ids, published files and adopted ones.

Theory. A day of an instrument is a range of ids, so that no two days hold the same id, whatever the times say: a filler
row keeps the time of another trade, and time may go back over a midnight. The first id of a day is decided once:

1. A *day start* decides it: the exchange's answer for that midnight, two rows that follow each other over it, or what
   the certificates of stored days prove. A row goes to the day in whose range its id lies.
2. Where no start is known, times decide: a day begins with the first row at or after its midnight that no row follows
   from more than OUT_OF_ORDER_MS before it.
3. What is stored decides as well, where rule 2 would contradict it: a row near a midnight whose id is not above those
   that the day before holds belongs there; the same holds for the day after.

Pure: no file and no clock is known here.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Protocol

import polars as pl

from backfilld.core.day.anomalies import MARKER
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import MS_PER_DAY, day_of, day_start_ms, day_stop_ms

OUT_OF_ORDER_MS = 60_000
"""How far the time of a row may lie behind that of a row with a lower id."""


def first_row_from(times: pl.Series, start_ms: int) -> int | None:
    """The number of the first row at or after ``start_ms`` that no row follows from more than OUT_OF_ORDER_MS before
    it; None if there is none. ``times`` are those of rows in sequence of their ids."""
    is_later = times >= start_ms
    if not is_later.any():
        return None
    first = int(is_later.arg_max() or 0)
    if times[first:].min() >= start_ms - OUT_OF_ORDER_MS:  # type: ignore[operator]
        return first
    lowest_from_here = times.reverse().cum_min().reverse()
    is_first = is_later & (lowest_from_here >= start_ms - OUT_OF_ORDER_MS)
    return int(is_first.arg_max() or 0) if is_first.any() else None


def divided(trades: pl.DataFrame, starts: Collection[DayStart] = ()) -> list[tuple[date, pl.DataFrame]]:
    """Trades that ascend in ``a``, at least one, cut by day: by the ``starts`` that are known, else by their times."""
    cuts = _cuts(trades, starts)
    rows = [row for _, row in cuts] + [trades.height]
    return [(day, trades[row:stop]) for (day, row), stop in zip(cuts, rows[1:], strict=True) if row < stop]


def starts_within(parts: Sequence[tuple[date, pl.DataFrame]], known: Collection[DayStart] = ()) -> set[DayStart]:
    """The starts that trades cut by :func:`divided` prove: rows that follow each other leave no room for another one,
    and where a ``known`` start is that of a day without trades, the first row is the start of its own day too."""
    edges = [(day, part["a"][0], part["a"][-1]) for day, part in parts]
    found = {DayStart(day, first) for (_, _, last), (day, first, _) in pairwise(edges) if last + 1 == first}
    firsts = {first: day for day, first, _ in edges}
    return found | {
        DayStart(firsts[each.first_id], each.first_id)
        for each in known
        if each.first_id in firsts and each.day < firsts[each.first_id]
    }


class StoredDay(Protocol):
    """What is known of a day that is stored."""

    @property
    def day(self) -> date: ...  # noqa: D102

    @property
    def first_id(self) -> int: ...  # noqa: D102

    @property
    def last_id(self) -> int: ...  # noqa: D102


def placed(
    trades: pl.DataFrame, day: date, earlier: StoredDay | None, later: StoredDay | None
) -> list[tuple[date, pl.DataFrame]]:
    """Trades of ``day`` by their time, each with the day that it belongs to by the nearest days that are stored (rule
    3)."""
    if earlier is None and later is None:
        return [(day, trades)]
    is_before = is_behind = pl.lit(value=False)
    if earlier is not None:
        is_before = (pl.col("a") <= earlier.last_id) & ((pl.col("T") < day_start_ms(day) + OUT_OF_ORDER_MS) | MARKER)
    if later is not None:
        is_behind = (pl.col("a") >= later.first_id) & ((pl.col("T") >= day_stop_ms(day) - OUT_OF_ORDER_MS) | MARKER)
    parts = [(day, trades.filter(~is_before & ~is_behind))]
    parts += [] if earlier is None else [(earlier.day, trades.filter(is_before))]
    parts += [] if later is None else [(later.day, trades.filter(is_behind & ~is_before))]
    return [(each, rows) for each, rows in sorted(parts, key=lambda part: part[0]) if rows.height]


def astray(trades: pl.DataFrame, day: date) -> pl.Series:
    """Which rows cannot be of the day, of rows that stand in sequence. Filler rows can, and so can rows of another time
    that lie near the day, or are of the day before or after and stand between two rows of the day."""
    start_ms, stop_ms = day_start_ms(day), day_stop_ms(day)
    times = trades["T"]
    if times.min() >= start_ms and times.max() < stop_ms:  # type: ignore[operator]
        return pl.repeat(value=False, n=trades.height, eager=True)
    is_inside = (times >= start_ms) & (times < stop_ms)
    is_beside = (times >= start_ms - MS_PER_DAY) & (times < stop_ms + MS_PER_DAY)
    is_near = (times >= start_ms - OUT_OF_ORDER_MS) & (times < stop_ms + OUT_OF_ORDER_MS)
    inside = is_inside.arg_true()
    row = pl.int_range(trades.height, eager=True)
    is_between = (row > inside[0]) & (row < inside[-1]) if inside.len() else is_inside
    return ~(is_near | (is_between & is_beside) | trades.select(MARKER).to_series())


def is_near_midnight(trades: pl.DataFrame, day: date) -> bool:
    """Whether :func:`placed` may move any of them: only filler rows, and those near the ends of the day, are moved."""
    times = trades["T"]
    return bool(
        times.min() < day_start_ms(day) + OUT_OF_ORDER_MS  # type: ignore[operator]
        or times.max() >= day_stop_ms(day) - OUT_OF_ORDER_MS  # type: ignore[operator]
        or trades["p"].min() == 0
    )


def _cuts(trades: pl.DataFrame, starts: Collection[DayStart]) -> list[tuple[date, int]]:
    """Each day, with the number of its first row; rows ascend with the days."""
    ids = trades["a"]
    decided = {each.day: bisect_left(ids, each.first_id) for each in _about(ids, starts)}
    begun = [day for day, row in decided.items() if row == 0]
    # Filler rows that come first have no time of their own: they are of the day that has begun.
    fillers = _leading_fillers(trades) if begun else 0
    times = _times(trades[fillers:])
    by_time = {day: fillers + _first_row(times, day) for day in _days(times)}
    leading = begun if fillers else []
    first = min([*by_time, *leading, *(day - ONE_DAY for day, row in decided.items() if row > 0)])
    cuts, before = [(first, 0)], 0
    for day in sorted(each for each in {*by_time, *decided} if each > first):
        row = decided.get(day)
        if row is None:
            limits = [at for each, at in decided.items() if each > day]
            row = min([by_time[day], *limits])
        before = max(before, row)
        cuts.append((day, before))
    return cuts


def _about(ids: pl.Series, starts: Collection[DayStart]) -> list[DayStart]:
    """The starts that may concern these ids: those among them, and the next on either side."""
    ordered = sorted(starts, key=lambda each: (each.first_id, each.day))
    below = [each for each in ordered if each.first_id <= ids[0]]
    above = [each for each in ordered if each.first_id > ids[0]]
    return [*below[-1:], *(each for each in above if each.first_id <= ids[-1]), *_lowest(above, ids[-1])]


def _lowest(above: Iterable[DayStart], last_id: int) -> list[DayStart]:
    return [each for each in above if each.first_id > last_id][:1]


def _leading_fillers(trades: pl.DataFrame) -> int:
    if trades["p"][0] != 0:
        return 0
    real = trades.select(~MARKER).to_series()
    return int(real.arg_max() or 0) if real.any() else trades.height


def _days(times: pl.Series) -> list[date]:
    if times.is_empty():
        return []
    if day_of(times.min()) == day_of(times.max()):  # type: ignore[arg-type]
        return [day_of(times[0])]
    return [day_of(number * MS_PER_DAY) for number in (times // MS_PER_DAY).unique().sort()]


def _first_row(times: pl.Series, day: date) -> int:
    row = first_row_from(times, day_start_ms(day))
    return times.len() if row is None else row


def _times(trades: pl.DataFrame) -> pl.Series:
    """The times of the rows; a filler row has that of the row before it."""
    if trades.is_empty() or trades["p"].min() != 0:
        return trades["T"]
    own = pl.when(~MARKER).then("T").forward_fill().backward_fill()
    return trades.select(own.fill_null(pl.col("T")).alias("T"))["T"]
