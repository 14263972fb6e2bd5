"""The days of one instrument as they are stored, in files and journals: read, and never changed.

Owns where a day is, and what is known of it. Synchronous: the adapter puts it on a thread.
"""

import datetime as dt
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY
from backfilld.core.model import Instrument
from backfilld.errors import DayDamaged, DayLocked, StoreError
from backfilld.store.atomic import is_there, translated
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import Key
from backfilld.store.format.plain_footer import plain_certificate
from backfilld.store.joined_day import JoinedDay, Tally
from backfilld.store.journal_records import has_first_record
from backfilld.store.layout import day_file_name, days_in, instrument_of, journal_directory, journal_name, journals_in


class StoredDays:
    """The day files of one instrument in ``directory``, and the journals beside them. A day that is still being fetched
    may have a journal only."""

    def __init__(
        self,
        directory: str | Path,
        instrument: Instrument | None = None,
        encoding: Encoding | None = None,
        journals: Path | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.instrument = instrument or instrument_of(self.directory.absolute())
        self.encoding = encoding or Encoding()
        self.journals = journals or journal_directory(self.directory)

    def get_cache_path(self, date: dt.date) -> Path:
        """Where the day's file is, whether it exists or not."""
        return self.directory / day_file_name(utc_day(date))

    def journal_path(self, day: dt.date) -> Path:
        """Where the journal of the day is, whether it exists or not."""
        return self.journals / journal_name(day)

    def days(self) -> list[dt.date]:
        """The days that have a file, or rows in a journal, ascending."""
        with translated(self.directory, "list"):
            filed = days_in(self.directory)
        with translated(self.journals, "list"):
            journals = journals_in(self.journals)
            alone = [day for day in journals.keys() - filed if has_first_record(journals[day])]
            return sorted([*filed, *alone]) if alone else filed

    def is_stored(self, day: dt.date) -> bool:
        """Whether the day has a file or a journal. Raises StoreError."""
        return is_there(self.get_cache_path(day)) or is_there(self.journal_path(day))

    def peek(self, day: dt.date) -> Certificate | None:
        """The certificate of the day, every byte of its file checked; None for a file that cannot be trusted, which
        stays where it is."""
        try:
            with self.reading(day) as reader:
                return reader.checked()
        except UntrustedFile:
            return None

    def facts(self, day: dt.date) -> Certificate:
        """The certificate of the day's file, its rows unread. Raises UntrustedFile, DayLocked, StoreError."""
        return self.opened(day)[0]

    def opened(self, day: dt.date) -> tuple[Certificate, Key | None]:
        """The same, and the key that opened the file; None for a plain one."""
        has_journal = is_there(self.journal_path(day))
        plain = None if has_journal else plain_certificate(self.get_cache_path(day), day, self.instrument)
        if plain is not None:
            return plain[0], None
        with self.reading(day) as reader:
            return reader.certificate, reader.key

    def may_be_locked(self, day: dt.date) -> bool:
        """Whether the day's file is encrypted and no key opens it, or the disk does not say."""
        try:
            self.facts(day)
        except DayLocked:
            return True
        except UntrustedFile:
            return False
        except StoreError as error:
            return isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError)
        return False

    def rows_in_file(self, day: dt.date) -> int:
        """How many rows the file of the day has, without its journal. Raises as ``facts`` does."""
        with self.reading(day) as reader:
            return reader.rows_in_file

    def known(self, day: dt.date) -> Certificate | None:
        """The certificate of a day, unchecked; None for one that cannot be read."""
        with suppress(UntrustedFile, StoreError, DayLocked):
            return self.facts(day)
        return None

    def nearest(self, day: dt.date) -> tuple[Certificate | None, Certificate | None]:
        """The certificates of the nearest stored days before and after ``day``; None where there is none to trust."""
        earlier, later = self.days_beside(day)
        return self.known(earlier) if earlier else None, self.known(later) if later else None

    def days_beside(self, day: dt.date) -> tuple[dt.date | None, dt.date | None]:
        """The nearest stored days before and after ``day``."""
        beside = day - ONE_DAY, day + ONE_DAY
        if all(is_there(self.get_cache_path(each)) for each in beside):
            # Among years of days a list of all would take longer than the rest.
            return beside
        days = self.days()
        at = bisect_left(days, day)
        later = at + 1 if at < len(days) and days[at] == day else at
        return days[at - 1] if at else None, days[later] if later < len(days) else None

    def row_groups(self, day: dt.date) -> Iterator[pl.DataFrame]:
        """The trades of the day, a row group at a time; none if nothing is stored of it. Raises StoreError."""
        if not self.is_stored(day):
            return
        try:
            with self.reading(day) as reader:
                yield from reader.row_groups()
        except UntrustedFile as error:
            raise self.damaged(day, error) from error

    @contextmanager
    def reading(self, day: dt.date, tally: Tally | None = None) -> Iterator[JoinedDay]:
        """Yield the open file of the day with its journal. Raises UntrustedFile, DayLocked and StoreError."""
        path, journal = self.get_cache_path(day), self.journal_path(day)
        with (
            translated(path, "read"),
            JoinedDay(path, journal, day, self.instrument, tally, self.encoding.keys) as reader,
        ):
            yield reader

    def damaged(self, day: dt.date, reason: UntrustedFile) -> DayDamaged:
        """The error for a file that turned out to be damaged."""
        return DayDamaged(f"{self.get_cache_path(day)} was damaged while in use: {reason}")


def utc_day(day: dt.date) -> dt.date:
    """The day, or the UTC day in which an instant falls; a naive datetime is taken for UTC."""
    if not isinstance(day, dt.datetime):
        return day
    return (day if day.tzinfo is None else day.astimezone(dt.UTC)).date()
