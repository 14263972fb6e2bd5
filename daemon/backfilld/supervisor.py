"""The supervisor: opens the channels and the nursery, wires the actors, and lets them end in the order of the pipeline.

Owns lifetimes and buffer sizes, and no decision. On the good path no actor is cancelled: the scheduler closes the jobs,
the fetchers end, then the merger, then the writer, and with it the scheduler's inbox.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import trio
from trio_util import AsyncValue

from backfilld.actors.fetcher import FetcherPorts, Patience, run_fetcher
from backfilld.actors.governor import GovernorStatistics, run_governor
from backfilld.actors.keeper import run_keeper
from backfilld.actors.merger import run_merger
from backfilld.actors.messages import (
    GovernorMessage,
    Job,
    MergerMessage,
    SchedulerMessage,
    Statistics,
    StopRequested,
    WriterMessage,
)
from backfilld.actors.orders import Orders
from backfilld.actors.scheduler import SchedulerPorts, run_scheduler
from backfilld.actors.writer import run_writer
from backfilld.core.budget import Budget
from backfilld.core.model import Market
from backfilld.core.outcome import Outcome
from backfilld.errors import BackfillError
from backfilld.ports import GovernorMemory, OpenClient, TradeStore

CHECKPOINT_ROWS = 500_000
"""Trades held before a checkpoint whatever their age: it bounds memory to a few times 25 MB, however long the
backfill."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a pipeline is made of: the orders, the world behind its ports, and how people see and stop it.

    ``stop`` ends it in order; it is set by the pipeline itself when its orders are done. ``outcomes`` gets an Outcome
    an instrument.
    """

    orders: Orders
    store: TradeStore
    open_client: OpenClient
    budgets: Mapping[Market, Budget]
    patience: Patience
    wall_ms: Callable[[], float]
    outcomes: trio.MemorySendChannel[Outcome]
    checkpoint_s: float = 10.0
    grace_s: float = 10.0
    stop: trio.Event = field(default_factory=trio.Event)
    statistics: AsyncValue[Statistics] = field(default_factory=lambda: AsyncValue(Statistics()))
    governor: AsyncValue[GovernorStatistics] = field(default_factory=lambda: AsyncValue({}))
    memory: GovernorMemory | None = None


async def run_pipeline(pipeline: Pipeline) -> None:
    """Run until the orders are done or ``stop`` is set, then drain; what is not drained ``grace_s`` later is cancelled.

    Raises what an actor could not handle: a BackfillError (StoreError) by itself, anything else as an exception group
    without the mere symptoms, such as a neighbour's channel that broke.
    """
    try:
        await _run_actors(pipeline)
    except BaseExceptionGroup as group:
        raise cause_of(group) from None


def cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to raise for a group: a BackfillError in it, else the group without mere symptoms of its causes."""
    _, causes = group.split((trio.BrokenResourceError, trio.Cancelled))
    if causes is None:
        return group
    named = causes.subgroup(BackfillError)
    while named is not None:
        first = named.exceptions[0]
        if not isinstance(first, BaseExceptionGroup):
            return first
        named = first
    return causes


async def _run_actors(pipeline: Pipeline) -> None:
    workers = pipeline.orders.fetchers
    # As many jobs as fetchers: the scheduler deals no more than that, so it never waits here.
    send_job, jobs = trio.open_memory_channel[Job](workers)
    # A page more for each fetcher than it has in hand; a slow disk then stops the fetchers, not the memory.
    send_page, pages = trio.open_memory_channel[MergerMessage](workers)
    # One day waiting while one is written: the merger goes on gathering.
    send_day, days = trio.open_memory_channel[WriterMessage](1)
    # Never full: events are answers to jobs and days in flight, which are bounded above.
    send_event, events = trio.open_memory_channel[SchedulerMessage](math.inf)
    # Never full: a fetcher has one request in hand.
    send_governor, governor = trio.open_memory_channel[GovernorMessage](math.inf)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_governor, governor, pipeline.budgets, pipeline.orders.max_concurrent, pipeline.governor)
        nursery.start_soon(run_writer, days, send_event.clone(), pipeline.store)
        nursery.start_soon(_run_merger, pages, send_day, pipeline.checkpoint_s)
        for _ in range(workers):
            ports = FetcherPorts(jobs.clone(), send_page.clone(), send_event.clone(), send_governor.clone())
            nursery.start_soon(run_fetcher, ports, pipeline.open_client, pipeline.patience, pipeline.stop)
        jobs.close()
        nursery.start_soon(_relay_stop, pipeline.stop, send_event, send_governor)
        keeping = trio.CancelScope()
        if pipeline.memory is not None:
            nursery.start_soon(_keep, keeping, pipeline.governor, pipeline.memory)
        drain = trio.CancelScope()
        nursery.start_soon(_limit_drain, drain, pipeline.stop, pipeline.grace_s, nursery.cancel_scope)
        await run_scheduler(
            SchedulerPorts(events, send_job, send_page, pipeline.outcomes),
            pipeline.orders,
            pipeline.store,
            pipeline.wall_ms,
            pipeline.statistics,
            pipeline.stop,
        )
        drain.cancel()
        keeping.cancel()


async def _keep(scope: trio.CancelScope, shown: AsyncValue[GovernorStatistics], memory: GovernorMemory) -> None:
    """The keeper has no channel whose end it could wait for: it only looks."""
    with scope:
        await run_keeper(shown, memory)


async def _run_merger(
    pages: trio.MemoryReceiveChannel[MergerMessage], days: trio.MemorySendChannel[WriterMessage], checkpoint_s: float
) -> None:
    await run_merger(pages, days, checkpoint_s=checkpoint_s, checkpoint_rows=CHECKPOINT_ROWS)


async def _relay_stop(
    stop: trio.Event,
    events: trio.MemorySendChannel[SchedulerMessage],
    governor: trio.MemorySendChannel[GovernorMessage],
) -> None:
    """Tell those who wait on a channel that the stop event was set."""
    async with events, governor:
        await stop.wait()
        await events.send(StopRequested())
        await governor.send(StopRequested())


async def _limit_drain(drained: trio.CancelScope, stop: trio.Event, grace_s: float, pipeline: trio.CancelScope) -> None:
    """Cancel the pipeline ``grace_s`` after the stop; ``drained`` is cancelled when that is not needed any more."""
    with drained:
        await stop.wait()
        await trio.sleep(grace_s)
        pipeline.cancel()
