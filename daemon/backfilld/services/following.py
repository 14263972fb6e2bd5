"""Following an instrument: from any id, from disk through to live, without a seam and without a duplicate.

Owns the joint between the day files and what a daemon remembers. The daemon says first from which id on it will send;
the files give everything before that, and where they do not reach up to it yet, they are waited for.
"""

import time
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import date

import polars as pl
import trio

from backfilld.actors.live_messages import Beginning, Ended, Frame, TradesSequenced
from backfilld.adapters.live_socket import GONE, STILL, TOO_SLOW, connect_live
from backfilld.core.day.certificate import Certificate
from backfilld.core.live.trades import frame_of
from backfilld.core.model import MAX_ID, Instrument, day_of, day_start_ms, iso
from backfilld.core.moments import Moment, moment_ms
from backfilld.errors import (
    BackfillIncomplete,
    CacheLocked,
    DayDamaged,
    DayLocked,
    FollowEnded,
    SettingsError,
    StoreError,
)
from backfilld.services.own_stream import own_stream
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of
from backfilld.settings.rules import instrument_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.layout import state_directory
from backfilld.store.manager import BackfillCacheManager, manager_of
from backfilld.store.shelf import Shelf

DISK_LOOK_S = 0.5
"""How often the files are looked at while they lack trades that a daemon has."""

DISK_WAIT_S = 90.0
"""How long they are waited for: the daemon remembers a minute, and saves more often than that."""

RETURN_WAIT_S = 30.0
"""How long a daemon that went away is waited for: a restart takes a few seconds."""

AHEAD_S = 60.0
"""How far ahead of this machine's clock a start may lie."""

FRAME_ROWS = 100_000
"""Rows of a frame that comes from disk."""


async def follow(
    instrument: Instrument | str,
    *,
    from_id: int | None = None,
    start: Moment | None = None,
    settings: Settings | None = None,
) -> AsyncGenerator[pl.DataFrame, None]:
    """The trades of an instrument as frames, each where the one before ended, from ``from_id`` on, from the first trade
    at or after ``start``, or from now on.

    What is on disk comes from there, and what follows by way of the running daemon, or of a stream of its own if no
    daemon runs; it then keeps the cache as a daemon does. Never ends by itself: raises FollowEnded, whose ``next_id``
    says where to go on, and what the settings, the cache or the exchange are to blame for. Raises BackfillIncomplete if
    the cache does not reach back to ``start``, RequestRejected for a symbol that is not listed, and SettingsError for a
    start in the future.

    Examples:
        >>> import contextlib, trio
        >>> async def first_frame():
        ...     async with contextlib.aclosing(follow("spot:BTCUSDT", start="2025-11-07")) as frames:
        ...         return (await anext(frames)).columns
        >>> trio.run(first_frame)
        ['T', 'a', 'p', 'q', 'f', 'l', 'm', 'M']
    """
    wanted = instrument_of(instrument)
    settings = settings or Settings()
    manager = manager_of(settings.cache_dir, wanted, encoding_of(settings))
    next_id = _begin(manager, from_id, start)
    lost_at: float | None = None
    while True:
        ended: Ended | None = None
        async with _source(settings, wanted, next_id, may_start=lost_at is None) as frames:
            if frames is not None:
                async with aclosing(_joined(manager, next_id, frames)) as joined:
                    async for part in joined:
                        if isinstance(part, Ended):
                            ended = part
                            break
                        lost_at, next_id = None, int(part["a"][-1]) + 1
                        yield part
        now = trio.current_time()
        lost_at = now if lost_at is None else lost_at
        if not _is_passing(ended) or now > lost_at + RETURN_WAIT_S:
            _refuse_locked(manager)
            reason = "no daemon came back" if ended is None else ended.reason
            raise FollowEnded(f"{wanted}: {reason}; go on from id {next_id}", next_id=next_id)
        await trio.sleep(DISK_LOOK_S)


def _begin(manager: BackfillCacheManager, from_id: int | None, start: Moment | None) -> int | None:
    """The id to begin with, None for the next trade that comes."""
    if from_id is not None and not (isinstance(from_id, int) and 0 <= from_id <= MAX_ID):
        raise SettingsError(f"from_id = {from_id!r}: it must be a whole number from 0 to 2^53")
    if start is None:
        return from_id
    if from_id is not None:
        raise SettingsError("from_id and start exclude each other: give one of them")
    start_ms = moment_ms(start)
    if start_ms > (time.time() + AHEAD_S) * 1000:
        raise SettingsError(f"start {start} lies in the future")
    return _first_id(manager, start_ms)


STOPPING = "the daemon is stopping"


def _is_passing(ended: Ended | None) -> bool:
    """Whether it is worth connecting again."""
    return ended is None or ended.reason in {TOO_SLOW, STOPPING, GONE, STILL}


@asynccontextmanager
async def _source(
    settings: Settings, instrument: Instrument, from_id: int | None, *, may_start: bool
) -> AsyncIterator[AsyncIterator[Frame] | None]:
    """What a running daemon sends; without one, and if that is wanted, what a stream of our own brings."""
    async with connect_live(state_directory(settings.cache_dir), instrument, from_id) as frames:
        if frames is not None or not may_start:
            yield frames
            return
    try:
        async with own_stream(settings, instrument, from_id) as frames:
            yield frames
    except CacheLocked as error:
        raise CacheLocked(f"{error}; it does not follow streams (live = false), or it is starting") from error


async def _joined(
    manager: BackfillCacheManager, from_id: int | None, frames: AsyncIterator[Frame]
) -> AsyncGenerator[pl.DataFrame | Ended, None]:
    """Frames from disk up to where the live ones begin, then those; last why they ended."""
    next_id = from_id
    try:
        async for frame in frames:
            match frame:
                case Beginning(first_id):
                    next_id = first_id if next_id is None else next_id
                    async with aclosing(_from_disk(manager, next_id, first_id)) as parts:
                        async for part in parts:
                            next_id = int(part["a"][-1]) + 1
                            yield part
                    if next_id < first_id:
                        yield Ended(next_id, f"ids {next_id} to {first_id - 1} are not on disk")
                        return
                case TradesSequenced(trades=trades):
                    new = [each for each in trades if next_id is None or each.a >= next_id]
                    if new:
                        next_id = new[-1].a + 1
                        yield frame_of(new)
                case Ended():
                    yield frame
                    return
    except EOFError as error:
        yield Ended(next_id, str(error))


async def _from_disk(manager: BackfillCacheManager, next_id: int, stop_id: int) -> AsyncGenerator[pl.DataFrame, None]:
    """The trades with next_id <= a < stop_id, as far as the files have them without a hole."""
    give_up_at = trio.current_time() + DISK_WAIT_S
    while next_id < stop_id and trio.current_time() < give_up_at:
        for part in _contiguous(manager, next_id, stop_id):
            next_id = int(part["a"][-1]) + 1
            give_up_at = trio.current_time() + DISK_WAIT_S
            yield part
        if next_id < stop_id:
            _refuse_locked(manager)
            await trio.sleep(DISK_LOOK_S)


def _refuse_locked(manager: BackfillCacheManager) -> None:
    """Raise DayLocked if a day is locked: it may have what is missing."""
    for day in manager.days():
        with suppress(UntrustedFile, StoreError):
            manager.facts(day)


def _contiguous(manager: BackfillCacheManager, next_id: int, stop_id: int) -> Iterator[pl.DataFrame]:
    """What the files and journals have from ``next_id`` on, up to the first hole. A file that cannot be read is a hole;
    it is left to the daemon."""
    for day in manager.days():
        try:
            facts = manager.facts(day)
            if facts.last_id < next_id or facts.first_id >= stop_id:
                continue
            for piece in manager.row_groups(day):
                part = piece.filter(pl.col("a").is_between(next_id, stop_id - 1))
                jumps = (part["a"].diff() != 1).arg_true()
                part = part if jumps.is_empty() else part.head(int(jumps[0]))
                if part.is_empty() and piece["a"][-1] < next_id:
                    continue
                if part.is_empty() or part["a"][0] != next_id:
                    return
                next_id = int(part["a"][-1]) + 1
                yield from part.iter_slices(FRAME_ROWS)
        except (UntrustedFile, StoreError, DayDamaged, DayLocked):
            continue


def _refuse_missing_days(manager: BackfillCacheManager, start_ms: int, stop_ms: int) -> None:
    """Raise BackfillIncomplete if a trade could be missing of the time before the first day that has any."""
    if manager.instrument is not None:
        root = manager.directory.parents[1]
        shelf = Shelf(root, manager.instrument, manager.encoding, is_strict=True)
        for gap in shelf.gaps(start_ms, stop_ms):
            raise BackfillIncomplete(f"the cache does not reach back to {iso(start_ms)}: {gap}")


def _first_id(manager: BackfillCacheManager, start_ms: int) -> int:
    """The first id stored at or after the instant, or the one after all stored. Raises BackfillIncomplete where an
    earlier trade could be missing."""
    last_id: int | None = None
    days = manager.days()
    at = bisect_left(days, day_of(start_ms))
    if at:
        with suppress(UntrustedFile):
            last_id = manager.facts(days[at - 1]).last_id
    for day in days[at:]:
        facts = _facts(manager, day)
        reaches_back = facts.opened
        for piece in manager.row_groups(day):
            reaches_back |= bool((piece["T"] < start_ms).any())
            later = piece.filter(pl.col("T") >= start_ms)
            if not later.is_empty():
                if day > day_of(start_ms) and facts.first_id - 1 != last_id:
                    _refuse_missing_days(manager, start_ms, day_start_ms(day))
                if not reaches_back:
                    raise BackfillIncomplete(f"{manager.instrument}: stored from {iso(int(piece['T'][0]))} only")
                return int(later["a"][0])
        last_id = facts.last_id
    if last_id is None and at:
        last_id = _facts(manager, days[at - 1]).last_id
    if last_id is None:
        raise BackfillIncomplete(f"{manager.instrument}: nothing is stored at {iso(start_ms)} or before")
    return last_id + 1


def _facts(manager: BackfillCacheManager, day: date) -> Certificate:
    """What a day file says of itself. Raises DayDamaged for one that cannot be used."""
    try:
        return manager.facts(day)
    except UntrustedFile as reason:
        path = manager.get_cache_path(day)
        raise DayDamaged(f"{path} cannot be used: {reason}; backfilld verify --repair") from reason
