"""The supervisor: opens the channels and the nursery, wires the actors, and lets them end in the order of the pipeline.

Owns lifetimes and buffer sizes, and no decision. On the good path no actor is cancelled: the scheduler closes the jobs,
the fetchers end, then the merger, then the writer, and with it the scheduler's inbox. A pipeline that crashes is wired
anew, its state read from disk; the governor and its keeper stand above that and go on.
"""

import math
from contextlib import aclosing
from functools import partial

import structlog
import trio
from trio_util import move_on_when

from backfilld.actors.archivist import run_archivist
from backfilld.actors.fetcher import FetcherPorts, run_fetcher
from backfilld.actors.live_announcements import LiveClock
from backfilld.actors.live_messages import SequencerMessage
from backfilld.actors.merger import run_merger
from backfilld.actors.messages import (
    ArchiveJob,
    SchedulerMessage,
    SpecChanged,
    StopRequested,
    WriterMessage,
)
from backfilld.actors.permits import SetShare
from backfilld.actors.reader import run_reader
from backfilld.actors.scheduler import run_scheduler
from backfilld.actors.scheduler_ports import SchedulerPorts
from backfilld.actors.writer import run_writer
from backfilld.core.crashes import described
from backfilld.core.sync.spec import Reload
from backfilld.errors import BackfillError, DayLocked, StoreError
from backfilld.pipeline import Pipeline
from backfilld.supervisor_channels import Channels, open_channels
from backfilld.supervisor_governor import Keeping, run_governed
from backfilld.supervisor_live import LiveSide
from backfilld.supervisor_pools import Fetchers, jobs_by_pool
from backfilld.supervisor_remote import RemoteEnds, start_pullers, start_replicator

log = structlog.get_logger()

CHECKPOINT_ROWS = 131_072
"""Trades kept in memory before a checkpoint whatever their age: it bounds memory to a few times 8 MB, however long the
backfill."""

ARCHIVISTS = 2
"""Instruments that the archive is asked for at a time: one is downloaded while another is written."""

DISK_RETRY_S = 10.0


async def run_pipeline(pipeline: Pipeline) -> None:
    """Run until the spec is done or ``stop`` is set, then drain; what is not drained ``grace_s`` later is cancelled.

    Raises what an actor could not handle and another start did not mend: a BackfillError (StoreError) by itself,
    anything else as an exception group without the mere symptoms, such as a neighbour's channel that broke.
    """
    failures: list[BaseException] = []

    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_relay_to_governor, pipeline)
            failures.extend(await _run_with_restarts(pipeline))
            nursery.cancel_scope.cancel()

    memory = pipeline.memory
    keeping = None if memory is None else Keeping(memory, pipeline.snapshot, pipeline.disk.shielded)
    async with pipeline.outcomes:
        try:
            await run_governed(pipeline.governor, pipeline.spec_now.max_concurrent, work, keeping)
        except BaseExceptionGroup as group:
            raise cause_of(group) from None
    for failure in failures:
        raise failure


async def _run_with_restarts(pipeline: Pipeline) -> tuple[BaseException, ...]:
    """Run the actors until they end in order; return what ended them otherwise, if another start did not mend it."""
    while True:
        try:
            await _run_actors(pipeline)
        except BaseExceptionGroup as group:
            cause = cause_of(group)
        else:
            return ()
        wait_s = _wait_after(cause, pipeline)
        if wait_s is None:
            return (cause,)
        with trio.move_on_after(wait_s):
            await pipeline.stop.wait()
        if pipeline.stop.is_set():
            return (cause,)


async def _relay_to_governor(pipeline: Pipeline) -> None:
    """Pass on the share of each new spec, and the stop."""
    governor = pipeline.governor.handle
    async with move_on_when(pipeline.stop.wait), aclosing(pipeline.reload.eventual_values()) as reloads:
        async for reload in reloads:
            if reload is not None:
                spec = reload.spec
                governor.tell(SetShare(spec.weight_share, spec.max_concurrent, spec.client_share))
    governor.tell(StopRequested())


def _wait_after(cause: BaseException, pipeline: Pipeline) -> float | None:
    """Seconds until the next start, None if there is to be none. A disk that refuses is waited for without end."""
    restarts = pipeline.restarts
    if restarts is None or pipeline.stop.is_set() or not isinstance(cause, Exception):
        return None
    has_worked = pipeline.statistics.value.steps > 0
    # After another start the instrument of a file that was locked meanwhile is left out.
    if isinstance(cause, BackfillError) and not isinstance(cause, DayLocked):
        if not (isinstance(cause, StoreError) and has_worked):
            return None
        if pipeline.disk.failed(cause).tries == 1:
            log.error("disk_failed", error=str(cause), again_in_s=DISK_RETRY_S)
        return DISK_RETRY_S
    wait_s = restarts.after_crash(trio.current_time(), pipeline.patience.jitter())
    again = {"gives_up": True} if wait_s is None else {"again_in_s": round(wait_s, 1)}
    log.error("pipeline_crashed", causes=list(described(cause)), **again)
    return wait_s


def cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What to raise for a group: a BackfillError in it, else the group without mere symptoms of its causes."""
    _, causes = group.split((trio.BrokenResourceError, trio.Cancelled))
    if causes is None:
        return group
    first: BaseException | None = causes.subgroup(BackfillError)
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return causes if first is None else first


async def _run_actors(pipeline: Pipeline) -> None:
    spec, channels = pipeline.spec_now, open_channels(pipeline.spec_now.fetchers)
    async with trio.open_nursery() as nursery:
        workers = _start_fetchers(nursery, pipeline, channels)
        remote = _start_disk(nursery, pipeline, channels)
        workers.grow(spec.fetchers)
        nursery.start_soon(
            _relay_reloads, pipeline, pipeline.reload.value, workers, remote, channels.send_event.clone()
        )
        ports = SchedulerPorts(
            channels.events,
            channels.send_job,
            channels.send_page,
            channels.send_read,
            pipeline.outcomes.clone(),
            _start_archivists(nursery, pipeline, channels),
            _start_live(nursery, pipeline, channels),
        )
        nursery.start_soon(_relay_stop, pipeline.stop, channels.send_event)
        drain = trio.CancelScope()
        nursery.start_soon(_limit_drain, drain, pipeline, workers, nursery.cancel_scope)
        await run_scheduler(ports, spec, pipeline.wall_ms, pipeline.statistics, pipeline.stop)
        drain.cancel()


def _start_fetchers(nursery: trio.Nursery, pipeline: Pipeline, channels: Channels) -> Fetchers:
    """Fetchers of each pool, none so far."""
    fetching = pipeline.open_client, pipeline.patience, pipeline.stop
    ports = {
        pool: FetcherPorts(jobs, channels.send_page.clone(), channels.send_event.clone())
        for pool, jobs in jobs_by_pool(nursery, channels.jobs).items()
    }
    return Fetchers(nursery, ports, lambda ends: run_fetcher(ends, *fetching))


def _start_disk(nursery: trio.Nursery, pipeline: Pipeline, channels: Channels) -> RemoteEnds:
    """What stands between pages and files: merger, writer, reader, and the replicator, whose ends it returns."""
    remote = start_replicator(nursery, pipeline.remote, pipeline.stop)
    remote.on_instruments(pipeline.spec_now.instruments)
    writer = partial(run_writer, remote=remote.days, on_sealed=remote.on_sealed)
    nursery.start_soon(writer, channels.days, channels.send_event.clone(), pipeline.store, pipeline.disk)
    merger = partial(run_merger, checkpoint_s=lambda: pipeline.spec_now.checkpoint_s, checkpoint_rows=CHECKPOINT_ROWS)
    nursery.start_soon(merger, channels.pages, channels.send_day)
    events = channels.send_event.clone()
    nursery.start_soon(run_reader, channels.reads, events, pipeline.store, pipeline.reading, pipeline.stop)
    return remote


def _start_archivists(
    nursery: trio.Nursery, pipeline: Pipeline, channels: Channels
) -> trio.MemorySendChannel[ArchiveJob]:
    """Archivists, behind the pullers of a bucket; returns where jobs for them go."""
    # Never full: a job an instrument, and the days of none are asked for twice.
    send, wanted = trio.open_memory_channel[ArchiveJob](math.inf)
    wanted = start_pullers(nursery, pipeline.remote, wanted, channels.send_day, pipeline.stop)
    for _ in range(ARCHIVISTS if pipeline.open_archive is not None else 0):
        ends = wanted.clone(), channels.send_day.clone(), channels.send_event.clone()
        nursery.start_soon(_run_archivist, *ends, pipeline)
    return send


def _start_live(
    nursery: trio.Nursery, pipeline: Pipeline, channels: Channels
) -> trio.MemorySendChannel[SequencerMessage] | None:
    """The live side; returns where messages to it go, None if streams are not followed."""
    spec = pipeline.spec_now
    if pipeline.live is None or spec.live is None or spec.once:
        return None
    live = LiveSide(nursery, pipeline.live)
    clock = LiveClock(pipeline.wall_ms, pipeline.exchange_ms)
    ends = channels.send_page.clone(), channels.send_event.clone()
    live.start(spec, pipeline.open_client, pipeline.patience, pipeline.stop, clock, *ends)
    nursery.start_soon(live.relay, pipeline.reload, pipeline.stop)
    return live.inbox.clone()


async def _run_archivist(
    jobs: trio.MemoryReceiveChannel[ArchiveJob],
    days: trio.MemorySendChannel[WriterMessage],
    events: trio.MemorySendChannel[SchedulerMessage],
    pipeline: Pipeline,
) -> None:
    """Until the stop: a download is not waited for, and goes on where it stood at the next start."""
    if pipeline.open_archive is not None:
        async with move_on_when(pipeline.stop.wait):
            await run_archivist(jobs, days, events, pipeline.open_archive, pipeline.disk)


async def _relay_reloads(
    pipeline: Pipeline,
    before: Reload | None,
    workers: Fetchers,
    remote: RemoteEnds,
    events: trio.MemorySendChannel[SchedulerMessage],
) -> None:
    """Pass on each spec that differs from ``before``, until the stop."""
    async with events:
        async with move_on_when(pipeline.stop.wait), aclosing(pipeline.reload.eventual_values()) as reloads:
            async for reload in reloads:
                if reload is None or reload is before:
                    continue
                workers.grow(reload.spec.fetchers)
                remote.on_instruments(reload.spec.instruments)
                await events.send(SpecChanged(reload.spec))
        workers.close()


async def _relay_stop(stop: trio.Event, events: trio.MemorySendChannel[SchedulerMessage]) -> None:
    """Tell the scheduler, which waits on a channel, that the stop event was set."""
    async with events:
        await stop.wait()
        await events.send(StopRequested())


async def _limit_drain(
    drained: trio.CancelScope, pipeline: Pipeline, workers: Fetchers, nursery: trio.CancelScope
) -> None:
    """Half the grace after the stop no answer is waited for any longer, so that the rest is there to save what was
    downloaded; at its end all is cancelled. ``drained`` is cancelled when that is not needed any more."""
    with drained:
        await pipeline.stop.wait()
        now, grace_s = trio.current_time(), pipeline.spec_now.grace_s
        pipeline.disk.abandon_at(now + 0.9 * grace_s)
        workers.cancel_requests_at(now + grace_s / 2)
        await trio.sleep(grace_s)
        nursery.cancel()
