"""Is a day file what it says, and do neighbouring files join? Reads, and changes nothing.

Owns the rules of ``backfilld verify``. A finding is a value, so that a repair can act on it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec
import polars as pl

from backfilld.core.day.anomalies import Anomalies
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.division import astray
from backfilld.core.day.start import ONE_DAY
from backfilld.core.model import IdRange, Instrument
from backfilld.core.timespan import StoredSpan, joined
from backfilld.errors import DayLocked, StoreError
from backfilld.store.atomic import is_there
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.dayfile import spans_of
from backfilld.store.format.digest import RowsDigest
from backfilld.store.format.footer import NewerSchema, UntrustedFile
from backfilld.store.format.keys import NO_KEYS, KeyRing
from backfilld.store.joined_day import JoinedDay
from backfilld.store.journal import reading_journal

Kind = Literal[
    "unreadable", "refused", "locked", "unencrypted", "newer", "altered", "order", "duplicate", "time", "value", "hole",
    "certificate", "digest", "incomplete", "chain", "differs", "missing", "conflict",
]  # fmt: skip
"""What can be wrong: the file is none of ours, or not whole; the disk refuses to read it; no key opens it; it is plain
where encryption is on; a newer program wrote it; bytes changed; ids descend, or repeat; a time is of another day; a
price or quantity is not a number; ids are missing; the certificate contradicts the rows; the rows are others than were
sealed; a day is over and not sealed; two days do not join; the published file has other rows, or rows that are not
stored; the cache and the bucket have other rows."""

_FIELDS = (
    "rows",
    "first_id",
    "last_id",
    "spans",
    "opened",
    "closed",
    "absent",
    "suspected",
    "sources",
    "conflicting",
    "findings",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one day; ``ids`` are those concerned, where they are known."""

    instrument: Instrument
    day: date
    kind: Kind
    sentence: str
    ids: IdRange | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """A day file as it was found. ``facts`` is None where the certificate cannot be read."""

    instrument: Instrument
    day: date
    facts: Certificate | None
    rows: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def is_locked(self) -> bool:
        """Whether no key opens it."""
        return any(each.kind == "locked" for each in self.findings)


def inspect_day(
    path: Path, day: date, instrument: Instrument, journal: Path | None = None, *, keys: KeyRing = NO_KEYS
) -> Inspected | None:
    """Read and check all of a day file, a row group at a time; None if there is no such file (any more). What a
    ``journal`` adds to it counts as stored."""
    found, size = _Gathered(instrument, day), 0
    try:
        size = path.lstat().st_size
        with DayReader(path, day, instrument, keys) as reader:
            found.facts = reader.certificate
            if keys.writing is not None and reader.key is None:
                found.add("unencrypted", "it is not encrypted, and encryption is on: backfilld rekey encrypts it")
            _inspect(reader, found)
        if journal is not None and is_there(journal):
            _inspect_journal(path, journal, found, keys)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UntrustedFile as reason:
        found.add("unreadable", str(reason))
    except DayLocked as locked:
        found.add("locked", str(locked))
    except OSError as error:
        found.add("refused", f"the disk refuses it: {error.strerror}")
    except StoreError as reason:
        found.add("newer" if isinstance(reason.__cause__, NewerSchema) else "refused", str(reason))
    return Inspected(instrument, day, found.facts, found.rows, size, tuple(found.findings))


def chain_findings(days: Iterable[Inspected]) -> Iterator[Finding]:
    """What is wrong between the days of one instrument: those that do not join, and those over but not sealed."""
    known = [(each, each.facts) for each in sorted(days, key=lambda each: each.day) if each.facts is not None]
    stored = {each.day for each, _ in known}
    for (earlier, before), (later, after) in pairwise(known):
        yield from _joint(earlier, before, later, after)
        lack = _lack(earlier.day, before, stored)
        if lack is not None:
            yield Finding(earlier.instrument, earlier.day, "incomplete", f"the day is over and {lack}")


def _lack(day: date, facts: Certificate, stored: Collection[date]) -> str | None:
    """What keeps a day that is over from being sealed. A day out of the archive that was taken only to prove where its
    neighbour begins or ends may be open on its other side, where no day is stored."""
    is_seam = all(each.source.name == "archive" for each in facts.sources)
    if facts.holes:
        return "has holes"
    if not facts.closed and not (is_seam and day + ONE_DAY not in stored):
        return "is not proven to its end"
    if not facts.opened and not (is_seam and day - ONE_DAY not in stored):
        return "lacks its start"
    return None


def _joint(earlier: Inspected, before: Certificate, later: Inspected, after: Certificate) -> Iterator[Finding]:
    named = before.next_first_id
    if after.first_id <= before.last_id:
        ids = IdRange(after.first_id, before.last_id)
        said = f"its first id {after.first_id} is not above {before.last_id}, the last of {earlier.day}"
        yield Finding(later.instrument, later.day, "chain", said, ids)
    elif before.closed and named is not None and after.first_id < named:
        said = f"its first id is {after.first_id}, and {earlier.day} says that the next is {named}"
        yield Finding(later.instrument, later.day, "chain", said, IdRange(after.first_id, named - 1))
    elif before.closed and after.opened and (later.day - earlier.day).days == 1 and after.first_id != named:
        said = f"its first id is {after.first_id}, and {earlier.day} says that the next is {named}"
        ids = IdRange(before.last_id + 1, after.first_id - 1)
        yield Finding(later.instrument, later.day, "chain", said, ids)


@dataclass(slots=True)
class _Gathered:
    """What has been found of a file so far."""

    instrument: Instrument
    day: date
    facts: Certificate | None = None
    rows: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: Kind, sentence: str, ids: IdRange | None = None) -> None:
        self.findings.append(Finding(self.instrument, self.day, kind, sentence, ids))


def _inspect(reader: DayReader, found: _Gathered) -> None:
    if not reader.is_as_written():
        found.add("altered", "its bytes are not those that were written")
    rows = _Rows(found)
    for piece in reader.pieces():
        rows.add(piece)
    if not found.rows:
        found.add("certificate", "it has no rows")
    elif rows.ascending:
        found.findings += (
            Finding(found.instrument, found.day, *each)
            for each in misstatements(reader.certificate, rows.spans, rows.evidence.counts, rows.digest.hexdigest)
        )


def _inspect_journal(path: Path, journal: Path, found: _Gathered, keys: KeyRing) -> None:
    """Read every record. A journal that cannot be read is moved aside by the daemon, which fetches its rows again."""
    try:
        with reading_journal(journal, keys) as records:
            for each in records:
                each.read()
    except UntrustedFile as reason:
        found.add("unreadable", f"its journal: {reason}")
        return
    with JoinedDay(path, journal, found.day, found.instrument, None, keys) as joined_day:
        found.facts = joined_day.certificate
        found.rows = joined_day.certificate.rows


class _Rows:
    """Checks the rows as they come, and gathers what the certificate must say of them."""

    def __init__(self, found: _Gathered) -> None:
        self._found = found
        self._last = pl.Series("a", [], pl.Int64())
        self.ascending = True
        self.spans: list[StoredSpan] = []
        self.digest = RowsDigest()
        self.evidence = Anomalies()

    def add(self, piece: pl.DataFrame) -> None:
        """Take the next rows."""
        self._found.rows += piece.height
        self._check_order(pl.concat([self._last, piece["a"]]))
        self._check_values(piece)
        self._last = piece["a"][-1:]
        if self.ascending:
            self.spans = joined([*self.spans, *spans_of(piece)])
            self.digest.add(piece)
            self.evidence.add(piece)

    def _check_order(self, ids: pl.Series) -> None:
        steps = ids.diff()
        for kind, wrong, what in (
            ("order", steps < 0, "descends"),
            ("duplicate", steps == 0, "repeats the one before"),
        ):
            at = wrong.arg_true()
            if at.len():
                self.ascending = False
                first = int(ids[at[0]])
                said = f"id {first} {what}" + (f", and {at.len() - 1} more" if at.len() > 1 else "")
                self._found.add("order" if kind == "order" else "duplicate", said, IdRange(first, first))

    def _check_values(self, piece: pl.DataFrame) -> None:
        numbers = [pl.col(name).is_finite() & (pl.col(name) >= 0) for name in ("p", "q")]
        self._report("time", "T of another day", piece.filter(astray(piece, self._found.day)))
        self._report("value", "a price or quantity that is not a number", piece.filter(~pl.all_horizontal(numbers)))

    def _report(self, kind: Literal["time", "value"], what: str, rows: pl.DataFrame) -> None:
        if rows.height:
            ids = rows["a"]
            said = f"{rows.height} rows have {what}, such as id {ids[0]}"
            self._found.add(kind, said, IdRange(min(ids), max(ids)))


def misstatements(
    facts: Certificate, spans: Sequence[StoredSpan], odd: dict[str, int], digest: Callable[[], str]
) -> Iterator[tuple[Kind, str, IdRange | None]]:
    """What is otherwise in the certificate that these rows would get than in the one they have: the kind, the sentence
    and the ids of each finding. ``odd`` counts the anomalies of the rows."""
    true = Certificate(facts.day, tuple(spans), findings=odd).with_provenance(facts.provenance())
    for hole in true.holes:
        yield "hole", f"ids {hole.first_id} to {hole.last_id} are missing", hole
    for name in _FIELDS:
        named, proven = getattr(facts, name), getattr(true, name)
        if named != proven:
            said = f"the certificate says {name} = {_shown(named)}; the rows say {_shown(proven)}"
            yield "certificate", said, None
    found = digest() if true.sealed else None
    if facts.digest != found:
        said = f"the rows have the digest {found}, and the certificate says {facts.digest}"
        yield "digest", said, IdRange(true.first_id, true.last_id)


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()[:80]
