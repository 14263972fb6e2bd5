"""The replicator: has every sealed day pushed to the bucket, some at a time, whenever the bucket answers.

Owns the queue of days and the patience with the bucket. What waits here need not survive: a day that is sealed on disk
and not noted as pushed is found again at the next start. Nobody waits for it; the pipeline's end cuts it short.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

import structlog
import trio

from backfilld.actors.messages import DaySealed
from backfilld.core.model import Instrument
from backfilld.core.replication import DayName, PushQueue, Reachability
from backfilld.errors import BackfillError, RemoteDenied, RemoteError
from backfilld.ports.remote import Pushed, RemoteDays

log = structlog.get_logger()

PUBLISH_EVERY = 100
"""Pushes of one instrument after which its manifest and its notes are written, though more of its days wait. Each
writing takes up to three requests."""


class Bucket:
    """What all who ask the bucket share: whether it answers. A failure is logged when it begins and when it ends."""

    def __init__(self) -> None:
        self.reach = Reachability()

    @property
    def may_ask(self) -> bool:
        """Whether the bucket is to be asked now."""
        return self.reach.may_ask(trio.current_time())

    def failed(self, error: BackfillError) -> None:
        """Leave the bucket alone for a while."""
        is_news = self.reach.failed(trio.current_time())
        if is_news:
            again_in_s = round(self.reach.asks_at - trio.current_time(), 1)
            log.warning("remote_failed", error=str(error), again_in_s=again_in_s)

    def answered(self) -> None:
        """It works."""
        seconds = self.reach.answered(trio.current_time())
        if seconds is not None:
            log.info("remote_recovered", seconds=round(seconds, 1))


@dataclass(frozen=True, slots=True)
class PushEnded:
    """What became of pushing a day; None if the day is not there to be pushed any more."""

    name: DayName
    result: Pushed | BackfillError | None


@dataclass(frozen=True, slots=True)
class LookForUnpushed:
    """Look for days of these instruments on disk that are not known to be in the bucket."""

    instruments: tuple[Instrument, ...]


ReplicatorMessage = DaySealed | PushEnded | LookForUnpushed


async def run_pusher(
    jobs: trio.MemoryReceiveChannel[DayName],
    results: trio.MemorySendChannel[ReplicatorMessage],
    days: RemoteDays,
    bucket: Bucket,
) -> None:
    """Push the days that are asked for, one at a time."""
    async with jobs, results:
        async for name in jobs:
            result = await _pushed(name, days)
            if isinstance(result, Pushed):
                # Here, because at the end of a run the replicator may end before it reads the result.
                bucket.answered()
                log_pushed(log.bind(**_subject(name)), result)
            await results.send(PushEnded(name, result))


async def _pushed(name: DayName, days: RemoteDays) -> Pushed | BackfillError | None:
    try:
        return await days.push(*name)
    except BackfillError as error:
        return error


def _subject(name: DayName) -> dict[str, str]:
    instrument, day = name
    return {"instrument": str(instrument), "day": day.isoformat()}


async def run_replicator(
    inbox: trio.MemoryReceiveChannel[ReplicatorMessage],
    jobs: trio.MemorySendChannel[DayName],
    days: RemoteDays,
    bucket: Bucket,
    concurrent: int,
) -> None:
    """Push what is found on disk when asked to look, and each day when it is sealed, until the inbox is closed.

    Raises RemoteDenied if the bucket cannot be used as it is set, as far as the probe at the start shows.
    """
    async with inbox, jobs:
        await probe(days, bucket)
        work = _Work(jobs, days, bucket, concurrent)
        while True:
            await work.deal()
            with trio.move_on_at(work.looks_at()):
                try:
                    message = await inbox.receive()
                except trio.EndOfChannel:
                    return
                await work.handle(message)


async def probe(days: RemoteDays, bucket: Bucket) -> None:
    """Ask once whether the bucket can be used. One that is out of reach is asked later, by what is to be done there."""
    try:
        await days.probe()
    except RemoteDenied:
        raise
    except RemoteError as error:
        bucket.failed(error)


@dataclass(slots=True)
class _Work:
    """The days that wait, those in hand, and the instruments whose manifest is behind."""

    jobs: trio.MemorySendChannel[DayName]
    days: RemoteDays
    bucket: Bucket
    concurrent: int
    queue: PushQueue = field(default_factory=PushQueue)
    in_hand: set[DayName] = field(default_factory=set)
    unpublished: Counter[Instrument] = field(default_factory=Counter)

    async def find(self, instrument: Instrument) -> None:
        """Let the days on disk wait that are not known to be in the bucket."""
        try:
            for day in await self.days.unpushed(instrument):
                self.queue.add((instrument, day))
        except BackfillError as error:
            log.warning("remote_unread", instrument=str(instrument), error=str(error))

    async def deal(self) -> None:
        """Hand out what may be done now: one day while the bucket is lost, else as many as are allowed."""
        while self.bucket.may_ask and len(self.in_hand) < (1 if self.bucket.reach.is_lost else self.concurrent):
            name = self.queue.take()
            if name is None:
                break
            self.in_hand.add(name)
            self.jobs.send_nowait(name)
        await self._publish()

    def looks_at(self) -> float:
        """When there is something to do again, though nothing happens."""
        waits = self.bucket.reach.is_lost and (len(self.queue) or self.unpublished) and not self.in_hand
        return self.bucket.reach.asks_at if waits else math.inf

    async def handle(self, message: ReplicatorMessage) -> None:
        """Count one event."""
        match message:
            case LookForUnpushed(instruments):
                for instrument in instruments:
                    await self.find(instrument)
            case DaySealed(instrument, day):
                self.queue.add((instrument, day))
            case PushEnded(name, result):
                self.in_hand.discard(name)
                self._ended(name, result)

    def _ended(self, name: DayName, result: Pushed | BackfillError | None) -> None:
        match result:
            case RemoteError():
                self.queue.add(name)
                self.bucket.failed(result)
            case BackfillError():
                about = log.bind(**_subject(name))
                about.warning("push_failed", error=str(result))
            case Pushed():
                self.unpublished[name[0]] += 1
            case None:
                pass

    async def _publish(self) -> None:
        """Write the manifest of an instrument none of whose days waits, or which is far behind."""
        for instrument, count in tuple(self.unpublished.items()):
            if not self.bucket.may_ask:
                return
            if count >= PUBLISH_EVERY or not (self.queue.has(instrument) or self._is_in_hand(instrument)):
                await self._publish_one(instrument)

    async def _publish_one(self, instrument: Instrument) -> None:
        try:
            await self.days.publish(instrument)
        except RemoteError as error:
            self.bucket.failed(error)
            return
        except BackfillError as error:
            log.warning("push_unnoted", instrument=str(instrument), error=str(error))
        else:
            self.bucket.answered()
        del self.unpublished[instrument]

    def _is_in_hand(self, instrument: Instrument) -> bool:
        return any(each == instrument for each, _ in self.in_hand)


def log_pushed(about: structlog.typing.FilteringBoundLogger, pushed: Pushed) -> None:
    """Report what a push came to."""
    match pushed.standing:
        case "pushed":
            about.info("day_pushed", bytes=pushed.bytes, digest=pushed.digest)
        case "stored":
            about.info("remote_held", digest=pushed.digest)
        case "conflicted":
            about.error("remote_conflicted", digest=pushed.digest, remote_digest=pushed.theirs)
