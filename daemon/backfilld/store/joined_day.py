"""One day as its file and its journal describe it together: each id once, whichever of the two was replaced last.
A day that is still being fetched may have a journal only.

Owns how the two are joined. The journal is read before the file, so rows that have left it since are in the file.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Self

import polars as pl

from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate, Provenance, Sourced
from backfilld.core.frame import empty_trades
from backfilld.core.ids import IdSet
from backfilld.core.merge import merge
from backfilld.core.model import Instrument
from backfilld.core.timespan import StoredSpan, joined
from backfilld.store.format.day_reader import DayReader, GroupEdges
from backfilld.store.format.dayfile import spans_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import NO_KEYS, Key, KeyRing
from backfilld.store.format.plain_footer import ROW_GROUP_ROWS
from backfilld.store.journal import Record, ascending, reading_journal
from backfilld.store.journal_records import Note

_NO_TRADES = empty_trades()
"""Making one takes a third of the time of opening a small day; nothing writes into it."""


@dataclass(slots=True)
class Tally:
    """What a splice has come across."""

    cached: int = 0
    duplicates: int = 0
    conflicts: pl.DataFrame = field(default_factory=lambda: _NO_TRADES)


class JoinedDay:
    """An open day file with the journal beside it, or one of the two. Raises what ``DayReader`` raises.

    A journal that cannot be read counts as none: the exchange brings its rows again.
    """

    def __init__(
        self,
        path: Path,
        journal: Path,
        day: date,
        instrument: Instrument | None,
        tally: Tally | None = None,
        keys: KeyRing = NO_KEYS,
    ) -> None:
        with ExitStack() as opening:
            self._records: Sequence[Record] = ()
            try:
                self._records = opening.enter_context(reading_journal(journal, keys))
            except UntrustedFile:
                self._records = ()
            self._reader: DayReader | None = None
            try:
                self._reader = opening.enter_context(DayReader(path, day, instrument, keys))
            except FileNotFoundError:
                if not any(each.spans for each in self._records):
                    raise
            self._in_file = self._reader.certificate if self._reader else blank(day, instrument)
            self.certificate = certificate_with(self._in_file, self._records)
            self.tally = tally or Tally()
            self._opened = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def rows_in_file(self) -> int:
        """How many trades the file has, without the journal."""
        return self._in_file.rows

    @property
    def key(self) -> Key | None:
        """The key that opened the file; None for a plain one, and without a file."""
        return self._reader.key if self._reader else None

    def checked(self) -> Certificate:
        """The certificate of a day whose file is byte for byte as it was written."""
        if self._reader:
            self._reader.checked()
        return self.certificate

    def row_groups(self, after_id: int = -1) -> Iterator[pl.DataFrame]:
        """The trades, about a row group at a time, in strictly ascending sequence of ``a`` throughout; of the file's
        those behind this id."""
        pieces = self._reader.row_groups(after_id) if self._reader else iter(())
        return spliced(pieces, self._journaled(), self.tally) if self._records else pieces

    @property
    def spans_in_file(self) -> tuple[StoredSpan, ...]:
        """The trades that the file has, without the journal."""
        return self._in_file.spans

    def edges(self) -> list[GroupEdges]:
        """The ends of each row group of the file."""
        return self._reader.edges() if self._reader else []

    def row_group(self, number: int) -> pl.DataFrame:
        """The trades of one row group of the file. Raises UntrustedFile without a file."""
        if self._reader is None:
            raise UntrustedFile("it is gone")
        return self._reader.row_group(number)

    def goes_on(self, new: pl.DataFrame) -> bool:
        """Whether the file has more than a row group, and the journal and ``new`` have later ids alone."""
        firsts = [*(each.spans[0].ids.first_id for each in self._records if each.spans), *new["a"][:1]]
        return self.rows_in_file > ROW_GROUP_ROWS and all(each > self._in_file.last_id for each in firsts)

    def beside_file(self) -> pl.DataFrame:
        """The trades of the journal that the file lacks, by id."""
        in_file = self._in_file.coverage
        pieces = (each.filter(~in_file.marked(each["a"])) for each in self._journaled())
        return pl.concat([empty_trades(), *pieces])

    def trades(self) -> pl.DataFrame:
        """All trades of a day whose file is as it was written."""
        self.checked()
        return pl.concat(self.row_groups(), rechunk=True)

    def _journaled(self) -> Iterator[pl.DataFrame]:
        for each in ascending(self._records):
            self.tally.duplicates += each.duplicates
            self.tally.conflicts = pl.concat([self.tally.conflicts, each.conflicts])
            yield each.trades


def spliced(stored: Iterator[pl.DataFrame], new: Iterator[pl.DataFrame], tally: Tally) -> Iterator[pl.DataFrame]:
    """Both streams, each of which ascends strictly, in sequence of ``a``; under one id the stored row stays. Only the
    stored pieces that ``new`` reaches into are merged, the others pass through."""
    waiting = next(new, empty_trades())
    for group in stored:
        tally.cached += group.height
        trades, last_id = group, group["a"][-1]
        while waiting.height and waiting["a"][0] <= last_id:
            upto = int(waiting["a"].search_sorted(last_id, side="right"))
            merged = merge(trades, waiting[:upto])
            tally.duplicates += merged.duplicates
            tally.conflicts = pl.concat([tally.conflicts, merged.conflicts])
            trades = merged.trades
            waiting = waiting[upto:] if upto < waiting.height else next(new, empty_trades())
        yield trades
    while waiting.height:
        yield waiting
        waiting = next(new, empty_trades())


def certificate_with(certificate: Certificate, records: Sequence[Record]) -> Certificate:
    """The certificate of a day file and these records together. What is odd in the rows of records is counted when the
    day file is written."""
    if not records:
        return certificate
    stored, spans = certificate.coverage, list(certificate.spans)
    for record in records:
        spans += _new_spans(record, stored)
        stored |= IdSet.of(each.ids for each in record.spans)
    known = noted(certificate.provenance(), records)
    digest = certificate.digest if len(spans) == len(certificate.spans) else None
    return replace(certificate, spans=tuple(joined(spans)), digest=digest).with_provenance(known)


def noted(known: Provenance, records: Sequence[Record]) -> Provenance:
    """What is known of a day, with what the notes add. The first that names the source of an id counts."""
    for note in (each.note for each in records):
        known = known.with_news(note.day_starts, note.absent, note.suspected)
    return replace(known, sources=(*known.sources, *(source for each in records for source in _sources(each))))


def _sources(record: Record) -> Iterator[Sourced]:
    return (Sourced(record.note.source, span.ids) for span in record.spans)


def _new_spans(record: Record, stored: IdSet) -> Sequence[StoredSpan]:
    """The spans of the rows that are not stored otherwise."""
    own = IdSet.of(each.ids for each in record.spans)
    if not own & stored:
        return record.spans
    if not own - stored:
        return ()
    trades = record.read()
    return spans_of(trades.filter(~stored.marked(trades["a"])))


def blank(day: date, instrument: Instrument | None) -> Certificate:
    """The certificate of a day without a file, to which records are added."""
    if instrument is None:
        return Certificate(day, ())
    return Certificate(day, (), market=str(instrument.market), symbol=instrument.symbol)


def with_addition(certificate: Certificate, addition: Addition) -> Certificate:
    """The certificate after one more record."""
    return certificate_with(certificate, [Record.of(Note.of(addition), addition.trades)])
