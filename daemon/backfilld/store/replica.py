"""Day files on their way to a bucket and from there: read whole, or checked and put in place.

Owns what a body out of a bucket must be before it enters the cache: a whole, sealed day of the right instrument, every
row of it checked, and no other row than those stored already. Synchronous: the adapter puts it on a thread.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl

from backfilld.core.day.certificate import Certificate
from backfilld.core.frame import empty_trades
from backfilld.core.merge import merge
from backfilld.errors import DayLocked, ObjectRefused, StoreError
from backfilld.ports.remote import StagedDay
from backfilld.store.atomic import replacing, temporary_name, translated
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import ENCRYPTED_MAGIC, Key
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.inspection import inspect_day
from backfilld.store.upkeep.rekeying import rekeyed_body

MAX_DAY_BYTES = 512 << 20
"""The largest day file that is taken from a bucket: a day of ten million trades has 66 MB."""


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A sealed day: its certificate, which has a digest, and its file, byte for byte; ``opened_by`` is the key of an
    encrypted one."""

    certificate: Certificate
    body: bytes
    opened_by: Key | None = None


def digests(manager: BackfillCacheManager) -> dict[date, str]:
    """The digest of every sealed day, as its certificate names it; days that cannot be read are left out."""
    found = ((day, digest_of(manager, day)) for day in manager.days())
    return {day: digest for day, digest in found if digest is not None}


def digest_of(manager: BackfillCacheManager, day: date) -> str | None:
    """The digest of a sealed day; None for a day that is not sealed or cannot be read."""
    known = manager.known(day)
    return None if known is None else known.digest


def sealed_file(manager: BackfillCacheManager, day: date) -> SealedFile | None:
    """The day's file, every byte as it was written; None if it is gone, not sealed, or not to be trusted. Raises
    StoreError and DayLocked."""
    path = manager.get_cache_path(day)
    try:
        with translated(path, "read"), DayReader(path, day, manager.instrument, manager.encoding.keys) as reader:
            certificate = reader.checked()
            body, opened_by = reader.body(), reader.key
    except UntrustedFile:
        return None
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return SealedFile(certificate, body, opened_by) if certificate.digest is not None else None


def sound_file(manager: BackfillCacheManager, day: date) -> SealedFile | str:
    """The day's file if it is sound and sealed; else the reason why it cannot be pushed."""
    assert manager.instrument is not None  # noqa: S101 - days without an instrument are in no bucket
    inspected = inspect_day(
        manager.get_cache_path(day), day, manager.instrument, keys=manager.encoding.keys.for_reading
    )
    if inspected is None:
        return "the cache does not have the day"
    if inspected.findings:
        return f"the cache's own file is wrong, {inspected.findings[0].sentence}"
    return sealed_file(manager, day) or "the day is not sealed in the cache"


def stage(manager: BackfillCacheManager, day: date, body: bytes) -> StagedDay:
    """Write the body beside the day's file and check all of it; a plain one is encrypted where encryption is on. Raises
    ObjectRefused, DayLocked for one that no key opens, and StoreError for the disk."""
    path = manager.get_cache_path(day)
    staged = path.with_name(temporary_name(path))
    try:
        with translated(staged, "write"):
            staged.parent.mkdir(parents=True, exist_ok=True)
            staged.write_bytes(body)
            certificate = _checked(staged, manager, day)
            if manager.encoding.keys.writing is not None and not body.endswith(ENCRYPTED_MAGIC):
                assert manager.instrument is not None  # noqa: S101 - as above
                body = rekeyed_body(body, day, manager.instrument, manager.encoding)
                staged.write_bytes(body)
        return StagedDay(str(staged), certificate, len(body))
    except BaseException:
        discard(staged)
        raise


def discard(staged: Path) -> None:
    """Delete a staged file that is not wanted."""
    with suppress(OSError):
        staged.unlink(missing_ok=True)


def admit(manager: BackfillCacheManager, day: date, staged: StagedDay) -> None:
    """Put a staged file in the day's place. Raises ObjectRefused if rows are stored of the day that it does not have,
    and StoreError; the day is then as before."""
    file = Path(staged.path)
    try:
        if manager.is_stored(day):
            with DayReader(file, day, manager.instrument, manager.encoding.keys) as reader:
                _refuse_other_rows(manager.row_groups(day), reader.row_groups())
        with replacing(manager.get_cache_path(day)) as temporary:
            file.replace(temporary)
    except UntrustedFile as error:
        raise ObjectRefused(str(error)) from error
    finally:
        discard(file)


def _checked(path: Path, manager: BackfillCacheManager, day: date) -> Certificate:
    assert manager.instrument is not None  # noqa: S101 - days without an instrument are in no bucket
    inspected = inspect_day(path, day, manager.instrument, keys=manager.encoding.keys.for_reading)
    if inspected is None:
        raise StoreError(f"{path} was deleted while it was checked")
    if inspected.is_locked:
        raise DayLocked(inspected.findings[0].sentence.replace(str(path), "it"))
    for finding in inspected.findings:
        raise (StoreError if finding.kind == "refused" else ObjectRefused)(finding.sentence)
    certificate = inspected.facts
    if certificate is None or certificate.digest is None or not certificate.sealed:
        raise ObjectRefused("it is not sealed")
    if (certificate.market, certificate.symbol) != (manager.instrument.market, manager.instrument.symbol):
        raise ObjectRefused("it does not say of which instrument it is")
    return certificate


def _refuse_other_rows(stored: Iterator[pl.DataFrame], pulled: Iterator[pl.DataFrame]) -> None:
    """Refuse unless every stored row is among the pulled ones, a few row groups in memory at a time."""
    window = empty_trades()
    for ours in stored:
        while window.is_empty() or window["a"][-1] < ours["a"][-1]:
            group = next(pulled, None)
            if group is None:
                break
            window = pl.concat([window, group])
        merged = merge(window, ours)
        if merged.conflicts.height or merged.trades.height != window.height:
            raise ObjectRefused("it lacks rows that are stored, or has others under their ids")
        window = window.filter(pl.col("a") > ours["a"][-1])
