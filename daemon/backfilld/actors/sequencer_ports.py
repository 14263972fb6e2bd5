"""The channel ends of the sequencer."""

from dataclasses import dataclass

import trio

from backfilld.actors.live_messages import PublisherMessage, SequencerMessage
from backfilld.actors.messages import Job, MergerMessage, SchedulerMessage


@dataclass(frozen=True, slots=True)
class SequencerPorts:
    """The channel ends of the sequencer, which it closes."""

    inbox: trio.MemoryReceiveChannel[SequencerMessage]
    jobs: trio.MemorySendChannel[Job]
    pages: trio.MemorySendChannel[MergerMessage]
    events: trio.MemorySendChannel[SchedulerMessage]
    publisher: trio.MemorySendChannel[PublisherMessage]
