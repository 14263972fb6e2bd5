"""The manifest of an instrument: a table of its days in the bucket, so that a reader needs no list and no footers.

Derived from the certificates, replaced as a whole, and never the truth: the day object's own certificate is. Parquet
inside; its name does not end in .parquet, so that no pattern that names all day files matches it.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import polars as pl

from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument
from backfilld.core.replication import day_key
from backfilld.errors import DayLocked, ObjectRefused
from backfilld.store.format.footer import UntrustedFile, decoded, encoded
from backfilld.store.format.keys import NO_KEYS, Key, KeyRing
from backfilld.store.format.tables import table_as_bytes, table_from_bytes

MAX_MANIFEST_BYTES = 64 << 20
"""The largest manifest that is read: ten years have about 2 MB."""

_SCHEMA = pl.Schema(
    {
        "day": pl.Date(),
        "key": pl.String(),
        "bytes": pl.Int64(),
        "etag": pl.String(),
        "first_id": pl.Int64(),
        "last_id": pl.Int64(),
        "rows": pl.Int64(),
        "previous_last_id": pl.Int64(),
        "next_first_id": pl.Int64(),
        "digest": pl.String(),
        "key_id": pl.String(),
        "certificate": pl.String(),
    }
)


@dataclass(frozen=True, slots=True)
class ManifestDay:
    """One day in the bucket. ``key_id`` names the key of an encrypted object; ``certificate`` is that of the day, as
    text."""

    day: date
    key: str
    bytes: int
    etag: str
    first_id: int
    last_id: int
    rows: int
    previous_last_id: int | None
    next_first_id: int | None
    digest: str
    key_id: str | None
    certificate: str

    @property
    def lowest_start(self) -> int | None:
        """The lowest id that the day can begin with."""
        return None if self.previous_last_id is None else self.previous_last_id + 1

    @property
    def highest_start(self) -> int | None:
        """The highest id that a later day can begin with, if nothing is between."""
        return self.next_first_id

    @classmethod
    def of(
        cls, instrument: Instrument, certificate: Certificate, size: int, etag: str, opened_by: Key | None = None
    ) -> "ManifestDay":
        """The line of a sealed day."""
        return cls(
            day=certificate.day,
            key=day_key(instrument, certificate.day),
            bytes=size,
            etag=etag,
            first_id=certificate.first_id,
            last_id=certificate.last_id,
            rows=certificate.rows,
            previous_last_id=certificate.previous_last_id,
            next_first_id=certificate.next_first_id,
            digest=certificate.digest or "",
            key_id=None if opened_by is None else opened_by.id,
            certificate=encoded(certificate),
        )

    def decoded_certificate(self) -> Certificate:
        """The certificate. Raises UntrustedFile."""
        return decoded(self.certificate.encode())


def encode_manifest(days: Iterable[ManifestDay], keys: KeyRing = NO_KEYS) -> bytes:
    """The manifest as it is stored, one line per day, ascending; encrypted where day files are."""
    lines = [asdict(each) for each in sorted(days, key=lambda each: each.day)]
    return table_as_bytes(pl.DataFrame(lines, schema=_SCHEMA), keys)


def decode_manifest(body: bytes, instrument: Instrument, keys: KeyRing = NO_KEYS) -> dict[date, ManifestDay]:
    """The days of a manifest. Raises ObjectRefused for what is not a manifest of this instrument."""
    try:
        table = table_from_bytes(body, keys, Path(f"the manifest of {instrument}")).frame
        if table.schema != _SCHEMA:
            raise ObjectRefused(f"the manifest of {instrument} has other columns than a manifest")
        days = [ManifestDay(**row) for row in table.iter_rows(named=True)]
        for each in days:
            _check(each, instrument)
    except DayLocked as locked:
        raise ObjectRefused(str(locked)) from locked
    except (pl.exceptions.PolarsError, OSError, ValueError, UntrustedFile, pl.exceptions.PanicException) as error:
        raise ObjectRefused(f"the manifest of {instrument} cannot be read ({type(error).__name__})") from error
    return {each.day: each for each in days}


def _check(each: ManifestDay, instrument: Instrument) -> None:
    """A manifest comes from the bucket: it may name no object but the instrument's own days."""
    certificate = each.decoded_certificate()
    named = (certificate.day, certificate.market, certificate.symbol, certificate.digest)
    if named != (each.day, instrument.market, instrument.symbol, each.digest):
        raise ObjectRefused(f"the manifest of {instrument} has the certificate of another day at {each.day}")
    if each.key != day_key(instrument, each.day):
        raise ObjectRefused(f"the manifest of {instrument} names another object for {each.day}: {each.key}")
