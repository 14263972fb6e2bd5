"""The days whose rows wait in a journal: what the file and the journal of each have, and since when.

Owns the choice between an append and a rewrite, for one process that has the cache to itself. Synchronous.
"""

import math
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import polars as pl
import structlog

from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.saving import has_grown, is_rewrite_due, turn_of
from backfilld.core.frame import empty_trades
from backfilld.core.ids import IdSet
from backfilld.core.model import Instrument
from backfilld.errors import StoreError
from backfilld.store.atomic import is_there, move_aside
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import KeyRing
from backfilld.store.joined_day import blank, with_addition
from backfilld.store.journal import JournalWriter, reading_journal
from backfilld.store.journal_records import Note
from backfilld.store.layout import Stamp, stamp_of
from backfilld.store.manager import Appended, BackfillCacheManager
from backfilld.store.twins import Twins

Key = tuple[Instrument | None, date]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Day:
    """A day as file and journal have it together. ``journal_bytes`` are those that this process knows to be whole
    records, of the ``journal_size`` that stand on disk, None for no journal. ``turn_s`` is when the file is to be
    rewritten, None while nothing is in the journal. A day is over if later trades are known: the end of its round is
    soon enough."""

    stamp: Stamp | None
    certificate: Certificate
    journal_rows: int = 0
    journal_bytes: int = 0
    journal_size: int | None = None
    turn_s: float | None = None
    is_over: bool = False

    @property
    def file_rows(self) -> int:
        """The rows that are in the file."""
        return self.certificate.rows - self.journal_rows

    def turn_with(self, name: str, journal_rows: int, now_s: float, save_s: float) -> float:
        """When to rewrite the file if the journal has ``journal_rows``."""
        turn_s = turn_of(name, now_s, save_s) if self.turn_s is None else self.turn_s
        return min(turn_s, now_s) if has_grown(journal_rows, self.file_rows) and not math.isinf(save_s) else turn_s

    def takes(self, trades: pl.DataFrame, save_s: float) -> bool:
        """Whether the rows may wait in the journal. Rows of which an id is stored are compared with it, in a
        rewrite."""
        if is_rewrite_due(self.file_rows, save_s, is_over=self.is_over):
            return False
        return not self.certificate.coverage & IdSet.of_ids(trades["a"])


class WaitingDays:
    """Saves days, by an append to the journal where that will do. ``save_s`` is how long a row of today may wait
    there; it is infinite if other programs read the files only after the process has ended."""

    def __init__(self, save_s: float) -> None:
        self._save_s = save_s
        self._twins = Twins() if 0 < save_s < math.inf else None
        self._days: dict[Key, _Day] = {}
        self._turns: dict[tuple[Instrument, date], float] = {}

    def due_at(self) -> Mapping[tuple[Instrument, date], float]:
        """When the file of each day is to be rewritten that has rows in its journal; infinite if the end of a round is
        soon enough."""
        return self._turns

    def append(self, manager: BackfillCacheManager, addition: Addition, now_s: float) -> Appended:
        """Save this in the journal or in the file."""
        day, trades = addition.day, addition.trades
        known = self._known(manager, day)
        if known is None and trades.is_empty():
            return self.rewrite(manager, addition)
        known = known or _Day(None, blank(day, manager.instrument))
        earlier, later = self._beside(manager, day)
        after = with_addition(known.certificate, addition).proven_beside(earlier, later)
        is_over = later is not None or any(start.first_id > after.last_id for start in addition.day_starts)
        known = replace(known, is_over=is_over)
        if not known.takes(trades, self._save_s):
            return self.rewrite(manager, addition)
        is_news = bool(trades.height) or after != known.certificate
        if is_news and after.sealed:
            return self.rewrite(manager, addition)
        if is_news:
            proven = replace(addition, day_starts=frozenset(after.proven_starts()))
            self._note(manager, known, proven, after, now_s)
        return Appended(after, 0, known.certificate.rows, 0, empty_trades(), is_in_journal=True)

    def save(self, manager: BackfillCacheManager, addition: Addition) -> Appended:
        """Save this in the file, with all that waits; nothing is written if the file says it all already."""
        day = addition.day
        known = self._known(manager, day)
        is_written = known is not None and known.turn_s is None and not is_there(manager.journal_path(day))
        if known is not None and is_written and addition.trades.is_empty():
            before = known.certificate
            if with_addition(before, addition).proven_beside(*self._beside(manager, day)) == before:
                return Appended(before, 0, before.rows, 0, empty_trades(), is_in_journal=True)
        return self.rewrite(manager, addition)

    def rewrite(self, manager: BackfillCacheManager, addition: Addition) -> Appended:
        """Put this, and all that waits, into the file of the day."""
        day, absence = addition.day, addition.absence
        self.forget(manager, day)
        with self._giving_way():
            done = manager.append(
                day,
                addition.trades,
                addition.day_starts,
                source=addition.source,
                absent=absence.absent,
                suspected=absence.suspected,
                twins=self._twins,
            )
        if not done.record.sealed:
            self._keep(manager.instrument, day, _Day(stamp_of(manager.get_cache_path(day)), done.record))
        return done

    def loaded(self, manager: BackfillCacheManager, day: date, now_s: float) -> None:
        """What an earlier process left in the journal of a day is due now, if the day is not over."""
        self.forget(manager, day)
        if is_there(manager.journal_path(day)) and (known := self._known(manager, day)) is not None:
            turn_s = math.inf if math.isinf(self._save_s) else now_s
            is_over = not known.certificate.sealed and manager.days_beside(day)[1] is not None
            self._keep(manager.instrument, day, replace(known, turn_s=turn_s, is_over=is_over))

    def leave(self, manager: BackfillCacheManager) -> None:
        """The days of this instrument do not go on."""
        if self._twins is not None:
            self._twins.drop_in(manager.directory)

    def forget(self, manager: BackfillCacheManager, day: date) -> None:
        """Look at the files again before the next save."""
        self._keep(manager.instrument, day, None)

    @contextmanager
    def _giving_way(self) -> Iterator[None]:
        """A disk that is full has room again without the twins."""
        try:
            yield
        except StoreError:
            if self._twins is not None:
                self._twins.give_way()
            raise

    def _keep(self, instrument: Instrument | None, day: date, known: _Day | None) -> None:
        """What is known of a day, None for nothing. Turns stand apart: they are looked at between any two messages."""
        self._days.pop((instrument, day), None)
        if instrument is not None:
            self._turns.pop((instrument, day), None)
        if known is not None:
            self._days[instrument, day] = known
            if instrument is not None and known.turn_s is not None:
                self._turns[instrument, day] = math.inf if known.is_over else known.turn_s

    def _beside(self, manager: BackfillCacheManager, day: date) -> tuple[Certificate | None, Certificate | None]:
        """The certificates of the nearest stored days; the journal of one that this process writes is not read."""
        earlier, later = manager.days_beside(day)
        return self._certificate(manager, earlier), self._certificate(manager, later)

    def _certificate(self, manager: BackfillCacheManager, day: date | None) -> Certificate | None:
        if day is None:
            return None
        known = self._days.get((manager.instrument, day))
        is_same = known is not None and known.stamp == stamp_of(manager.get_cache_path(day))
        return known.certificate if known is not None and is_same else manager.known(day)

    def _known(self, manager: BackfillCacheManager, day: date) -> _Day | None:
        """The day, read again if the file or the journal is another one than this process wrote or read last."""
        stamp = stamp_of(manager.get_cache_path(day))
        known = self._days.get((manager.instrument, day))
        journal = manager.journal_path(day)
        if known is not None and known.stamp == stamp and known.journal_size == _size_of(journal):
            return known
        _quarantine_unreadable(journal, manager.encoding.keys)
        certificate = manager.record(day) if manager.is_stored(day) else None
        if certificate is None:
            return None
        rows = certificate.rows - manager.rows_in_file(day)
        return _Day(stamp, certificate, rows, journal_size=_size_of(journal))

    def _note(
        self, manager: BackfillCacheManager, known: _Day, addition: Addition, after: Certificate, now_s: float
    ) -> None:
        day = addition.day
        path, keys = manager.journal_path(day), manager.encoding.keys
        with self._giving_way(), JournalWriter(path, known.journal_bytes, keys) as journal:
            journal.append(Note.of(addition), addition.trades)
            size = journal.size_bytes
        rows = known.journal_rows + addition.trades.height
        noted = replace(
            known,
            certificate=after,
            journal_rows=rows,
            journal_bytes=size,
            journal_size=size,
            turn_s=known.turn_with(str(manager.instrument), rows, now_s, self._save_s),
        )
        self._keep(manager.instrument, day, noted)


def _size_of(path: Path) -> int | None:
    """Of a regular file; None for what is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _quarantine_unreadable(path: Path, keys: KeyRing) -> None:
    """Move aside a journal that this version cannot read: it would keep the day from being saved. The exchange brings
    its rows again."""
    try:
        with reading_journal(path, keys):
            return
    except UntrustedFile as reason:
        moved = move_aside(path)
        log.warning("journal_quarantined", file=str(path), moved_to=moved.name, reason=str(reason))
