"""The one who looks: gathers what the daemon knows of itself, and remembers an hour of it.

Owns when something is looked at. Nothing here asks the exchange, takes a lock or delays the pipeline.
"""

from collections.abc import Mapping
from contextlib import aclosing, suppress
from datetime import date
from functools import partial
from importlib.metadata import version

import trio

from backfilld.actors.disk import LONGEST_RETRY_S
from backfilld.adapters.threads import in_thread
from backfilld.core.model import Instrument
from backfilld.core.monitor.history import History, WeightWindow
from backfilld.core.monitor.pulse import Pulse
from backfilld.core.monitor.warned import RecentWarnings
from backfilld.errors import BackfillError
from backfilld.pipeline import Pipeline
from backfilld.services.coverage import Coverage
from backfilld.services.stored_days import DayStatus
from backfilld.serving.monitor.counts import EndpointCounts
from backfilld.serving.monitor.today_board import TodayBoard
from backfilld.serving.monitor.view import View
from backfilld.serving.traffic import Traffic
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of

CHOSEN_EVERY_S = 4.0
"""How often the day files of an instrument that somebody looks at are looked at, and those of the others:"""
OTHERS_EVERY_S = 120.0

LOOKED_AT_S = 120.0
SLACK_S = 10.0
"""Slack beyond the longest request, and beyond the longest wait for a failing disk, in which nothing need move."""


class Watch:
    """What there is to see of one daemon. ``look`` is cheap; ``run`` must run beside it."""

    def __init__(self, settings: Settings, pipeline: Pipeline, traffic: Traffic, warnings: RecentWarnings) -> None:
        self._pipeline = pipeline
        self._traffic = traffic
        self._warnings = warnings
        self._pulse = Pulse(max(settings.request_timeout_seconds, LONGEST_RETRY_S) + SLACK_S)
        self._version = version("backfilld")
        self._history = History()
        self._counts = EndpointCounts()
        traffic.observers.append(self._counts.observe)
        encoding = encoding_of(settings)
        directory = settings.cache_dir if settings.cache_enabled else None
        self._files = None if directory is None else Coverage(directory, encoding)
        self._coverage: dict[Instrument, Mapping[date, DayStatus]] = {}
        self._looked_at: dict[Instrument, float] = {}
        self._chosen_at: dict[Instrument, float] = {}
        self._board = TodayBoard(directory, pipeline.live, self._exchange_ms, encoding)
        self._is_alive = True

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Those that the daemon keeps now."""
        return self._pipeline.spec_now.instruments

    async def run(self) -> None:
        """Gather until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gather_weight)
            nursery.start_soon(self._gather_live)
            nursery.start_soon(self._gather_files)
            nursery.start_soon(self._board.run)
            nursery.start_soon(self._feel)

    @property
    def is_alive(self) -> bool:
        """Whether the pipeline moves, as the watchdog of systemd sees it."""
        return self._is_alive

    def look(self, chosen: Instrument | None = None) -> View:
        """Everything as it stands; with ``chosen``, that instrument's day as well."""
        if chosen is not None:
            self._chosen_at[chosen] = trio.current_time()
        has_all = all(each in self._coverage for each in self.instruments)
        return View(
            daemon=self._pipeline.snapshot(),
            version=self._version,
            chosen=self.instruments[0] if chosen is None else chosen,
            remote=None if self._pipeline.remote is None else self._warnings.counts,
            history=self._history,
            coverage=self._coverage if has_all or chosen in self._coverage else None,
            today=None if chosen is None else self._board.today(chosen),
            endpoint=self._counts,
            subscribers=self._traffic.subscribers,
            warnings=self._warnings.lines,
        )

    def _exchange_ms(self, instrument: Instrument) -> float:
        """What the exchange's clock shows, for the day that it is there."""
        return self._pipeline.exchange_ms(instrument.market, self._pipeline.wall_ms())

    async def _feel(self) -> None:
        while True:
            self._is_alive = self._pulse.is_alive(self._pipeline.snapshot())
            await trio.sleep(1)

    async def _gather_weight(self) -> None:
        async with aclosing(self._pipeline.governor.statistics.eventual_values()) as values:
            async for budgets in values:
                for pool, each in budgets.items():
                    seen = WeightWindow(each.window_ms, each.own, each.clients, each.others, each.limit)
                    self._history.saw_weight(pool, seen)

    async def _gather_live(self) -> None:
        if self._pipeline.live is None:
            return
        async with aclosing(self._pipeline.live.statistics.eventual_values()) as values:
            async for live in values:
                self._history.saw_trades(
                    self._pipeline.wall_ms(), {name: each.trades for name, each in live.instruments.items()}
                )
                self._history.saw_holes(live.holes)

    async def _gather_files(self) -> None:
        while self._files is not None:
            for instrument in self.instruments:
                if self._is_due(instrument):
                    with suppress(BackfillError):
                        self._coverage[instrument] = await in_thread(partial(self._files.look, instrument))
                    self._looked_at[instrument] = trio.current_time()
            for gone in self._coverage.keys() - set(self.instruments):
                del self._coverage[gone]
            await trio.sleep(1)

    def _is_due(self, instrument: Instrument) -> bool:
        now = trio.current_time()
        is_chosen = self._chosen_at.get(instrument, float("-inf")) > now - LOOKED_AT_S
        every_s = CHOSEN_EVERY_S if is_chosen else OTHERS_EVERY_S
        return self._looked_at.get(instrument, float("-inf")) <= now - every_s
