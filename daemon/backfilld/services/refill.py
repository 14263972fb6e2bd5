"""Filling some days of a cache once more, by the ordinary pipeline, under a lock that the caller has."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby

from backfilld.assembly import assembled
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.model import Instrument, day_start_ms, day_stop_ms
from backfilld.core.replication import DayName
from backfilld.core.timespan import TimeSpan
from backfilld.settings import Settings
from backfilld.supervisor import cause_of, run_pipeline


def windows(days: Sequence[DayName]) -> Iterator[tuple[TimeSpan, tuple[Instrument, ...]]]:
    """The days as spans without gaps, each with the instruments that need it."""
    runs: dict[tuple[date, date], list[Instrument]] = {}
    for instrument, own in groupby(days, key=lambda each: each[0]):
        ascending = [day for _, day in own]
        # Days in a row keep their distance to their place in the list.
        for _, run in groupby(enumerate(ascending), key=lambda each: each[1] - timedelta(days=each[0])):
            found = [day for _, day in run]
            runs.setdefault((found[0], found[-1]), []).append(instrument)
    for (first, last), instruments in sorted(runs.items()):
        yield TimeSpan(day_start_ms(first), day_stop_ms(last)), tuple(instruments)


async def run_once(
    settings: Settings,
    window: TimeSpan,
    instruments: tuple[Instrument, ...],
    *,
    uses_archive: bool = True,
) -> list[Outcome]:
    """Run the pipeline over the window; return what it came to for each instrument. Raises StoreError."""
    with assembled(
        settings, once=True, instruments=instruments, window=window, locks_as=None, uses_archive=uses_archive
    ) as assembly:
        try:
            await run_pipeline(assembly.pipeline)
        except BaseExceptionGroup as group:
            raise cause_of(group) from None
        found: list[Outcome] = []
        while assembly.outcomes.statistics().current_buffer_used:
            found.append(assembly.outcomes.receive_nowait())
        return found
