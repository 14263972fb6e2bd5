"""The certificate as text: JSON under the key ``backfilld`` of a Parquet file's metadata.

Owns the form and its bounds. A file is foreign input: what its certificate says is believed only within the bounds of
the exchange's ids and times, and only if it says nothing twice in different words.
"""

from itertools import pairwise
from typing import Any

import msgspec

from backfilld.core.day.certificate import Certificate
from backfilld.core.model import LATEST_MS, MAX_ID, IdRange
from backfilld.errors import StoreError

SCHEMA_VERSION = 3
METADATA_KEY = "backfilld"
"""The key of the file's metadata under which the certificate stands."""

MOST_BYTES = 64 << 20
"""The longest certificate that is read, in bytes. A day of ten million trades with a hole at every tenth takes half."""


class UntrustedFile(Exception):
    """The file cannot be trusted; the message says why."""


class ImpossibleDay(StoreError):
    """A day is not written: it has ids or times that the exchange cannot have given."""


class NewerSchema(Exception):
    """The certificate is of a version that this program does not know yet."""

    def __init__(self, version: int) -> None:
        super().__init__(f"schema version {version}")
        self.version = version


_read = msgspec.json.Decoder(Certificate)


def certificate_text(certificate: Certificate) -> str:
    """The certificate as it is to be written. Raises ImpossibleDay for what no reader would believe: a file that has it
    would be moved aside with all that it has besides."""
    if not _is_within_bounds(certificate):
        raise ImpossibleDay(f"the day {certificate.day} has ids or times that the exchange cannot have given")
    return encoded(certificate)


def encoded(certificate: Certificate) -> str:
    """The certificate as it stands in the file: its fields, and for other readers what follows from them."""
    derived: dict[str, Any] = {
        "first_id": certificate.first_id,
        "last_id": certificate.last_id,
        "rows": certificate.rows,
        "holes": certificate.holes,
        "sealed": certificate.sealed,
        "conflicts": certificate.conflicts,
        "previous_last_id": certificate.previous_last_id,
        "next_first_id": certificate.next_first_id,
    }
    fields: dict[str, Any] = msgspec.to_builtins(certificate)
    return msgspec.json.encode({"schema": SCHEMA_VERSION, **fields, **derived}).decode()


def decoded(text: bytes) -> Certificate:
    """The certificate in ``text``. Raises UntrustedFile, and NewerSchema for a newer version."""
    if len(text) > MOST_BYTES:
        raise UntrustedFile(f"its certificate has {len(text)} bytes, more than {MOST_BYTES}")
    if (usual := _usual(text)) is not None:
        return usual
    try:
        version = msgspec.json.decode(text, type=_Version).schema
        if version > SCHEMA_VERSION:
            raise NewerSchema(version)
        if version < SCHEMA_VERSION:
            raise UntrustedFile(f"it is of schema version {version}; this program reads version {SCHEMA_VERSION}")
        certificate = msgspec.json.decode(text, type=Certificate)
        if _is_within_bounds(certificate) and msgspec.json.decode(encoded(certificate)) == msgspec.json.decode(text):
            return certificate
    # ValueError covers what msgspec finds wrong, and text that is not UTF-8.
    except (ValueError, OverflowError, RecursionError) as error:
        raise UntrustedFile("its certificate cannot be read") from error
    raise UntrustedFile("its certificate contradicts itself")


def _usual(text: bytes) -> Certificate | None:
    """The certificate in a text that is byte for byte as this program writes it; None for any other."""
    try:
        certificate = _read.decode(text)
        is_ours = _is_within_bounds(certificate) and encoded(certificate).encode() == text
    except (ValueError, OverflowError, RecursionError):
        return None
    return certificate if is_ours else None


def _is_within_bounds(certificate: Certificate) -> bool:
    """Whether there are trades, and every id and time is one that the exchange could have given."""
    spans = certificate.spans
    ids = [each.ids for each in spans]
    known = [*certificate.absent, *certificate.conflicting, *(each.ids for each in certificate.suspected)]
    return (
        bool(spans)
        and all(left.last_id + 1 < right.first_id for left, right in pairwise(ids))
        and all(_is_possible(each) for each in (*ids, *known, *(each.ids for each in certificate.sources)))
        and all(0 <= time <= LATEST_MS for each in spans for time in (each.first_ms, each.last_ms))
    )


def _is_possible(ids: IdRange) -> bool:
    return ids.first_id >= 0 and ids.last_id <= MAX_ID


class _Version(msgspec.Struct, frozen=True):
    schema: int
