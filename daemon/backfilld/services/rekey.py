"""Putting everything that is stored under another key, or in the clear: day by day, on disk and in a bucket.

Whatever is done stays done: after an interruption the next run goes on with the rest.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import structlog

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.model import Instrument
from backfilld.core.replication import day_key
from backfilld.errors import DayLocked, ObjectRefused, SettingsError, StoreError
from backfilld.services.progress import Progress, Watch, unwatched
from backfilld.store.atomic import sweep_temporary_files
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.lock import locked
from backfilld.store.manager import BackfillCacheManager, managers
from backfilld.store.upkeep.rekeying import drop_journal, journals_without_file, rekey_day, rekey_report, reports_in

log = structlog.get_logger()


@dataclass(slots=True)
class Rekeyed:
    """What was put under the key, how much was under it already, and a sentence for each file that could not be.
    ``is_locked`` says that no key opens one of them; ``set_aside`` are files that were moved aside earlier
    and stay."""

    done: int = 0
    kept: int = 0
    failures: list[str] = field(default_factory=list)
    is_locked: bool = False
    set_aside: list[Path] = field(default_factory=list)

    def attempt(self, work: Callable[[], bool]) -> bool:
        """Do it, and count what came of it; whether something was done."""
        try:
            is_done = work()
        except (UntrustedFile, DayLocked, StoreError, ObjectRefused) as reason:
            self.failed(reason)
            return False
        self.count(is_done=is_done)
        return is_done

    def count(self, *, is_done: bool) -> None:
        """One more."""
        self.done += is_done
        self.kept += not is_done

    def failed(self, reason: Exception) -> None:
        """One that could not be."""
        self.failures.append(str(reason))
        self.is_locked |= isinstance(reason, DayLocked)


def encoding_under(encoding: Encoding, key_id: str | None, *, decrypts: bool) -> Encoding:
    """The encoding that writes by the key of this id (None: the first one), or plain. Raises SettingsError."""
    keys = encoding.keys
    if decrypts:
        return replace(encoding, keys=keys.written_by(None))
    named = [key for key in keys.keys if key_id in {None, key.id}]
    if not named:
        missing = "key_file has no key" if key_id is None else f"key_file has no key {key_id}"
        raise SettingsError(f"{missing}: it has {', '.join(key.id for key in keys.keys) or 'none'}")
    return replace(encoding, keys=keys.written_by(named[0]))


def rekey_cache(
    cache_dir: Path, instruments: Sequence[Instrument] | None, encoding: Encoding, watch: Watch = unwatched
) -> Rekeyed:
    """Put the day files, journals and reports of the instruments (None: of all) under the key by which the encoding
    writes. Raises CacheLocked while a daemon runs on the cache, and SettingsError where there is no such directory."""
    if not cache_dir.is_dir():
        raise SettingsError(f"cache_dir = {cache_dir}: there is no such directory")
    found = Rekeyed()
    with locked(cache_dir):
        sweep_temporary_files(cache_dir)
        stored = list(managers(cache_dir, instruments, encoding))
        days = sum(len(manager.days()) for manager in stored)
        for manager in stored:
            for day in manager.days():
                _rekey_day(manager, found, partial(rekey_day, manager, day), manager.get_cache_path(day))
                watch(Progress("rekey", f"{manager.instrument} {day}", 1, days))
            for path in journals_without_file(manager):
                found.attempt(partial(_named(drop_journal, path), path, encoding.keys))
            for path in reports_in(manager.directory):
                found.attempt(partial(_named(rekey_report, path), path, encoding.keys))
            found.set_aside += sorted(manager.directory.glob("*.bad-*"))
    return found


def _rekey_day(manager: BackfillCacheManager, found: Rekeyed, work: Callable[[], bool], path: Path) -> None:
    began = time.perf_counter()
    if found.attempt(_named(work, path)):
        key, ms = manager.encoding.keys.writing, round((time.perf_counter() - began) * 1000, 1)
        log.info("day_rekeyed", instrument=str(manager.instrument), file=str(path), key=key and key.id, ms=ms)


def _named(work: Callable[..., bool], path: Path) -> Callable[..., bool]:
    """The same; a file that cannot be trusted is named."""

    def named(*arguments: object) -> bool:
        try:
            return work(*arguments)
        except UntrustedFile as reason:
            raise UntrustedFile(f"{path} cannot be used: {reason}; backfilld verify --repair") from reason

    return named


async def rekey_bucket(
    days: CachedDaysInBucket, instruments: Sequence[Instrument] | None, watch: Watch = unwatched
) -> Rekeyed:
    """The same for the objects of a bucket: each is replaced by the tag that it had when it was read, and its manifest
    is made anew. Raises RemoteError."""
    found = Rekeyed()
    for instrument in await days.instruments() if instruments is None else instruments:
        listed, failures = await days.days(instrument), len(found.failures)
        for day in sorted(listed):
            await _attempt(found, day_key(instrument, day), partial(days.rekey, instrument, day))
            watch(Progress("rekey", f"{instrument} {day}", 1, len(listed)))
        # A manifest without the days that could not be read would lack them; catalog makes it when they can.
        if listed and len(found.failures) == failures:
            await days.replace_manifest(instrument)
    return found


async def _attempt(found: Rekeyed, name: str, work: Callable[[], Awaitable[bool]]) -> None:
    try:
        is_done = await work()
    except (ObjectRefused, DayLocked) as reason:
        found.failed(reason)
        return
    found.count(is_done=is_done)
    if is_done:
        log.info("day_rekeyed", object=name)
