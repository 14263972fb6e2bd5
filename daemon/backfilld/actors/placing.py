"""What the writer is to save, once it is known which day each trade belongs to."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import polars as pl

from backfilld.actors.messages import DayMerged
from backfilld.core.day.absences import NO_ABSENCES
from backfilld.core.frame import empty_trades
from backfilld.core.merge import Merged


def moved(message: DayMerged, parts: Sequence[tuple[date, pl.DataFrame]]) -> list[DayMerged]:
    """The stretch as one for each of the days that its trades belong to; other days come first. What it says of its own
    day stays with that, and a day that it has nothing of is left out."""
    if [day for day, _ in parts] == [message.day]:
        return [message]
    by_day = dict(parts)
    own = replace(message.new, trades=by_day.pop(message.day, empty_trades()))
    others = [
        replace(message, day=day, new=Merged(trades, 0, empty_trades()), absence=NO_ABSENCES)
        for day, trades in by_day.items()
    ]
    if own.trades.height or message.absence != NO_ABSENCES or not others:
        return [*others, replace(message, new=own)]
    last = others.pop()
    return [*others, replace(last, new=replace(own, trades=last.new.trades))]
