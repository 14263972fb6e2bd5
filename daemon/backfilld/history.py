"""BinanceTradeHistory: backfilling from a program, under trio."""

from datetime import datetime

import polars as pl

from backfilld.assembly import assembled
from backfilld.core.model import Instrument, instant_ms
from backfilld.core.timespan import TimeSpan
from backfilld.errors import BackfillIncomplete, SettingsError
from backfilld.settings import Settings
from backfilld.supervisor import run_pipeline


class BinanceTradeHistory:
    """The trades of one instrument: the one given, or the first of the settings."""

    def __init__(self, settings: Settings | None = None, instrument: Instrument | str | None = None) -> None:
        self.settings = settings or Settings()
        if instrument is None:
            instrument = self.settings.instrument_list()[0]
        self.instrument = Instrument.parse(instrument) if isinstance(instrument, str) else instrument

    async def backfill_with_cache(self, start: datetime, end: datetime) -> pl.DataFrame:
        """Every trade with start <= T < end, by id, as a frame with the columns T a p q f l m M.

        What is on disk is not downloaded again, and what is downloaded is kept, unless the cache is switched off. Both
        instants must be aware datetimes. Raises BackfillIncomplete if not all could be had, and what stopped it:
        ExchangeError, StoreError, CacheLocked.
        """
        window = TimeSpan(instant_ms(start), instant_ms(end))
        if window.start_ms >= instant_ms(end):
            raise SettingsError(f"start {start.isoformat()} is not before end {end.isoformat()}")
        with assembled(self.settings, once=True, instruments=(self.instrument,), window=window) as assembly:
            await run_pipeline(assembly.pipeline)
            outcome = assembly.outcomes.receive_nowait()
            if not outcome.complete:
                raise outcome.error or BackfillIncomplete(f"{self.instrument}: {'; '.join(outcome.reasons)}")
            return await assembly.store.read(self.instrument, window.start_ms, instant_ms(end))
