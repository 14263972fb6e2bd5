"""Writing what is stored of a day anew under another key, or plain: its file, its journal and its report.

Owns the proof that nothing else changes: rows and certificate are read back and compared before a file takes the place
of the one before. A crash leaves each file under the old key or the new one, whole.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from backfilld.core.day.certificate import Certificate
from backfilld.core.frame import empty_trades
from backfilld.core.model import Instrument
from backfilld.core.replication import day_key
from backfilld.errors import DayDamaged, ObjectRefused
from backfilld.store.archive_import.archive_take import REPORT_SUFFIX, report_body
from backfilld.store.atomic import is_there, refusals, replacing, translated
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.dayfile import DayWriter, Encoding
from backfilld.store.format.digest import RowsDigest
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import KeyRing
from backfilld.store.format.tables import table_as_bytes, table_from_bytes
from backfilld.store.journal import reading_journal, remove_journal
from backfilld.store.manager import BackfillCacheManager


def rekey_day(manager: BackfillCacheManager, day: date) -> bool:
    """Put the day's file under the key by which the manager writes, and its journal into the file; whether that was to
    do. Raises UntrustedFile, DayLocked and StoreError; the day is then as before."""
    path = manager.get_cache_path(day)
    if not is_there(path):
        manager.append(day, empty_trades())
        return True
    with reading_journal(manager.journal_path(day), manager.encoding.keys) as records:
        has_journal = bool(records)
    is_rewritten = rekey_file(path, path, day, manager.instrument, manager.encoding)
    if has_journal:
        manager.append(day, empty_trades())
    else:
        remove_journal(manager.journal_path(day))
    return is_rewritten or has_journal


def rekey_file(source: Path, target: Path, day: date, instrument: Instrument | None, encoding: Encoding) -> bool:
    """Write the day file at ``source`` to ``target`` under the key by which the encoding writes, unless it is under
    that one. Raises as :func:`rekey_day` does."""
    with translated(source, "read"), DayReader(source, day, instrument, encoding.keys) as reader:
        if reader.key == encoding.keys.writing:
            return False
        before = reader.checked()
        with replacing(target) as temporary:
            digest = _copied(reader, before, temporary, instrument, encoding)
            with DayReader(temporary, day, instrument, encoding.keys) as written:
                if _digest(written.row_groups()) != digest or _content(written.certificate) != _content(before):
                    raise DayDamaged(f"{source}: under another key it would have other rows; it stays as it is")
    return True


def rekeyed_body(body: bytes, day: date, instrument: Instrument, encoding: Encoding) -> bytes:
    """The same for a body out of a bucket. Raises ObjectRefused, DayLocked, and StoreError for the temporary files."""
    with refusals(), TemporaryDirectory(prefix="backfilld-rekey-") as directory:
        source, target = Path(directory) / "before.parquet", Path(directory) / "after.parquet"
        source.write_bytes(body)
        try:
            return (target if rekey_file(source, target, day, instrument, encoding) else source).read_bytes()
        except UntrustedFile as reason:
            raise ObjectRefused(f"{day_key(instrument, day)}: {reason}") from reason


def rekey_report(path: Path, keys: KeyRing) -> bool:
    """The same for a report of conflicts."""
    report = table_from_bytes(report_body(path), keys, path)
    if report.key == keys.writing:
        return False
    body = table_as_bytes(report.frame, keys)
    if not table_from_bytes(body, keys, path).frame.equals(report.frame):
        raise DayDamaged(f"{path}: under another key it would have other rows; it stays as it is")
    with replacing(path) as temporary:
        temporary.write_bytes(body)
    return True


def journals_without_file(manager: BackfillCacheManager) -> list[Path]:
    """Journals without rows of days that have no file: they count for nothing."""
    stored = {manager.journal_path(day) for day in manager.days()}
    return sorted(set(manager.journals.glob("*.journal")) - stored)


def drop_journal(path: Path, keys: KeyRing) -> bool:
    """Delete a journal that counts for nothing, if a key opens it. Raises UntrustedFile, DayLocked and StoreError."""
    with reading_journal(path, keys):
        pass
    remove_journal(path)
    return True


def reports_in(directory: Path) -> list[Path]:
    """The reports of conflicts of an instrument."""
    return sorted(directory.glob(f"backfill_*.parquet{REPORT_SUFFIX}"))


def _digest(pieces: Iterator[pl.DataFrame], use: Callable[[pl.DataFrame], None] = lambda _: None) -> str:
    """The digest of the rows, each of which is also handed to ``use``."""
    digest = RowsDigest()
    for piece in pieces:
        digest.add(piece)
        use(piece)
    return digest.hexdigest()


def _copied(
    reader: DayReader, before: Certificate, temporary: Path, instrument: Instrument | None, encoding: Encoding
) -> str:
    """Write the rows to the temporary file; return their digest."""
    with DayWriter(temporary, before.day, instrument, encoding, digested=before.digest is not None) as writer:
        digest = _digest(reader.row_groups(), writer.add)
        writer.finish(before.provenance())
    return digest


def _content(certificate: Certificate) -> Certificate:
    """What must stay; an older file may not have named its instrument."""
    return replace(certificate, market=None, symbol=None)
