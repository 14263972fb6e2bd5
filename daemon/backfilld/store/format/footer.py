"""What a day file says of itself: the certificate, JSON under the key ``backfilld`` of the Parquet metadata.

Owns the schema versions, and how each is read. An older version is read as this one; a newer one is refused.
"""

from datetime import date
from typing import Any

import msgspec

from backfilld.core.day.certificate import Certificate, Provenance, Source, Sourced, Suspicion
from backfilld.core.model import IdRange, Instrument
from backfilld.core.timespan import StoredSpan

SCHEMA_VERSION = 2
METADATA_KEY = "backfilld"
"""The key of the file's metadata under which :class:`DayFacts` stand as JSON."""


class UntrustedFile(Exception):
    """The file cannot be trusted; the message says why."""


class NewerSchema(Exception):
    """The certificate is of a version that this program does not know yet."""

    def __init__(self, version: int) -> None:
        super().__init__(f"schema version {version}")
        self.version = version


class ChainFacts(msgspec.Struct, frozen=True):
    """The neighbours of the day's first and last id; None while unproven."""

    previous_last_id: int | None = None
    next_first_id: int | None = None


class SourceFacts(msgspec.Struct, frozen=True):
    """Where the rows of an inclusive id range came from: rest, archive (with the zip's sha256) or adopted."""

    source: str
    first_id: int
    last_id: int
    sha256: str | None = None


class SuspectedFacts(msgspec.Struct, frozen=True):
    """Ids that the exchange did not have at ``asked_ms``."""

    first_id: int
    last_id: int
    asked_ms: int


class DayFacts(msgspec.Struct, frozen=True):
    """What a day file says of itself.

    ``schema`` is the version it was written in; ``holes``, ``absent`` and ``conflicting`` are inclusive id ranges;
    ``opened`` and ``closed`` say whether first and last id are proven to be the day's; ``sealed`` that the day is
    complete and over; ``digest`` (of a sealed day) is that of :class:`backfilld.store.format.digest.RowsDigest`.
    """

    schema: int
    market: str | None
    symbol: str | None
    day: str
    first_id: int
    last_id: int
    rows: int
    holes: list[tuple[int, int]]
    opened: bool
    closed: bool
    sealed: bool
    chain: ChainFacts
    sources: list[SourceFacts]
    absent: list[tuple[int, int]]
    suspected: list[SuspectedFacts]
    conflicts: int
    conflicting: list[tuple[int, int]]
    findings: dict[str, int]
    digest: str | None

    def testimony(self) -> Provenance:
        """What the certificate tells besides the rows."""
        opened = {self.first_id} if self.opened else set()
        beyond = self.last_id + 1 if self.chain.next_first_id is None else self.chain.next_first_id
        return Provenance(
            day_starts=opened | ({beyond} if self.closed else set()),
            sources=tuple(
                Sourced(Source(each.source, each.sha256), IdRange(each.first_id, each.last_id)) for each in self.sources
            ),
            absent=_ranges(self.absent),
            suspected=tuple(Suspicion(IdRange(each.first_id, each.last_id), each.asked_ms) for each in self.suspected),
            conflicting=_ranges(self.conflicting),
        )

    def record(self, day: date, spans: tuple[StoredSpan, ...]) -> Certificate:
        """The record of a day that holds these spans, as this certificate proves it."""
        told = self.testimony()
        return Certificate(
            day, spans, self.opened, self.closed, told.absent, told.suspected, told.sources, told.conflicting,
            self.findings,
        )  # fmt: skip


def facts_of(record: Certificate, instrument: Instrument | None, digest: str | None) -> DayFacts:
    """The certificate of a day; the digest is left out of one that is not sealed."""
    return DayFacts(
        schema=SCHEMA_VERSION,
        market=None if instrument is None else str(instrument.market),
        symbol=None if instrument is None else instrument.symbol,
        day=record.day.isoformat(),
        first_id=record.first_id,
        last_id=record.last_id,
        rows=record.rows,
        holes=_pairs(record.holes),
        opened=record.opened,
        closed=record.closed,
        sealed=record.sealed,
        chain=ChainFacts(record.previous_last_id, record.next_first_id),
        sources=[
            SourceFacts(each.source.name, each.ids.first_id, each.ids.last_id, each.source.sha256)
            for each in record.sources
        ],
        absent=_pairs(record.absent),
        suspected=[SuspectedFacts(each.ids.first_id, each.ids.last_id, each.asked_ms) for each in record.suspected],
        conflicts=record.conflicts,
        conflicting=_pairs(record.conflicting),
        findings=record.findings,
        digest=digest if record.sealed else None,
    )


def encoded(facts: DayFacts) -> str:
    """The certificate as it stands in the file."""
    return msgspec.json.encode(facts).decode()


def decoded(text: bytes) -> DayFacts:
    """The certificate of this version or an older one. Raises UntrustedFile, and NewerSchema for a newer one."""
    try:
        version = msgspec.json.decode(text, type=_Version).schema
        if version > SCHEMA_VERSION:
            raise NewerSchema(version)
        if version == 1:
            return _upgraded(msgspec.json.decode(text, type=_FactsOf1))
        if version == SCHEMA_VERSION:
            return msgspec.json.decode(text, type=DayFacts)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise UntrustedFile("its metadata cannot be read") from error
    raise UntrustedFile(f"it is of schema version {version}, which never was")


class _Version(msgspec.Struct, frozen=True):
    schema: int


class _FactsOf1(msgspec.Struct, frozen=True):
    """Version 1: sources without a sha256, and nothing of absent ids, conflicts, chain and digest."""

    market: str | None
    symbol: str | None
    day: str
    first_id: int
    last_id: int
    rows: int
    holes: list[tuple[int, int]]
    opened: bool
    closed: bool
    sealed: bool
    sources: list[tuple[str, int, int]]


def _upgraded(old: _FactsOf1) -> DayFacts:
    known: dict[str, Any] = msgspec.structs.asdict(old)
    chain = ChainFacts(old.first_id - 1 if old.opened else None, old.last_id + 1 if old.closed else None)
    missing: dict[str, Any] = {
        "schema": 1,
        "chain": chain,
        "sources": [SourceFacts(*each) for each in old.sources],
        "absent": [],
        "suspected": [],
        "conflicts": 0,
        "conflicting": [],
        "findings": {},
        "digest": None,
    }
    return DayFacts(**known | missing)


def _pairs(ranges: tuple[IdRange, ...]) -> list[tuple[int, int]]:
    return [(each.first_id, each.last_id) for each in ranges]


def _ranges(pairs: list[tuple[int, int]]) -> tuple[IdRange, ...]:
    return tuple(IdRange(first, last) for first, last in pairs)
