"""Pushing and pulling days by hand, comparing a cache with its bucket, and making manifests anew.

Nothing here deletes from the bucket, and only a repair replaces an object: the very one that it examined.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

import structlog
import trio

from backfilld.actors.replicator import log_pushed
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.model import Instrument, days_from
from backfilld.core.replication import DayName
from backfilld.errors import BackfillError, ObjectRefused, RemoteDenied, RemoteError, StoreError
from backfilld.ports.remote import RemoteDays

log = structlog.get_logger()

MOST_FAILURES = 3
"""Failures of the bucket in a row, with nothing between, that end a command: the rest is left for later."""

FIRST_WAIT_S = 1.0


@dataclass(slots=True)
class Transfers:
    """What pushing or pulling some days came to. ``left`` are those that the bucket, out of reach, kept from it."""

    done: list[DayName] = field(default_factory=list)
    stored: list[DayName] = field(default_factory=list)
    conflicted: list[DayName] = field(default_factory=list)
    refused: list[tuple[DayName, str]] = field(default_factory=list)
    absent: list[DayName] = field(default_factory=list)
    left: list[DayName] = field(default_factory=list)
    error: BackfillError | None = None


async def push_days(days: RemoteDays, instruments: Iterable[Instrument], concurrent: int) -> Transfers:
    """Push every sealed day of the instruments that is not known to be in the bucket, and write their manifests.

    Raises RemoteDenied if the bucket cannot be used, and StoreError for the disk.
    """
    found = Transfers()
    for instrument in instruments:
        waiting = [(instrument, day) for day in await days.unpushed(instrument)]

        async def push(name: DayName) -> None:
            pushed = await days.push(*name)
            if pushed is None:
                return
            log_pushed(log.bind(instrument=str(name[0]), day=name[1].isoformat()), pushed)
            {"pushed": found.done, "stored": found.stored, "conflicted": found.conflicted}[pushed.standing].append(name)

        await transfer(waiting, push, found, concurrent)
        if found.error is None:
            # Also without a day that waits: a pipeline that ended may have pushed some, and not written their manifest.
            await _publish(days, instrument)
    return found


async def pull_days(
    days: RemoteDays, wanted: Sequence[DayName], concurrent: int, *, is_sealed: Callable[[DayName], bool]
) -> Transfers:
    """Put the days into the cache that the bucket has and that are not sealed there. The caller locks the cache."""
    found = Transfers()

    async def pull(name: DayName) -> None:
        if is_sealed(name):
            found.stored.append(name)
            return
        about = log.bind(instrument=str(name[0]), day=name[1].isoformat())
        try:
            staged = await days.stage(*name)
            if staged is None:
                found.absent.append(name)
                return
            saved = await days.admit(*name, staged)
        except ObjectRefused as refusal:
            about.warning("remote_refused", reason=str(refusal))
            found.refused.append((name, str(refusal)))
            return
        about.info("day_pulled", file=saved.file, trades=saved.record.rows, bytes=saved.bytes)
        found.done.append(name)

    await transfer(wanted, pull, found, concurrent)
    return found


def days_between(instruments: Iterable[Instrument], first: date, last: date) -> list[DayName]:
    """Every day from the first to the last, both included, of each instrument."""
    return [(instrument, day) for instrument in instruments for day in days_from(first, last)]


async def transfer(
    names: Sequence[DayName], work: Callable[[DayName], Awaitable[None]], found: Transfers, concurrent: int
) -> None:
    """Do the work for each name, some at a time; a bucket that is out of reach is waited for a little, then left.

    Raises StoreError and RemoteDenied, which no waiting mends.
    """
    waiting, failures = deque(names), [0]
    fatal: list[BackfillError] = []

    async def worker() -> None:
        while waiting:
            name = waiting.popleft()
            if failures[0] >= MOST_FAILURES:
                found.left.append(name)
                continue
            try:
                await work(name)
                failures[0] = 0
            except (StoreError, RemoteDenied) as error:
                fatal.append(error)
                nursery.cancel_scope.cancel()
            except RemoteError as error:
                failures[0] += 1
                found.error = error
                waiting.append(name)
                await trio.sleep(FIRST_WAIT_S * 2.0 ** min(failures[0] - 1, MOST_FAILURES))

    if found.error is not None:
        found.left += names
        return
    async with trio.open_nursery() as nursery:
        for _ in range(min(concurrent, len(names))):
            nursery.start_soon(worker)
    if fatal:
        raise fatal[0]
    if not found.left:
        found.error = None


async def _publish(days: RemoteDays, instrument: Instrument) -> None:
    """A manifest may lag behind: that its writing fails is reported, and no day is left for it."""
    try:
        await days.publish(instrument)
    except RemoteError as error:
        log.warning("manifest_unpublished", instrument=str(instrument), error=str(error))


async def make_manifests(
    days: CachedDaysInBucket, instruments: Sequence[Instrument] | None, concurrent: int
) -> Transfers:
    """Make the manifest of each instrument (None: of all in the bucket) anew, from the certificates of its days."""
    found = Transfers()
    for instrument in await days.instruments() if instruments is None else instruments:
        names = [(instrument, day) for day in await days.days(instrument)]

        async def look(name: DayName) -> None:
            try:
                there = await days.look(*name)
            except ObjectRefused as refusal:
                found.refused.append((name, str(refusal)))
                return
            if there is not None:
                days.note_pushed(name[0], there)
                found.done.append(name)

        await transfer(names, look, found, concurrent)
        if found.error is None:
            await days.replace_manifest(instrument)
    return found
