"""A whole plain day file in memory, checked without Arrow: is it as it was written, and do its pages decode to no more
than a row group can have?

Owns the short way alone, as :mod:`backfilld.store.format.plain_footer` does: only pages with headers as
:class:`DayWriter` has them written are read here.
"""

import hashlib
import os
import re
from datetime import date
from pathlib import Path

from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument
from backfilld.store.format.bounds import MAX_CHUNK_BYTES
from backfilld.store.format.digest import BLANK
from backfilld.store.format.ending import ENDING_BYTES
from backfilld.store.format.plain_footer import NUMBER, TAKEN, PlainFooter, footer_in, opened, plain_footer, signed

_START = len(b"PAR1")
_SIZES = rb"\x15" + TAKEN + rb"\x15" + TAKEN + rb"\x15" + NUMBER
_DICTIONARY = re.compile(rb"\x15\x04" + _SIZES + rb"<\x15" + NUMBER + rb"\x15\x00[\x11\x12]?\x00\x00", re.DOTALL)
_WIDE = rb"\x18\x08.{8}\x18\x08.{8}\x16\x00\(\x08.{8}\x18\x08.{8}"
_NARROW = rb"\x18\x01.\x18\x01.\x16\x00\(\x01.\x18\x01."
_VALUES = re.compile(
    rb"\x15\x00" + _SIZES + rb"\x1c\x15" + TAKEN + rb"\x15.\x15\x06\x15\x06\x1c(?:" + _WIDE + rb"|" + _NARROW
    + rb")\x11\x11\x00\x00\x00",
    re.DOTALL,
)  # fmt: skip
"""The headers of the two kinds of pages. They take the bytes before and after compression, and the number of values."""


def body_of(path: Path, most_bytes: int) -> bytes | None:
    """All of a regular file of at most so many bytes; None for any other."""
    try:
        with opened(path) as found:
            return os.pread(found[0], found[1], 0) if found is not None and found[1] <= most_bytes else None
    except OSError:
        return None


def certificate_of(body: bytes, day: date, instrument: Instrument | None) -> Certificate | None:
    """The certificate of a file of one row group; None where :class:`DayReader` has to look."""
    text = footer_in(body)
    footer = plain_footer(text) if text is not None else None
    if text is None or footer is None or len(footer.groups) != 1 or not _is_as_written(body, len(text), footer):
        return None
    certificate = footer.decoded(day, instrument)
    if certificate is None or certificate.rows != footer.rows or not _is_bounded(body, len(text), footer):
        return None
    return certificate


def _is_as_written(body: bytes, footer_bytes: int, footer: PlainFooter) -> bool:
    place = len(body) - ENDING_BYTES - footer_bytes + footer.digest_at
    whole = memoryview(body)
    found = hashlib.sha256(whole[:place])
    found.update(BLANK.encode())
    found.update(whole[place + len(BLANK) :])
    return found.hexdigest().encode() == footer.digest


def _is_bounded(body: bytes, footer_bytes: int, footer: PlainFooter) -> bool:
    """Whether the file is pages and nothing else, one of values for each column, none too large."""
    place = _START
    for chunk in footer.chunks():
        if chunk.start != place:
            return False
        decoded = 0
        if chunk.has_dictionary:
            dictionary = _DICTIONARY.match(body, place)
            if dictionary is None:
                return False
            decoded = signed(dictionary[1])
            place = dictionary.end() + signed(dictionary[2])
        values = _VALUES.match(body, place)
        if values is None or signed(values[3]) != chunk.values:
            return False
        decoded += signed(values[1])
        place = values.end() + signed(values[2])
        if place != chunk.stop or decoded > MAX_CHUNK_BYTES:
            return False
    return place == len(body) - ENDING_BYTES - footer_bytes
