"""The live side under the supervisor: its channels, its healers, and a listener for each connection.

Owns the buffer sizes of the live side. The nursery is the pipeline's: a crash here is a crash of the pipeline, which
is wired anew.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import trio
from trio_util import AsyncValue, move_on_when

from backfilld.actors.fetcher import FetcherPorts, Patience, run_fetcher
from backfilld.actors.listener import run_listener
from backfilld.actors.live_announcements import LiveClock
from backfilld.actors.live_messages import (
    ConnectionName,
    Frame,
    PublisherMessage,
    Resubscribe,
    SequencerMessage,
    Subscribed,
)
from backfilld.actors.messages import Job, MergerMessage, SchedulerMessage, SpecChanged, StopRequested
from backfilld.actors.publisher import SUBSCRIBER_FRAMES, run_publisher
from backfilld.actors.sequencer import run_sequencer
from backfilld.actors.sequencer_ports import SequencerPorts
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.model import Instrument
from backfilld.core.sync.spec import Reload, RunSpec
from backfilld.ports import OpenClient, OpenStream
from backfilld.supervisor_pools import jobs_by_pool

HEALERS = 2
"""Fetchers per pool that only fill holes, so that a hole never waits behind the pages of a backfill."""


class LiveDoor:
    """Where subscribers come in while a pipeline runs; it outlives the pipeline's crashes."""

    def __init__(self) -> None:
        self._publisher: trio.MemorySendChannel[PublisherMessage] | None = None

    def open(self, publisher: trio.MemorySendChannel[PublisherMessage]) -> None:
        """Let subscribers in."""
        self._publisher = publisher

    def close(self) -> None:
        """Let nobody in any more."""
        if self._publisher is not None:
            self._publisher.close()
        self._publisher = None

    def subscribe(self, instrument: Instrument, from_id: int | None) -> trio.MemoryReceiveChannel[Frame] | None:
        """The frames of an instrument, from ``from_id`` on as far as it is remembered; None while nothing is live."""
        if self._publisher is None:
            return None
        send, receive = trio.open_memory_channel[Frame](SUBSCRIBER_FRAMES)
        self._publisher.send_nowait(Subscribed(instrument, from_id, send))
        return receive


Subscribe = Callable[[Instrument, int | None], "trio.MemoryReceiveChannel[Frame] | str"]
Serve = Callable[[Subscribe, Callable[[], LiveStatistics]], Awaitable[None]]
"""Serves the live trades, and how the live side stands, to other programs until it is cancelled."""

ENDING_S = 1.0
"""After the stop: time to tell followers where to go on."""


@dataclass(frozen=True, slots=True)
class LiveWorld:
    """What the live side needs of the world, and how people see it."""

    open_stream: OpenStream
    statistics: AsyncValue[LiveStatistics]
    door: LiveDoor
    serve: Serve | None = None

    def subscribe(self, instrument: Instrument, from_id: int | None) -> trio.MemoryReceiveChannel[Frame] | str:
        """The frames of an instrument, or why there are none."""
        if instrument not in self.statistics.value.instruments:
            return f"the daemon does not follow {instrument}: add it to its instruments"
        return self.door.subscribe(instrument, from_id) or "the daemon is stopping"


class LiveSide:
    """Everything live of one run of the pipeline. ``inbox`` is where the scheduler, reloads and the stop go."""

    def __init__(self, nursery: trio.Nursery, world: LiveWorld) -> None:
        self._nursery = nursery
        self._world = world
        self._serving = trio.CancelScope()
        # Never full: what listeners send is bounded by themselves, the rest by what was asked for.
        self.inbox, self._inbox = trio.open_memory_channel[SequencerMessage](math.inf)

    def start(
        self,
        spec: RunSpec,
        open_client: OpenClient,
        patience: Patience,
        stop: trio.Event,
        clock: LiveClock,
        pages: trio.MemorySendChannel[MergerMessage],
        events: trio.MemorySendChannel[SchedulerMessage],
    ) -> None:
        """Start the actors; the channel ends are clones of their own."""
        # Never full: one question an instrument.
        send_job, jobs = trio.open_memory_channel[Job](math.inf)
        # Never full: the publisher only passes on.
        send_frame, frames = trio.open_memory_channel[PublisherMessage](math.inf)
        for each in jobs_by_pool(self._nursery, jobs).values():
            ports = FetcherPorts(each, self.inbox.clone(), self.inbox.clone())
            for _ in range(HEALERS):
                self._nursery.start_soon(run_fetcher, ports.clone(), open_client, patience, stop)
            ports.close()
        self._world.door.open(send_frame.clone())
        self._nursery.start_soon(run_publisher, frames)
        if self._world.serve is not None:
            self._nursery.start_soon(self._serve, self._world.serve)
        self._nursery.start_soon(
            run_sequencer,
            SequencerPorts(self._inbox, send_job, pages, events, send_frame),
            spec,
            self._listen,
            clock,
            patience.jitter,
            self._world.statistics,
        )

    async def relay(self, reloads: AsyncValue[Reload | None], stop: trio.Event) -> None:
        """Pass on other settings and the stop."""
        before = reloads.value
        async with self.inbox:
            async with move_on_when(stop.wait), aclosing(reloads.eventual_values()) as values:
                async for reload in values:
                    if reload is not None and reload is not before:
                        await self.inbox.send(SpecChanged(reload.spec))
            await self.inbox.send(StopRequested())
            self._world.door.close()
            self._serving.deadline = trio.current_time() + ENDING_S

    async def _serve(self, serve: Serve) -> None:
        with self._serving:
            await serve(self._world.subscribe, lambda: self._world.statistics.value)

    def _listen(
        self, name: ConnectionName, url: str, instruments: Sequence[Instrument]
    ) -> trio.MemorySendChannel[Resubscribe]:
        # Never full: reloads are few, and each is one message.
        send, receive = trio.open_memory_channel[Resubscribe](math.inf)
        self._nursery.start_soon(
            run_listener, name, url, instruments, receive, self.inbox.clone(), self._world.open_stream
        )
        return send
