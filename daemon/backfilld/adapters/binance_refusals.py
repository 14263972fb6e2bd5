"""Reading what Binance's REST API says beside its rows: used weight, the time, pauses and refusals.

Owns the translation of status codes, headers and error bodies into the project's values and errors, by the exchange's
own rules: 429 and 418 with Retry-After in whole seconds, error bodies ``{"code": int, "msg": str}``, used weight in
``X-MBX-USED-WEIGHT-<n><letter>`` headers of any case, server time in ``Date``. Every value is bounded here.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated

import httpx
import msgspec

from backfilld.adapters.answer import Answer
from backfilld.core.backfill.outcome import CLOSED_TO_US
from backfilld.core.model import EARLIEST_MS, LATEST_MS
from backfilld.core.text import plain
from backfilld.errors import ExchangeError, RateLimited, RequestRejected, TransientError
from backfilld.ports import Usage

LONGEST_PAUSE_S = 3 * 86_400.0
"""Binance's longest ban. A longer one that an answer names is not one of Binance's."""

REFUSAL_BYTES = 64 << 10
"""The largest body of a refusal that is read: Binance's have 200 bytes, pages of its CDN a few kB."""

MOST_USED_WEIGHTS = 16
"""Used-weight headers of an answer that are read: the exchange sends one per interval, two at most so far."""

_TRANSIENT_CODES = {-1000, -1001, -1003, -1006, -1007, -1008, -1016}
_USED_WEIGHT = re.compile(r"x-mbx-used-weight-([0-9]{1,3}[smhd])")
_NUMBER = re.compile(r"[0-9]{1,9}")
_SECONDS = re.compile(r"[0-9]+")
_DATE = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")
_ADDRESS = re.compile(r"(?<![\w.:])[0-9a-f:.]{3,45}(?![\w:])", re.IGNORECASE)
"""What may be an IP address; whether it is one, :mod:`ipaddress` knows."""


class _Refusal(msgspec.Struct):
    code: Annotated[int, msgspec.Meta(ge=-99_999, le=99_999)]
    msg: str = ""


_REFUSAL = msgspec.json.Decoder(_Refusal)


def usage_of(answer: Answer) -> Usage:
    """Used weight by interval, and the server's clock, from the headers of an answer."""
    named = ((name, value) for name, value in answer.headers.items() if name.startswith("x-mbx-"))
    found = ((_USED_WEIGHT.fullmatch(name), value) for name, value in named)
    used = [(match[1], int(value)) for match, value in found if match and _NUMBER.fullmatch(value)]
    return Usage(dict(used[:MOST_USED_WEIGHTS]), _date_ms(answer.headers.get("date", "")))


def pause_of(answer: Answer) -> RateLimited | None:
    """The pause that a 429 or 418 asks for, from its head alone: no body can take it away."""
    if answer.status not in {429, 418}:
        return None
    return _limited(answer, "", _retry_after_s(answer))


def refusal_in(answer: Answer) -> ExchangeError:
    """What an answer with another status than 200 means, by who can act: time, the governor, or the operator."""
    status, where = answer.status, answer.base
    text = _text_of(answer)
    refusal = _decoded_refusal(text)
    sentence = without_addresses(plain(f"{refusal.code} {refusal.msg}") if refusal else _kind(answer))
    if status in {429, 418}:
        named = [wait_s for wait_s in (_retry_after_s(answer), _ban_s(answer, text)) if wait_s is not None]
        return _limited(answer, sentence, max(named, default=None))
    if status in {403, 503} and refusal is None and "html" in _kind(answer):
        # The CDN's own page: it never reached the exchange, and no time is named.
        return RateLimited(f"{where}: {status} {sentence}, a page of the CDN", retry_after_s=None, blocked=True)
    if httpx.codes.is_server_error(status) or status in {403, 408} or (refusal and refusal.code in _TRANSIENT_CODES):
        return TransientError(f"{where}: {status} {sentence}")
    if refusal is None:
        reason = f"{where}: {status} {sentence} on {answer.path}: this is not a base URL of Binance's REST API"
        return RequestRejected(reason, status=status, code=None)
    if status == CLOSED_TO_US:
        sentence = f"{sentence}: this host is closed to us, name another one"
    return RequestRejected(
        f"{where}: {status} {sentence}" if status == CLOSED_TO_US else sentence, status=status, code=refusal.code
    )


def _limited(answer: Answer, sentence: str, wait_s: float | None) -> RateLimited:
    banned = answer.status == httpx.codes.IM_A_TEAPOT
    return RateLimited(f"{answer.base}: {answer.status} {sentence}".rstrip(), retry_after_s=wait_s, banned=banned)


def _text_of(answer: Answer) -> str:
    """The body as UTF-8, whatever charset it claims; empty if it cannot be unpacked."""
    body = answer.body(REFUSAL_BYTES)
    return "" if isinstance(body, ExchangeError) else body.decode(errors="replace")


def _decoded_refusal(text: str) -> _Refusal | None:
    try:
        return _REFUSAL.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _kind(answer: Answer) -> str:
    return plain(answer.headers.get("content-type", "an answer without a type").partition(";")[0], 80)


def without_addresses(text: str) -> str:
    """The text without IP addresses: bans name ours, and logs travel."""
    return _ADDRESS.sub(lambda match: "<address>" if _is_address(match[0]) else match[0], text)


def _is_address(text: str) -> bool:
    try:
        ip_address(text.rstrip("."))
    except ValueError:
        return False
    return True


def _retry_after_s(answer: Answer) -> float | None:
    """Retry-After, whole seconds, at most LONGEST_PAUSE_S; None for any other text."""
    text = answer.headers.get("retry-after", "").strip()
    if not _SECONDS.fullmatch(text):
        return None
    # Python refuses to read thousands of digits.
    return min(LONGEST_PAUSE_S, float(text)) if len(text) <= len("999999999") else LONGEST_PAUSE_S


def _ban_s(answer: Answer, text: str) -> float | None:
    """Seconds until the instant in ``banned until``, which is the server's time."""
    until, server_ms = _BANNED_UNTIL.search(text), _date_ms(answer.headers.get("date", ""))
    if until is None or server_ms is None:
        return None
    return min(LONGEST_PAUSE_S, max(0.0, (int(until[1]) - server_ms) / 1000))


@lru_cache(maxsize=4)
def _date_ms(date: str) -> int | None:
    """The server's time by its ``Date``; None for one that is not a date of our time. It is the same for all answers of
    a second."""
    found = _DATE.fullmatch(date)
    if found is None or found[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        instant = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
        )
    except ValueError:
        return None
    ms = int(instant.timestamp()) * 1000
    return ms if EARLIEST_MS <= ms <= LATEST_MS else None
