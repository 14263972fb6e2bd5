"""What one save adds to a day.

Owns how an addition is divided once it is known which day each of its trades belongs to. Must not know what is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import polars as pl

from backfilld.core.day.absences import NO_ABSENCES, AbsentIds
from backfilld.core.day.certificate import REST, Source
from backfilld.core.day.start import DayStart
from backfilld.core.frame import empty_trades
from backfilld.core.model import Instrument


@dataclass(frozen=True, slots=True, eq=False)
class Addition:
    """Trades of a day from one ``source``, strictly ascending in ``a``; where days begin; and the ids that the exchange
    does not have. Without trades only the certificate is renewed."""

    instrument: Instrument
    day: date
    trades: pl.DataFrame = field(default_factory=empty_trades)
    day_starts: frozenset[DayStart] = frozenset()
    absence: AbsentIds = NO_ABSENCES
    source: Source = REST

    def on_days(self, parts: Sequence[tuple[date, pl.DataFrame]]) -> list["Addition"]:
        """One addition for each day that the trades belong to, its own day last. The absent ids stay with its own day,
        which is left out if nothing is added to it."""
        by_day = dict(parts)
        own = replace(self, trades=by_day.pop(self.day, self.trades.clear()))
        others = [replace(self, day=day, trades=trades, absence=NO_ABSENCES) for day, trades in by_day.items()]
        is_empty = own.trades.is_empty() and own.absence == NO_ABSENCES
        return others if others and is_empty else [*others, own]
