"""The publisher: gives every subscriber the trades of its instrument, each frame once, in order, and never waits.

Owns the subscribers, and the last minute of trades, so that one who comes from the disk finds what is not on it yet. A
subscriber who is too slow is let go: its channel closes behind the frames that found room, and the id after the last
of them is the one to go on from.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress

import structlog
import trio

from backfilld.actors.live_messages import (
    Beginning,
    Begun,
    Ended,
    Frame,
    HoleGivenUp,
    PublisherMessage,
    Subscribed,
    TradesSequenced,
    Unfollow,
)
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Instrument

log = structlog.get_logger()

SUBSCRIBER_FRAMES = 4096
"""Frames that may wait for a subscriber; they are shared, so a slow one costs no more than their references."""

REMEMBERED_S = 60.0
"""How long trades are remembered: several checkpoints, after which they are on disk."""

REMEMBERED_TRADES = 100_000
"""Trades of all instruments that are remembered at most, about 20 MB."""

DRAINED = 200
"""Messages that are handled in a row before others get their turn."""

REPLAY_TRADES = 5_000
"""Trades in a frame of what is remembered."""


async def run_publisher(inbox: trio.MemoryReceiveChannel[PublisherMessage]) -> None:
    """Publish until there is nothing more to come."""
    publisher = _Publisher()
    async with inbox:
        async for message in inbox:
            publisher.handle(message, trio.current_time())
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                for _ in range(DRAINED):
                    publisher.handle(inbox.receive_nowait(), trio.current_time())
    publisher.end_all()


class _Publisher:
    def __init__(self) -> None:
        self._next_ids: dict[Instrument, int] = {}
        self._subscribers: defaultdict[Instrument, list[Subscribed]] = defaultdict(list)
        self._waiting: defaultdict[Instrument, list[Subscribed]] = defaultdict(list)
        self._remembered: defaultdict[Instrument, deque[TradesSequenced]] = defaultdict(deque)
        self._ages: deque[tuple[float, Instrument]] = deque()
        self._trades = 0

    def handle(self, message: PublisherMessage, now: float) -> None:
        match message:
            case TradesSequenced(instrument, trades):
                self._remember(message, now)
                self._next_ids[instrument] = trades[-1].a + 1
                self._publish(instrument, message)
            case Begun(instrument, next_id):
                self._next_ids[instrument] = next_id
                for subscribed in self._waiting.pop(instrument, []):
                    self._welcome(subscribed, next_id)
            case Subscribed(instrument) if instrument in self._next_ids:
                self._welcome(message, self._next_ids[instrument])
            case Subscribed(instrument):
                self._waiting[instrument].append(message)
            case HoleGivenUp(instrument, ids):
                reason = f"ids {ids.first_id} to {ids.last_id} did not come in time"
                self._end(instrument, Ended(ids.first_id, reason))
                self._next_ids[instrument] = ids.last_id + 1
                # What is remembered from before does not lead up to what comes after.
                self._forget(instrument)
            case Unfollow(instrument):
                self._end(instrument, Ended(self._next_ids.pop(instrument, None), "the instrument was removed"))
                self._forget(instrument)

    def end_all(self) -> None:
        for instrument in {*self._subscribers, *self._waiting}:
            self._end(instrument, Ended(self._next_ids.get(instrument), "the daemon is stopping"))

    def _publish(self, instrument: Instrument, frame: Frame) -> None:
        subscribers = self._subscribers.get(instrument)
        if subscribers:
            self._subscribers[instrument] = [each for each in subscribers if _sent(each, frame)]

    def _welcome(self, subscribed: Subscribed, next_id: int) -> None:
        """Send what is remembered from the id on, and everything after it."""
        remembered = self._remembered[subscribed.instrument]
        first_id = remembered[0].trades[0].a if remembered else next_id
        start_id = next_id if subscribed.from_id is None else min(next_id, max(first_id, subscribed.from_id))
        frames: list[Frame] = [Beginning(start_id), *_replayed(subscribed.instrument, remembered, start_id)]
        if all(_sent(subscribed, frame) for frame in frames):
            self._subscribers[subscribed.instrument].append(subscribed)

    def _end(self, instrument: Instrument, end: Ended) -> None:
        for subscribed in (*self._subscribers.pop(instrument, []), *self._waiting.pop(instrument, [])):
            if _sent(subscribed, end):
                subscribed.frames.close()

    def _remember(self, frame: TradesSequenced, now: float) -> None:
        self._remembered[frame.instrument].append(frame)
        self._ages.append((now, frame.instrument))
        self._trades += len(frame.trades)
        while self._ages[0][0] < now - REMEMBERED_S or self._trades > max(REMEMBERED_TRADES, len(frame.trades)):
            _, instrument = self._ages.popleft()
            frames = self._remembered[instrument]
            if frames:
                self._trades -= len(frames.popleft().trades)

    def _forget(self, instrument: Instrument) -> None:
        self._trades -= sum(len(each.trades) for each in self._remembered.pop(instrument, deque()))
        self._ages = deque(each for each in self._ages if each[1] != instrument)


def _sent(subscribed: Subscribed, frame: Frame) -> bool:
    """Whether the subscriber took it; one who did not is let go."""
    try:
        subscribed.frames.send_nowait(frame)
    except trio.WouldBlock:
        log.warning("follower_dropped", instrument=str(subscribed.instrument), reason="too slow")
    except trio.BrokenResourceError:
        pass
    else:
        return True
    subscribed.frames.close()
    return False


def _replayed(instrument: Instrument, remembered: deque[TradesSequenced], start_id: int) -> Iterator[TradesSequenced]:
    trades: list[LiveTrade] = [each for frame in remembered for each in frame.trades if each.a >= start_id]
    for start in range(0, len(trades), REPLAY_TRADES):
        yield TradesSequenced(instrument, trades[start : start + REPLAY_TRADES])
