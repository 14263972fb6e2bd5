"""The channels between the actors of a pipeline.

Owns how much each of them buffers, and no end: each actor closes the ends that it was given.
"""

import math
from dataclasses import dataclass

import trio

from backfilld.actors.messages import Job, MergerMessage, ReaderMessage, SchedulerMessage, WriterMessage


@dataclass(frozen=True, slots=True)
class Channels:
    """Both ends of each channel: what sends a message, and what receives the messages."""

    send_job: trio.MemorySendChannel[Job]
    jobs: trio.MemoryReceiveChannel[Job]
    send_page: trio.MemorySendChannel[MergerMessage]
    pages: trio.MemoryReceiveChannel[MergerMessage]
    send_day: trio.MemorySendChannel[WriterMessage]
    days: trio.MemoryReceiveChannel[WriterMessage]
    send_event: trio.MemorySendChannel[SchedulerMessage]
    events: trio.MemoryReceiveChannel[SchedulerMessage]
    send_read: trio.MemorySendChannel[ReaderMessage]
    reads: trio.MemoryReceiveChannel[ReaderMessage]


def open_channels(fetchers: int) -> Channels:
    """The channels of a pipeline with this number of fetchers."""
    return Channels(
        # Never full: the scheduler deals no more jobs than there are fetchers.
        *trio.open_memory_channel[Job](math.inf),
        # A page more for each fetcher than it has in hand; a slow disk then stops the fetchers, not the memory.
        *trio.open_memory_channel[MergerMessage](fetchers),
        # One day waiting while one is written: the merger goes on gathering.
        *trio.open_memory_channel[WriterMessage](1),
        # Never full: events are answers to jobs and days in flight, which are bounded above.
        *trio.open_memory_channel[SchedulerMessage](math.inf),
        # Nor this: an instrument awaits one answer at a time.
        *trio.open_memory_channel[ReaderMessage](math.inf),
    )
