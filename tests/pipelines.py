"""A whole pipeline on fakes, for tests that look at it from outside."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from backfilld.actors.disk import Disk
from backfilld.actors.fetcher import Patience
from backfilld.adapters.governed import governed
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.markets import RULES, Pool, markets_of
from backfilld.core.model import Instrument
from backfilld.core.retry import Backoff, Restarts
from backfilld.core.sync.spec import RunSpec
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.budget import Budget
from backfilld.core.weight.limits import Limit
from backfilld.core.weight.server_clock import ServerClock
from backfilld.core.weight.weights import WeightTable
from backfilld.pipeline import Pipeline
from backfilld.ports import OpenArchive
from backfilld.supervisor import run_pipeline
from backfilld.supervisor_governor import governor_parts
from tests.fakes import BTC, ETH, SOL, FakeExchange, FakeStore, Tape, drained


@dataclass
class World:
    """A pipeline and what is around it."""

    exchange: FakeExchange
    store: FakeStore
    workers: int = 4
    once: bool = True
    instruments: tuple[Instrument, ...] = (BTC,)
    days: int = 0
    window: TimeSpan | None = None
    limit: int = 6000
    grace_s: float = 10.0
    checkpoint_s: float = 10.0
    longest_pause_s: float = 75.0
    restarts: Restarts | None = None
    is_patient: bool = False
    wall_error_ms: float = 0.0
    open_archive: OpenArchive | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    def pipeline(self) -> Pipeline:
        """A pipeline that has not begun."""
        send, self._outcomes = trio.open_memory_channel[Outcome](math.inf)
        now_ms = trio.current_time() * 1000
        clock = ServerClock.assumed(now_ms, self.exchange.now_ms + self.wall_error_ms)
        governor = governor_parts({pool: self._budget(pool, clock) for pool in Pool})
        return Pipeline(
            spec=RunSpec(
                self.instruments,
                self.workers,
                window=self.window,
                days=self.days,
                once=self.once,
                poll_s=30.0,
                checkpoint_s=self.checkpoint_s,
                grace_s=self.grace_s,
                uses_archive=self.open_archive is not None,
            ),
            store=self.store,
            open_client=governed(self.exchange.open_client, governor.handle),
            governor=governor,
            patience=Patience(Backoff(deadline_s=6.0, attempts=4), self.longest_pause_s, jitter=lambda: 0.5),
            wall_ms=lambda: self.exchange.now_ms + self.wall_error_ms,
            outcomes=send,
            restarts=self.restarts,
            open_archive=self.open_archive,
            disk=Disk(is_patient=self.is_patient),
        )

    def _budget(self, pool: Pool, clock: ServerClock) -> Budget:
        weights = WeightTable(RULES[markets_of(pool)[0]].weights)
        return Budget([Limit(self.limit, 1, "MINUTE")], 0.8, clock, weights=weights)

    async def run(self, after: Callable[[Pipeline], object] | None = None, after_s: float = 0.0) -> list[Outcome]:
        """Run to the end; ``after`` is called once ``after_s`` have passed."""
        pipeline = self.pipeline()
        async with trio.open_nursery() as nursery:
            if after is not None:
                nursery.start_soon(later, after_s, after, pipeline)
            with trio.fail_after(100_000):
                await run_pipeline(pipeline)
            nursery.cancel_scope.cancel()
        self.outcomes = drained(self._outcomes)
        assert self.exchange.open_connections == 0
        return self.outcomes


async def later(after_s: float, after: Callable[[Pipeline], object], pipeline: Pipeline) -> None:
    """Do something with the pipeline then."""
    await trio.sleep(after_s)
    after(pipeline)


def stopped(pipeline: Pipeline) -> None:
    """Ask it to end."""
    pipeline.stop.set()


def world_of(rows: int = 20_000, **changed: object) -> World:
    """A world of three tapes, of which BTC's has ``rows``."""
    exchange = FakeExchange({BTC: Tape.even(rows), ETH: Tape.even(rows // 2), SOL: Tape.even(rows // 4)})
    return World(exchange, FakeStore(), **changed)  # type: ignore[arg-type]
