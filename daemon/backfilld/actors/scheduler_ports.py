"""The channel ends of the scheduler, and which of them an action of a sync goes through."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from backfilld.actors.messages import (
    ArchiveJob,
    Job,
    MergerMessage,
    ReaderMessage,
    SchedulerMessage,
    SyncAction,
)
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.model import Instrument
from backfilld.core.sync import events
from backfilld.core.sync.events import Action


@dataclass(frozen=True, slots=True)
class SchedulerPorts:
    """``outcomes`` gets one Outcome per instrument, after its first round."""

    inbox: trio.MemoryReceiveChannel[SchedulerMessage]
    jobs: trio.MemorySendChannel[Job]
    pages: trio.MemorySendChannel[MergerMessage]
    reads: trio.MemorySendChannel[ReaderMessage]
    outcomes: trio.MemorySendChannel[Outcome]
    archive: trio.MemorySendChannel[ArchiveJob]
    live: trio.MemorySendChannel[SyncAction[events.Offer]] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close all of them in the end."""
        async with AsyncExitStack() as stack:
            for end in (self.inbox, self.jobs, self.pages, self.reads, self.outcomes, self.archive, self.live):
                if end is not None:
                    await stack.enter_async_context(end)
            yield

    async def stop_feeding(self) -> None:
        """Ask for nothing more: the actors behind these channels end, one after the other."""
        for end in (self.jobs, self.archive, self.reads, self.pages):
            await end.aclose()

    async def pass_on(self, instrument: Instrument, action: Action) -> None:
        """Pass an action to the actor that performs it."""
        match action:
            case events.Flush() | events.Prove():
                await self.pages.send(SyncAction(instrument, action))
            case events.LoadDays() | events.LookAtFiles() | events.Distrust() | events.Remember() | events.Leave():
                self.reads.send_nowait(SyncAction(instrument, action))
            case events.TakeArchive():
                self.archive.send_nowait(SyncAction(instrument, action))
            case events.Offer() if self.live is not None:
                self.live.send_nowait(SyncAction(instrument, action))
            case _:
                pass
