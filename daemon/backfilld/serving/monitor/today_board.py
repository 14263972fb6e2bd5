"""The figures of today for the instruments that somebody looks at: from the disk first, then live.

Owns who is looked at. A chart that nobody looks at costs nothing: its figures are dropped, and read again.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

import polars as pl
import trio

from backfilld.actors.live_messages import Beginning, Ended, TradesSequenced
from backfilld.adapters.threads import in_thread
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.model import Instrument, day_of
from backfilld.core.monitor.today import Today
from backfilld.errors import BackfillError
from backfilld.store.format.dayfile import Encoding
from backfilld.store.manager import BackfillCacheManager, manager_of
from backfilld.supervisor_live import LiveWorld

MOST_INSTRUMENTS = 8
"""Instruments whose charts are kept; a busy day's takes about 20 MB."""

LOOKED_AT_S = 120.0
"""A chart is dropped after nobody has asked for it for this long."""

DISK_EVERY_S = 5.0
"""How often the files are read while no stream brings the instrument."""

TICK_S = 0.25


class TodayBoard:
    """Today's figures by instrument. Files come from ``cache_dir``, None for a daemon that keeps none."""

    def __init__(
        self,
        cache_dir: Path | None,
        live: LiveWorld | None,
        exchange_ms: Callable[[Instrument], float],
        encoding: Encoding | None = None,
    ) -> None:
        self._cache_dir = cache_dir
        self._encoding = encoding
        self._live = live
        self._exchange_ms = exchange_ms
        self._wanted: dict[Instrument, float] = {}
        self._figures: dict[Instrument, Today] = {}

    def today(self, instrument: Instrument) -> Today | None:
        """The figures as they stand, None until they have been read; from now on they are kept up to date."""
        self._wanted[instrument] = trio.current_time()
        return self._figures.get(instrument)

    async def run(self) -> None:
        """Keep the figures that are wanted, until cancelled."""
        scopes: dict[Instrument, trio.CancelScope] = {}
        async with trio.open_nursery() as nursery:
            while True:
                wanted = self._newest()
                for instrument in [each for each in scopes if each not in wanted]:
                    scopes.pop(instrument).cancel()
                    self._figures.pop(instrument, None)
                for instrument in [each for each in wanted if each not in scopes]:
                    scopes[instrument] = trio.CancelScope()
                    nursery.start_soon(self._keep, instrument, scopes[instrument])
                await trio.sleep(TICK_S)

    def _newest(self) -> set[Instrument]:
        oldest = trio.current_time() - LOOKED_AT_S
        self._wanted = {each: at for each, at in self._wanted.items() if at > oldest}
        return set(sorted(self._wanted, key=lambda each: -self._wanted[each])[:MOST_INSTRUMENTS])

    async def _keep(self, instrument: Instrument, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                today = self._of_today(instrument)
                await self._read(instrument, today)
                if self._live is None:
                    await trio.sleep(DISK_EVERY_S)
                    continue
                frames = self._live.subscribe(instrument, today.next_id)
                if not isinstance(frames, str):
                    with suppress(trio.EndOfChannel):
                        await self._follow(instrument, today, frames)
                await trio.sleep(1)

    def _of_today(self, instrument: Instrument) -> Today:
        """The figures of the day that it is now, which may have just begun."""
        day = day_of(int(self._exchange_ms(instrument)))
        if instrument not in self._figures or self._figures[instrument].day != day:
            self._figures[instrument] = Today(day)
        return self._figures[instrument]

    async def _read(self, instrument: Instrument, today: Today) -> None:
        if self._cache_dir is None:
            return
        directory = self._cache_dir

        def stored() -> pl.DataFrame:
            manager = manager_of(directory, instrument, self._encoding)
            return _new_rows(manager, today.day, today.next_id)

        with suppress(BackfillError):
            today.take_frame(await in_thread(stored))

    async def _follow(self, instrument: Instrument, today: Today, frames: trio.MemoryReceiveChannel[object]) -> None:
        """Count what is live, until it ends or the day does. What was not remembered is waited for on disk."""
        with frames:
            while True:
                match await frames.receive():
                    case Beginning(next_id):
                        while self._cache_dir is not None and today.next_id not in {None, next_id}:
                            if (today.next_id or 0) > next_id:
                                break
                            await trio.sleep(1)
                            await self._read(instrument, today)
                    case TradesSequenced(trades=trades):
                        if day_of(trades[-1].T) > today.day:
                            today = self._figures[instrument] = Today(day_of(trades[-1].T))
                        today.take(trades)
                    case Ended():
                        return


def _new_rows(manager: BackfillCacheManager, day: date, next_id: int | None) -> pl.DataFrame:
    groups: Iterator[pl.DataFrame] = manager.row_groups(day)
    new = (each if next_id is None else each.filter(pl.col("a") >= next_id) for each in groups)
    return pl.concat([empty_trades(), *(each.select(list(SCHEMA)) for each in new)])
