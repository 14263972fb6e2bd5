"""Whether an answer has trades that cannot have happened yet, or not in this sequence.

Owns what clocks say of an answer. The times of another hour pass every other check where nothing later is known. The
host's clock may be wrong, and so may the Date of an answer; where they agree, a trade ahead of both is in doubt.
"""

from collections.abc import Sequence

import polars as pl

from backfilld.core.backfill.adjoining import goes_back
from backfilld.core.backfill.neighbours import Misfit
from backfilld.core.model import LATEST_MS

AHEAD_MS = 3_600_000
"""A trade that is farther ahead of every clock, in ms, is not believed on the word of one answer; where two clocks are
no farther apart, on that of none."""

CLOCKS_AGREE_MS, FOR_CLOCKS = 60_000, 5
"""Where two clocks are no farther apart, a trade that is so far ahead of them takes so many answers."""

FOR_TIME_GONE_BACK = 8
"""Answers that it takes to believe that time went back by more than trades overtake each other. No recorded page has
it."""


def gone_back(trades: pl.DataFrame) -> Misfit | None:
    """Why these rows cannot stand in their sequence; None if they can."""
    times = goes_back(trades)
    if times is None:
        return None
    reason = f"T {times[1]} comes behind T {times[0]}"
    return Misfit(reason, is_certain=False, answers=FOR_TIME_GONE_BACK)


def too_early(trades: pl.DataFrame, clocks_ms: Sequence[int], reached_ms: Sequence[int]) -> Misfit | None:
    """Why these rows, at least one, come too early; None if they need not. ``reached_ms`` are the times of trades that
    are sure."""
    latest_ms = max(clocks_ms, default=LATEST_MS)
    last_ms: int = trades["T"].max()  # type: ignore[assignment]
    ahead_ms, apart_ms = last_ms - max((latest_ms, *reached_ms)), [latest_ms - each for each in clocks_ms]
    do_agree = sum(each <= CLOCKS_AGREE_MS for each in apart_ms) > 1
    if ahead_ms <= (CLOCKS_AGREE_MS if do_agree else AHEAD_MS):
        return None
    reason = f"a row of T {last_ms}, and no clock is beyond {latest_ms}"
    if ahead_ms <= AHEAD_MS:
        return Misfit(reason, is_certain=False, answers=FOR_CLOCKS)
    return Misfit(reason, is_certain=sum(each <= AHEAD_MS for each in apart_ms) > 1)
