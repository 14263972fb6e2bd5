"""BinanceTradeHistory: backfilling from a program, under trio; ``fetch`` for programs without it.

A library writes nothing to stdout: unless the program has configured structlog itself, events go to the standard
library's logger ``backfilld`` while a call runs.
"""

from functools import partial

import polars as pl
import trio

from backfilld.adapters.asyncio_threads import in_thread
from backfilld.adapters.library_log import library_logging
from backfilld.assembly import assembled
from backfilld.core.model import Instrument, iso
from backfilld.core.moments import Moment, moment_ms
from backfilld.core.timespan import TimeSpan
from backfilld.errors import BackfillIncomplete, SettingsError
from backfilld.settings import Settings
from backfilld.settings.rules import instrument_of
from backfilld.supervisor import run_pipeline


class BinanceTradeHistory:
    """The trades of one instrument: the one given, or the first of the settings.

    Examples:
        >>> import trio
        >>> history = BinanceTradeHistory(Settings(cache_dir="./my_cache"), "spot:BTCUSDT")
        >>> trio.run(history.backfill_with_cache, "2025-11-07", "2025-11-08").height > 0
        True
    """

    def __init__(self, settings: Settings | None = None, instrument: Instrument | str | None = None) -> None:
        self.settings = settings or Settings()
        self.instrument = self.settings.instrument_list()[0] if instrument is None else instrument_of(instrument)

    async def backfill_with_cache(self, start: Moment, end: Moment) -> pl.DataFrame:
        """Every trade with start <= T < end, by id, as a frame with the columns T a p q f l m M.

        What is on disk is not downloaded again, and what is downloaded is stored, unless the cache is switched off.
        ``start`` and ``end`` are as for ``scan``. Raises BackfillIncomplete if trades are missing in the
        end, and what stopped it: ExchangeError, StoreError, CacheLocked.
        """
        start_ms, stop_ms = moment_ms(start), moment_ms(end)
        if start_ms >= stop_ms:
            raise SettingsError(f"start {iso(start_ms)} is not before end {iso(stop_ms)}")
        window = TimeSpan(start_ms, stop_ms)
        with (
            library_logging(),
            assembled(self.settings, once=True, instruments=(self.instrument,), window=window) as assembly,
        ):
            await run_pipeline(assembly.pipeline)
            outcome = assembly.outcomes.receive_nowait()
            if not outcome.complete:
                raise outcome.error or BackfillIncomplete(f"{self.instrument}: {'; '.join(outcome.reasons)}")
            return await assembly.store.read(self.instrument, start_ms, stop_ms)


def fetch(
    instrument: Instrument | str, start: Moment, stop: Moment, *, settings: Settings | None = None, times: bool = False
) -> pl.DataFrame:
    """Every trade with start <= T < stop, as ``BinanceTradeHistory.backfill_with_cache`` brings it, without an
    event loop of the caller's. It blocks until all is there. Raises the same, and RuntimeError under trio.

    With ``times`` the column ``time`` has T as a datetime in UTC besides.

    Examples:
        >>> trades = fetch("spot:BTCUSDT", "2025-11-07", "2025-11-08", times=True)
        >>> trades.columns
        ['T', 'a', 'p', 'q', 'f', 'l', 'm', 'M', 'time']
        >>> trades["a"].diff().drop_nulls().eq(1).all()
        True
    """
    history = BinanceTradeHistory(settings, instrument)
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("fetch blocks: under trio await BinanceTradeHistory(...).backfill_with_cache(start, stop)")
    trades = trio.run(history.backfill_with_cache, start, stop)
    return trades.with_columns(pl.col("T").cast(pl.Datetime("ms", "UTC")).alias("time")) if times else trades


async def fetch_async(
    instrument: Instrument | str, start: Moment, stop: Moment, *, settings: Settings | None = None, times: bool = False
) -> pl.DataFrame:
    """The same as ``fetch`` for a program under asyncio, whose loop goes on meanwhile. Cancelling it does not stop the
    download, which ends by itself and is stored.

    Examples:
        >>> import asyncio
        >>> asyncio.run(fetch_async("spot:BTCUSDT", "2025-11-07", "2025-11-08")).height > 0
        True
    """
    return await in_thread(partial(fetch, instrument, start, stop, settings=settings, times=times))
