"""Outcomes of first rounds, on their way to the caller of the pipeline.

Owns the outcomes that wait for the figures of their newest day. Each is reported once.
"""

import structlog
import trio

from backfilld.actors.messages import FiguresRead
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.model import Instrument
from backfilld.core.sync.announcements import log_outcome

log = structlog.get_logger()


class FirstRounds:
    """True while an outcome waits. ``reports`` gets one per instrument."""

    def __init__(self, reports: trio.MemorySendChannel[Outcome]) -> None:
        self._reports = reports
        self._waiting: dict[Instrument, Outcome] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ended(self, outcome: Outcome) -> None:
        """A first round is over, or cut short."""
        self._waiting[outcome.instrument] = outcome

    async def report(self, instrument: Instrument, read: FiguresRead | None = None) -> None:
        """Report what waits of an instrument, with the figures that were read."""
        outcome = self._waiting.pop(instrument, None)
        if outcome is None:
            return
        outcome = outcome if read is None else outcome.with_figures(read.figures, is_whole=read.is_whole)
        log_outcome(log.bind(instrument=str(instrument)), outcome)
        await self._reports.send(outcome)

    async def report_all(self) -> None:
        """Report what waits, without a line in the log: the stop cut it short."""
        for instrument in tuple(self._waiting):
            await self._reports.send(self._waiting.pop(instrument))
