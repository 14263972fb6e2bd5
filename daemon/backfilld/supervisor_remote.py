"""The part of the pipeline that talks to a bucket: the replicator with its pushers, and the pullers.

Owns their channels and their end: they stop with the pipeline, and nothing waits for what they have in hand.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import trio
from trio_util import move_on_when

from backfilld.actors.messages import ArchiveJob, DaySealed, WriterMessage
from backfilld.actors.puller import run_puller
from backfilld.actors.replicator import (
    Bucket,
    LookForUnpushed,
    ReplicatorMessage,
    run_pusher,
    run_replicator,
)
from backfilld.core.liveness import Waits
from backfilld.core.model import Instrument
from backfilld.core.replication import DayName
from backfilld.ports.remote import RemoteDays


@dataclass(frozen=True, slots=True)
class Remote:
    """A bucket, and what the pipeline is to do with it, ``concurrent`` transfers at a time. ``waits`` are those for the
    bucket's answers."""

    days: RemoteDays
    pushes: bool = True
    pulls: bool = True
    concurrent: int = 4
    bucket: Bucket = field(default_factory=Bucket)
    waits: Waits = field(default_factory=Waits)


@dataclass(frozen=True, slots=True)
class RemoteEnds:
    """Where the rest of the pipeline reports what the replicator has to know, without waiting; and the days of the
    bucket, for the writer."""

    days: RemoteDays | None = None
    on_sealed: Callable[[DaySealed], None] = lambda _: None
    on_instruments: Callable[[Sequence[Instrument]], None] = lambda _: None


def start_replicator(nursery: trio.Nursery, remote: Remote | None, stop: trio.Event) -> RemoteEnds:
    """Start the replicator and its pushers; without a bucket, nothing."""
    if remote is None:
        return RemoteEnds()
    # Never full: a message per sealed day and per push in hand, and they are names.
    send, inbox = trio.open_memory_channel[ReplicatorMessage](math.inf)
    # Never full: the replicator hands out no more than there are pushers.
    send_job, jobs = trio.open_memory_channel[DayName](math.inf)

    async def replicate() -> None:
        async with move_on_when(stop.wait):
            await run_replicator(inbox, send_job, remote.days, remote.bucket, remote.concurrent)

    async def push() -> None:
        async with move_on_when(stop.wait):
            await run_pusher(jobs.clone(), send.clone(), remote.days, remote.bucket)

    def report(message: DaySealed | LookForUnpushed) -> None:
        # After the stop nobody listens: what is sealed then is found at the next start.
        with suppress(trio.BrokenResourceError):
            send.send_nowait(message)

    nursery.start_soon(replicate)
    if not remote.pushes:
        return RemoteEnds(remote.days)
    for _ in range(remote.concurrent):
        nursery.start_soon(push)
    return RemoteEnds(remote.days, report, lambda instruments: report(LookForUnpushed(tuple(instruments))))


def start_pullers(
    nursery: trio.Nursery,
    remote: Remote | None,
    wanted: trio.MemoryReceiveChannel[ArchiveJob],
    days: trio.MemorySendChannel[WriterMessage],
    stop: trio.Event,
) -> trio.MemoryReceiveChannel[ArchiveJob]:
    """Start the pullers; return the channel of what they leave to the archive: all of it without a bucket."""
    if remote is None or not remote.pulls:
        return wanted
    # Never full: a job per instrument, as in ``wanted``.
    send_left, left = trio.open_memory_channel[ArchiveJob](math.inf)

    async def pull(
        jobs: trio.MemoryReceiveChannel[ArchiveJob],
        archive: trio.MemorySendChannel[ArchiveJob],
        out: trio.MemorySendChannel[WriterMessage],
    ) -> None:
        async with jobs, archive, out, move_on_when(stop.wait):
            await run_puller(jobs, archive, out, remote.days, remote.bucket)

    for _ in range(remote.concurrent):
        nursery.start_soon(pull, wanted.clone(), send_left.clone(), days.clone())
    send_left.close()
    wanted.close()
    return left
