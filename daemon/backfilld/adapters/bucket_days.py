"""Reading the days of a bucket: their certificates, all of their rows, and the manifest of an instrument.

Changes nothing, and needs no cache.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import trio

from backfilld.adapters.threads import in_thread
from backfilld.core.day.certificate import Certificate
from backfilld.core.liveness import Waits
from backfilld.core.model import Instrument
from backfilld.core.replication import day_key, day_of_key, folder_of, manifest_key
from backfilld.errors import DayLocked, ObjectRefused
from backfilld.ports.remote import ObjectStore, StoredObject
from backfilld.store.atomic import refusals
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import Key
from backfilld.store.format.tail import TAIL_BYTES, certificate_in, missing_bytes
from backfilld.store.layout import instrument_of
from backfilld.store.manager import manager_of
from backfilld.store.manifest import MAX_MANIFEST_BYTES, ManifestDay, decode_manifest
from backfilld.store.replica import MAX_DAY_BYTES, stage

T = TypeVar("T")

OTHER_DIGEST = "its rows have another digest than its attributes name"


@dataclass(frozen=True, slots=True)
class RemoteDay:
    """A day in the bucket, as its certificate describes it; the rows are unread. ``opened_by`` is the key of an
    encrypted one."""

    object: StoredObject
    certificate: Certificate
    opened_by: Key | None = None


class DaysInBucket:
    """The days of any ObjectStore, to be read; the ``encoding`` has the keys of encrypted ones. ``waits`` shows those
    for the disk to whoever watches."""

    def __init__(self, objects: ObjectStore, encoding: Encoding | None = None, waits: Waits | None = None) -> None:
        self._waits = waits or Waits()
        self.objects = objects
        self.encoding = encoding or Encoding()

    async def look(self, instrument: Instrument, day: date) -> RemoteDay | None:
        """The certificate of a day in the bucket; None if it is not there. Raises ObjectRefused for an object without
        one that can be read, or of another day, and DayLocked for one that no key opens."""
        key = day_key(instrument, day)
        found = await self.objects.tail(key, tail_bytes=TAIL_BYTES)
        try:
            more = 0 if found is None else missing_bytes(found.body, found.object.bytes)
            if more:
                found = await self.objects.tail(key, tail_bytes=more)
            if found is None:
                return None
            certificate, opened_by = certificate_in(found.body, self.encoding.keys, key)
        except UntrustedFile as error:
            raise ObjectRefused(f"{key}: {error}") from error
        if (certificate.day, certificate.market, certificate.symbol) != (day, instrument.market, instrument.symbol):
            whose = f"{certificate.market}:{certificate.symbol} {certificate.day}"
            raise ObjectRefused(f"{key}: it is of another day or instrument, {whose}")
        return RemoteDay(found.object, certificate, opened_by)

    async def examine(self, instrument: Instrument, day: date) -> RemoteDay | None:
        """Download a day, and check all of it in a temporary directory; None if it is not there. Raises ObjectRefused
        for one that fails a check, and DayLocked for one that no key opens."""
        found = await self.objects.get(day_key(instrument, day), limit_bytes=MAX_DAY_BYTES)
        if found is None:
            return None
        with refusals(), TemporaryDirectory(prefix="backfilld-bucket-") as directory:
            manager = manager_of(Path(directory), instrument, self.encoding)
            try:
                staged = await self._on_disk(partial(stage, manager, day, found.body))
            except DayLocked as locked:
                raise DayLocked(f"{day_key(instrument, day)}: {locked}") from locked
        if found.attributes.get("digest", staged.record.digest) != staged.record.digest:
            raise ObjectRefused(OTHER_DIGEST)
        return RemoteDay(found.object, staged.record)

    async def days(self, instrument: Instrument) -> dict[date, StoredObject]:
        """The days that the bucket lists, with their objects."""
        listed = await self.objects.objects(folder_of(instrument))
        named = ((day_of_key(each.key), each) for each in listed)
        return {name[1]: each for name, each in named if name is not None and name[0] == instrument}

    async def instruments(self) -> list[Instrument]:
        """The instruments that have a folder in the bucket."""
        markets = [each for each in await self.objects.folders("") if each.startswith("market=")]
        folders = [folder for market in markets for folder in await self.objects.folders(market)]
        named = (instrument_of(Path(folder)) for folder in folders)
        return sorted(instrument for instrument in named if instrument is not None)

    async def manifest(self, instrument: Instrument) -> dict[date, ManifestDay] | None:
        """The days that the manifest names; None without a manifest. Raises ObjectRefused."""
        found = await self.objects.get(manifest_key(instrument), limit_bytes=MAX_MANIFEST_BYTES)
        if found is None:
            return None
        return await self._on_disk(partial(decode_manifest, found.body, instrument, self.encoding.keys))

    async def named(self, instrument: Instrument) -> dict[date, ManifestDay]:
        """The same; no days where there is no manifest that can be read: it is derived, and can be made anew."""
        with suppress(ObjectRefused):
            return await self.manifest(instrument) or {}
        return {}

    async def _on_disk(self, work: Callable[[], T]) -> T:
        with self._waits.wait("a file for the bucket, or from it,", trio.current_time()):
            return await in_thread(work)
