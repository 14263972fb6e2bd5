"""The listener: receives from one connection to the streams, and never waits for its reader.

Owns one connection for as long as it lives. Where its messages find no room they are dropped and counted: the sequencer
sees the hole and REST fills it. Must not check what it receives.
"""

import math
from collections.abc import Sequence

import trio

from backfilld.actors.live_messages import (
    ConnectionName,
    Resubscribe,
    SequencerMessage,
    StreamEnded,
    StreamHeard,
    StreamOpened,
)
from backfilld.core.model import Instrument
from backfilld.errors import StreamLost
from backfilld.ports import OpenStream, TradeStream

LOOK_S = 0.25
"""How long a quiet connection is received from before it is looked whether other instruments are wanted."""

APART_S = 0.002
"""The least time from one batch to the next. Below 500 messages a second nothing waits; above, 2 ms at most."""

MOST_BATCHES = 2000
"""Messages to the sequencer that may wait; each holds the trades of one look at the socket, at most 500 of them."""


async def run_listener(
    name: ConnectionName,
    url: str,
    instruments: Sequence[Instrument],
    commands: trio.MemoryReceiveChannel[Resubscribe],
    inbox: trio.MemorySendChannel[SequencerMessage],
    open_stream: OpenStream,
) -> None:
    """Receive until the connection ends, or ``commands`` is closed."""
    reason: str | None = None
    async with commands, inbox:
        try:
            async with open_stream(url, instruments) as stream:
                _tell(inbox, StreamOpened(name))
                await _listen(name, stream, commands, inbox)
        except StreamLost as error:
            reason = str(error)
        _tell(inbox, StreamEnded(name, reason))


async def _listen(
    name: ConnectionName,
    stream: TradeStream,
    commands: trio.MemoryReceiveChannel[Resubscribe],
    inbox: trio.MemorySendChannel[SequencerMessage],
) -> None:
    overflowed, received_at = 0, -math.inf
    while _resubscribe(stream, commands):
        # Of a busy stream what came meanwhile is one batch: waking every actor for each message costs more than it.
        if trio.current_time() < received_at + APART_S:
            await trio.sleep_until(received_at + APART_S)
        batch = await stream.receive(LOOK_S)
        received_at = trio.current_time()
        if inbox.statistics().current_buffer_used >= MOST_BATCHES:
            overflowed += sum(map(len, batch.trades.values()))
        elif batch.trades or batch.is_ending or batch.refusals or batch.garbage:
            _tell(inbox, StreamHeard(name, batch, overflowed))
            overflowed = 0


def _resubscribe(stream: TradeStream, commands: trio.MemoryReceiveChannel[Resubscribe]) -> bool:
    """Subscribe to the instruments wanted now. Return False if none is."""
    while True:
        try:
            command = commands.receive_nowait()
        except trio.WouldBlock:
            return True
        except trio.EndOfChannel:
            return False
        if command.more:
            stream.subscribe(command.more)
        if command.less:
            stream.unsubscribe(command.less)


def _tell(inbox: trio.MemorySendChannel[SequencerMessage], message: SequencerMessage) -> None:
    """The inbox has no end to its room; a sequencer that is gone needs nothing."""
    try:
        inbox.send_nowait(message)
    except trio.BrokenResourceError:
        return
