"""Days of the cache directory in a bucket and back: what is on disk, and what any ObjectStore has of it.

Owns the sequence of a push and of a pull, and the thread hop of the disk's part. The bytes in the bucket are those on
disk. What is compared is the digest in the certificate, never the tag or the size of an object.
"""

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl

from backfilld.adapters.bucket_days import OTHER_DIGEST, DaysInBucket, RemoteDay
from backfilld.core.frame import empty_trades
from backfilld.core.liveness import Waits
from backfilld.core.model import Instrument
from backfilld.core.replication import (
    PushNote,
    Standing,
    day_key,
    is_pushed,
    manifest_key,
    replaced_key,
    standing_of,
    unpushed_days,
)
from backfilld.errors import DayLocked, ObjectRefused
from backfilld.ports import Saved
from backfilld.ports.remote import ObjectStore, Pushed, StagedDay, StoredObject
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.keys import KeyRing
from backfilld.store.manager import BackfillCacheManager, manager_of
from backfilld.store.manifest import MAX_MANIFEST_BYTES, ManifestDay, decode_manifest, encode_manifest
from backfilld.store.push_notes import load_notes, save_notes
from backfilld.store.replica import (
    MAX_DAY_BYTES,
    SealedFile,
    admit,
    digest_of,
    digests,
    discard,
    sealed_file,
    sound_file,
    stage,
)
from backfilld.store.upkeep.rekeying import rekeyed_body

MOST_RACES = 8
"""How often a manifest is tried to be replaced while others replace it, too. It may lag: the next push takes it up."""


class CachedDaysInBucket(DaysInBucket):
    """The days of one cache directory and one bucket. Implements :class:`backfilld.ports.remote.RemoteDays`."""

    def __init__(
        self,
        objects: ObjectStore,
        url: str,
        cache_dir: Path,
        state_dir: Path,
        *,
        writes: bool = True,
        saw: Callable[[Instrument, date], None] = lambda _instrument, _day: None,
        encoding: Encoding | None = None,
        waits: Waits | None = None,
    ) -> None:
        super().__init__(objects, encoding, waits)
        self._url = url
        self._cache_dir = cache_dir
        self._state_dir = state_dir
        self._writes = writes
        self._saw = saw
        self._notes: dict[Instrument, dict[date, PushNote]] = {}
        self._conflicting: set[tuple[Instrument, date, str]] = set()
        self._fresh: dict[Instrument, dict[date, ManifestDay]] = {}

    async def probe(self) -> None:
        """Probe the bucket, for writing only if anything is to be pushed."""
        await self.objects.probe(writes=self._writes)

    async def unpushed(self, instrument: Instrument) -> Sequence[date]:
        """Compare what is on disk with what is noted."""

        def look() -> Sequence[date]:
            found = digests(self._manager(instrument))
            days = unpushed_days(found, self._notes_of(instrument))
            # A conflict is looked at again by the next process, and not by this one.
            return [day for day in days if (instrument, day, found[day]) not in self._conflicting]

        return await self._on_disk(look)

    async def push(self, instrument: Instrument, day: date) -> Pushed | None:
        """Look, then create; somebody else may be first, or our own answer may have been lost: then look again."""
        file = await self._on_disk(partial(sealed_file, self._manager(instrument), day))
        if file is None:
            return None
        there = await self._there(instrument, day)
        if there is None:
            made = await self._create(instrument, day, file)
            if made is not None:
                return self._noted(instrument, file, "pushed", RemoteDay(made, file.certificate, file.opened_by))
            there = await self._there(instrument, day)
        ours = _digest(file)
        theirs = there.certificate.digest if isinstance(there, RemoteDay) else None
        return self._noted(instrument, file, standing_of(ours, theirs), there)

    async def publish(self, instrument: Instrument) -> None:
        """Save the notes, and take new days up in the manifest, by its tag."""
        notes = dict(self._notes_of(instrument))
        await self._on_disk(partial(save_notes, self._state_dir, self._url, instrument, notes))
        fresh = self._fresh.pop(instrument, {})
        if fresh:
            try:
                await self._merge_manifest(instrument, fresh)
            except BaseException:
                self._fresh[instrument] = fresh | self._fresh.get(instrument, {})
                raise

    async def stage(self, instrument: Instrument, day: date) -> StagedDay | None:
        """Download, bounded, and check it in a file beside the day's place."""
        found = await self.objects.get(day_key(instrument, day), limit_bytes=MAX_DAY_BYTES)
        if found is None:
            return None
        try:
            staged = await self._on_disk(partial(stage, self._manager(instrument), day, found.body))
        except DayLocked as locked:
            raise ObjectRefused(str(locked)) from locked
        if found.attributes.get("digest", staged.record.digest) != staged.record.digest:
            discard(Path(staged.path))
            raise ObjectRefused(OTHER_DIGEST)
        return staged

    async def admit(self, instrument: Instrument, day: date, staged: StagedDay) -> Saved:
        """Rename the staged file, if it has all that is stored."""
        manager = self._manager(instrument)
        await self._on_disk(partial(admit, manager, day, staged))
        self._saw(instrument, day)
        self._notes_of(instrument)[day] = PushNote(staged.record.digest or "")
        file = str(manager.get_cache_path(day))
        return Saved(staged.record, file, staged.bytes, cached=0, duplicates=0, conflicts=_NO_CONFLICTS)

    # -- what the commands need besides

    async def replace(self, instrument: Instrument, file: SealedFile, examined: StoredObject) -> bool:
        """Put a day of the disk in the place of the object that was examined; False if that is not there any more. What
        was there stays under another key."""
        key = day_key(instrument, file.certificate.day)
        old = await self.objects.get(key, limit_bytes=MAX_DAY_BYTES)
        if old is None or old.object.etag != examined.etag:
            return False
        await self.objects.put_if_absent(replaced_key(key, examined.etag), old.body, old.attributes)
        made = await self.objects.put_if_match(key, file.body, _attributes(file), examined.etag)
        if made is not None:
            self._conflicting.discard((instrument, file.certificate.day, _digest(file)))
            self._noted(instrument, file, "pushed", RemoteDay(made, file.certificate, file.opened_by))
        return made is not None

    async def rekey(self, instrument: Instrument, day: date) -> bool:
        """Put a day in the bucket under the key by which files are written; whether that was to do. The next manifest
        has the day in both cases. Raises ObjectRefused, also for an object that others keep replacing, and DayLocked.
        """
        key, wanted = day_key(instrument, day), self.encoding.keys.writing
        for _ in range(MOST_RACES):
            there = await self.look(instrument, day)
            found = None
            if there is not None and there.opened_by == wanted:
                self.note_pushed(instrument, there)
                return False
            if there is not None:
                found = await self.objects.get(key, limit_bytes=MAX_DAY_BYTES)
            if there is None or found is None:
                return False
            if found.object.etag != there.object.etag:
                continue
            body = await self._on_disk(partial(rekeyed_body, found.body, day, instrument, self.encoding))
            made = await self.objects.put_if_match(key, body, found.attributes, found.object.etag)
            if made is not None:
                self.note_pushed(instrument, RemoteDay(made, there.certificate, wanted))
                return True
        raise ObjectRefused(f"{key}: others replace it again and again")

    async def here(self, instrument: Instrument) -> dict[date, str]:
        """The digest of every sealed day on disk."""
        return await self._on_disk(partial(digests, self._manager(instrument)))

    async def sound_file(self, instrument: Instrument, day: date) -> SealedFile | str:
        """The day on disk, if nothing is wrong with it; else why it is of no use."""
        return await self._on_disk(partial(sound_file, self._manager(instrument), day))

    async def replace_manifest(self, instrument: Instrument) -> None:
        """Put the days that were noted in the place of whatever the manifest names."""
        await self._merge_manifest(instrument, self._fresh.pop(instrument, {}), anew=True)

    def note_pushed(self, instrument: Instrument, remote: RemoteDay) -> None:
        """Take a day up in the next manifest."""
        line = ManifestDay.of(instrument, remote.certificate, remote.object.bytes, remote.object.etag, remote.opened_by)
        self._fresh.setdefault(instrument, {})[remote.certificate.day] = line

    def is_pushed(self, instrument: Instrument, day: date) -> bool:
        """Whether the day is noted as pushed, with the rows that it has on disk now. Reads the disk."""
        digest = digest_of(self._manager(instrument), day)
        return is_pushed(digest, self._notes_of(instrument).get(day))

    def notes(self, instrument: Instrument) -> dict[date, PushNote]:
        """What is noted of the instrument's days."""
        return dict(self._notes_of(instrument))

    # -- the parts

    async def _there(self, instrument: Instrument, day: date) -> RemoteDay | ObjectRefused | None:
        """The day's object, or why it cannot be one; None if there is none."""
        try:
            return await self.look(instrument, day)
        except ObjectRefused as refusal:
            return refusal
        except DayLocked as locked:
            return ObjectRefused(str(locked))

    async def _create(self, instrument: Instrument, day: date, file: SealedFile) -> StoredObject | None:
        return await self.objects.put_if_absent(day_key(instrument, day), file.body, _attributes(file))

    def _noted(
        self, instrument: Instrument, file: SealedFile, standing: Standing, there: RemoteDay | ObjectRefused | None
    ) -> Pushed:
        """What the push came to, remembered."""
        ours = _digest(file)
        if standing != "conflicted" and isinstance(there, RemoteDay):
            self._notes_of(instrument)[file.certificate.day] = PushNote(ours)
            self.note_pushed(instrument, there)
            return Pushed(standing, ours, len(file.body))
        self._conflicting.add((instrument, file.certificate.day, ours))
        theirs = (there.certificate.digest if isinstance(there, RemoteDay) else None) or "unreadable"
        self._notes_of(instrument)[file.certificate.day] = PushNote(ours, theirs)
        return Pushed("conflicted", ours, len(file.body), theirs)

    async def _merge_manifest(
        self, instrument: Instrument, fresh: dict[date, ManifestDay], *, anew: bool = False
    ) -> None:
        key = manifest_key(instrument)
        for _ in range(MOST_RACES):
            found = await self.objects.get(key, limit_bytes=MAX_MANIFEST_BYTES)
            known = (
                {}
                if found is None or anew
                else await self._on_disk(partial(_readable, found.body, instrument, self.encoding.keys))
            )
            body = await self._on_disk(partial(encode_manifest, (known | fresh).values(), self.encoding.keys))
            if found is None:
                done = await self.objects.put_if_absent(key, body, {})
            else:
                done = await self.objects.put_if_match(key, body, {}, found.object.etag)
            if done is not None:
                return

    def _notes_of(self, instrument: Instrument) -> dict[date, PushNote]:
        if instrument not in self._notes:
            self._notes[instrument] = load_notes(self._state_dir, self._url, instrument)
        return self._notes[instrument]

    def _manager(self, instrument: Instrument) -> BackfillCacheManager:
        return manager_of(self._cache_dir, instrument, self.encoding)


_NO_CONFLICTS: pl.DataFrame = empty_trades()


def _digest(file: SealedFile) -> str:
    return file.certificate.digest or ""


def _attributes(file: SealedFile) -> dict[str, str]:
    return {"digest": _digest(file), "rows": str(file.certificate.rows)}


def _readable(body: bytes, instrument: Instrument, keys: KeyRing) -> dict[date, ManifestDay]:
    """What a manifest names; nothing if it cannot be read: it is derived, and made anew."""
    try:
        return decode_manifest(body, instrument, keys)
    except ObjectRefused:
        return {}
