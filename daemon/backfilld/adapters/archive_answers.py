"""Reading what the public archive answers: checksums, sizes, and what is not a file at all.

Owns the translation of its status codes, headers and pages into the project's errors. Pure: nothing is sent from here.
"""

import re
import string

import httpx

from backfilld.core.backfill.outcome import CLOSED_TO_US
from backfilld.core.text import plain
from backfilld.errors import ExchangeError, RequestRejected, TransientError, UnexpectedAnswer

MOST_CHECKSUM_BYTES = 4096
"""The longest checksum file that is read; the archive's have 98 bytes."""

_DIGITS = 64
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)")
_LENGTH = re.compile(r"[0-9]{1,15}")
_TRANSIENT = {403, 408, 425, 429}
"""403 is what the bucket says for hours at times, and the CDN when it is asked too much."""


def absent(answer: httpx.Response) -> bool:
    """Whether the file is not there, which means that it is not published yet."""
    return answer.status_code == httpx.codes.NOT_FOUND


def refusal_of(answer: httpx.Response, *, partial: bool = False) -> ExchangeError | None:
    """What an answer means that is not a file, by who can act; None for a file, or for the part that was asked for."""
    status = answer.status_code
    if status == httpx.codes.OK or (partial and status == httpx.codes.PARTIAL_CONTENT):
        return UnexpectedAnswer(f"{where(answer)} is a page and no file") if _is_page(answer) else None
    if status in _TRANSIENT or httpx.codes.is_server_error(status):
        return TransientError(f"{where(answer)}: {status}")
    if status == CLOSED_TO_US:
        return RequestRejected(f"{where(answer)}: {status}, the archive is closed to us here", status=status, code=None)
    if httpx.codes.is_redirect(status):
        elsewhere = plain(answer.headers.get("location", "nowhere"))
        reason = f"{where(answer)}: {status}, a redirect to {elsewhere}: not the base URL of the archive"
        return RequestRejected(reason, status=status, code=None)
    return RequestRejected(f"{where(answer)}: {status}: not the base URL of the archive", status=status, code=None)


def sha256_in(body: bytes, name: str, place: str) -> str:
    """The checksum that ``body``, the file at ``place``, names of the file ``name``. Raises UnexpectedAnswer."""
    if len(body) > MOST_CHECKSUM_BYTES:
        raise UnexpectedAnswer(f"{place} is not a checksum: it is longer than {MOST_CHECKSUM_BYTES:,} bytes")
    # Split by hand: a pattern with two runs of blanks takes cubic time on a hostile text.
    digest, _, rest = body.decode(errors="replace").strip().partition(" ")
    if len(digest) != _DIGITS or not set(digest) <= set(string.hexdigits):
        raise UnexpectedAnswer(f"{place} is not a checksum: it begins with {body[:60]!r}")
    found = rest.strip().removeprefix("*")
    if found != name:
        raise UnexpectedAnswer(f"{place} is the checksum of {plain(found, 120)}, not of {name}")
    return digest.lower()


def size_in(answer: httpx.Response) -> int:
    """The size of the file that a HEAD was answered for. Raises ExchangeError."""
    if refusal := refusal_of(answer):
        raise refusal
    length = answer.headers.get("content-length", "")
    if not _LENGTH.fullmatch(length):
        raise UnexpectedAnswer(f"{where(answer)} does not say its size")
    return int(length)


def resumed_at(answer: httpx.Response) -> int | None:
    """At which byte a partial answer begins, None if it does not say."""
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    return int(found[1]) if found else None


def where(answer: httpx.Response) -> str:
    """The URL that was asked."""
    return str(answer.request.url)


def _is_page(answer: httpx.Response) -> bool:
    return "html" in str(answer.headers.get("content-type", "")).lower()
