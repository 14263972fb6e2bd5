"""The TradeStore of a switched-off cache: the same backfill, and no file is read or written."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import structlog
import trio

from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate, Provenance
from backfilld.core.day.division import placed
from backfilld.core.day.figures import Figures
from backfilld.core.frame import empty_trades
from backfilld.core.merge import merge
from backfilld.core.model import Instrument, day_of
from backfilld.ports import DayPublished, Saved
from backfilld.store.format.dayfile import spans_of

log = structlog.get_logger()


class RamStore:
    """Days in memory. Implements :class:`backfilld.ports.TradeStore`."""

    def __init__(self) -> None:
        self._days: dict[tuple[Instrument, date], pl.DataFrame] = {}
        self._records: dict[tuple[Instrument, date], Certificate] = {}
        self._shown: dict[Instrument, ShownEnd] = {}

    async def open(self) -> None:
        """Say that nothing will be kept."""
        log.info("cache_disabled")
        await trio.lowlevel.checkpoint()

    async def days(self, instrument: Instrument) -> list[date]:
        """The days stored."""
        await trio.lowlevel.checkpoint()
        return sorted(day for owner, day in self._days if owner == instrument)

    async def load(self, instrument: Instrument, day: date) -> Certificate | None:
        """What is stored of a day."""
        await trio.lowlevel.checkpoint()
        return self._records.get((instrument, day))

    async def recall(self, instrument: Instrument) -> ShownEnd | None:
        """What was kept."""
        await trio.lowlevel.checkpoint()
        return self._shown.get(instrument)

    async def remember(self, instrument: Instrument, shown: ShownEnd) -> None:
        """Keep it."""
        await trio.lowlevel.checkpoint()
        self._shown[instrument] = shown

    async def load_known(self, instrument: Instrument, days: Collection[date]) -> Mapping[date, Certificate]:  # noqa: ARG002
        """None: each is loaded, which costs no more."""
        await trio.lowlevel.checkpoint()
        return {}

    async def altered(self, instrument: Instrument) -> frozenset[date]:  # noqa: ARG002 - the port's signature
        """None: nobody else reaches this memory."""
        await trio.lowlevel.checkpoint()
        return frozenset()

    async def take(self, taken: DayPublished) -> Saved:
        """Join the trades of a published day. What is stored proves where it ends, not the day ``following``."""
        from backfilld.store.archive_import.archivefile import ArchiveDay  # noqa: PLC0415 - most starts need no archive

        archive = ArchiveDay(Path(taken.published.path), taken.day)
        trades = archive.read(lambda frames: pl.concat([empty_trades(), *frames]))
        return await self.save(Addition(taken.instrument, taken.day, trades, taken.day_starts))

    async def placed(
        self, instrument: Instrument, day: date, trades: pl.DataFrame
    ) -> Sequence[tuple[date, pl.DataFrame]]:
        """Trades of a day by their time, with the days that they belong to."""
        await trio.lowlevel.checkpoint()
        others = sorted(each for owner, each in self._records if owner == instrument)
        earlier = max((each for each in others if each < day), default=None)
        later = min((each for each in others if each > day), default=None)
        beside = (None if each is None else self._records[instrument, each] for each in (earlier, later))
        return placed(trades, day, *beside)

    async def save(self, addition: Addition) -> Saved:
        """Merge trades into a day."""
        await trio.lowlevel.checkpoint()
        instrument, day = key = (addition.instrument, addition.day)
        stored, old = self._days.get(key, empty_trades()), self._records.get(key)
        merged = merge(stored, addition.trades)
        spans = tuple(spans_of(merged.trades))
        record = Certificate(day, spans, market=str(instrument.market), symbol=instrument.symbol)
        known = old.provenance() if old is not None else Provenance()
        absence = addition.absence
        known = known.with_news(addition.day_starts, absence.absent, absence.suspected)
        known = replace(known, source=addition.source)
        self._days[key], self._records[key] = merged.trades, record.with_provenance(known)
        return Saved(self._records[key], None, 0, stored.height, merged.duplicates, merged.conflicts)

    async def append(self, addition: Addition) -> Saved:
        """The same: nothing waits in memory."""
        return await self.save(addition)

    def waiting(self) -> Mapping[tuple[Instrument, date], float]:
        """Nothing."""
        return {}

    async def leave(self, instrument: Instrument) -> None:
        """There is nothing on disk."""

    async def context(self, instrument: Instrument, start_ms: int, stop_ms: int, bin_size: float) -> Figures:
        """The figures of the span."""
        return Figures.of(await self.read(instrument, start_ms, stop_ms), bin_size)

    async def read(self, instrument: Instrument, start_ms: int, stop_ms: int) -> pl.DataFrame:
        """The trades of the span."""
        days = [day for day in await self.days(instrument) if day_of(start_ms) <= day <= day_of(stop_ms - 1)]
        trades = pl.concat([empty_trades(), *(self._days[instrument, day] for day in days)], rechunk=True)
        return trades.filter(pl.col("T").is_between(start_ms, stop_ms, closed="left"))

    async def distrust(self, instrument: Instrument, day: date, reason: str) -> None:
        """Forget a day, and say why."""
        log.warning("day_quarantined", instrument=str(instrument), day=day.isoformat(), reason=reason)
        await self.delete(instrument, day)

    async def delete(self, instrument: Instrument, day: date) -> bool:
        """Forget a day."""
        await trio.lowlevel.checkpoint()
        self._days.pop((instrument, day), None)
        self._records.pop((instrument, day), None)
        return True
