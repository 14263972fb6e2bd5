"""Answers that no exchange would send: what a broken or hostile server does to a client.

Owns these bodies and headers. Each is a function of the fault and of the request's number, so that a seed repeats a
run. Must not decide when they are due, nor deliver them.
"""

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import msgspec

from binance_simulator.faults import Fault
from binance_simulator.model import INT64_MAX
from binance_simulator.replies import HTML_TYPE, JSON_TYPE, Reply, error_reply

_BOMB_BYTES = 2**30
"""What a bomb unpacks to: more than any client should take in, and not so much that a failed test kills its host."""

_BLOCK = b" " * 2**20
_GZIP_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
_FOREIGN_NAMES = 1500
_NESTING = 200_000
_LONG_TEXT = 400_000

Headers = tuple[tuple[bytes, bytes], ...]


def hostile_reply(fault: Fault, number: int) -> Reply | None:
    """The answer that stands in for the right one, or None for a fault that changes the right one."""
    make = _REPLIES.get(fault)
    return None if make is None else make(random.Random(number))


def hostile_headers(reply: Reply, fault: Fault | None, number: int) -> Reply:
    """The answer with the headers that the fault gives it, in place of those of the same name."""
    make = None if fault is None else _HEADERS.get(fault)
    if make is None:
        return reply
    made = make(random.Random(number))
    names = {name for name, _ in made}
    return replace(reply, headers=tuple(pair for pair in reply.headers if pair[0] not in names) + made)


def _bomb(dice: random.Random) -> Reply:
    codings = dice.choice((1, 2, 3))
    encoding = b", ".join([b"gzip"] * codings)
    return Reply(200, bomb(codings), JSON_TYPE, ((b"content-encoding", encoding),))


@cache
def bomb(codings: int) -> bytes:
    """A gigabyte of blanks, compressed so many times over."""
    # A block that is flushed whole can be repeated: the bytes of a long stream without its time.
    packer, blocks = zlib.compressobj(9, zlib.DEFLATED, -15), _BOMB_BYTES // len(_BLOCK)
    piece = packer.compress(_BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    checked = 0
    for _ in range(blocks):
        checked = zlib.crc32(_BLOCK, checked)
    packed = _GZIP_HEADER + piece * blocks + packer.flush() + struct.pack("<II", checked, _BOMB_BYTES % 2**32)
    for _ in range(codings - 1):
        packed = gzip.compress(packed, 9, mtime=0)
    return packed


def _huge_numbers(dice: random.Random) -> Reply:
    digits = "9" * dice.choice((19, 30, 400, 5000))
    row = f'{{"a":{digits},"p":"1e{digits}","q":"{digits}","f":{digits},"l":-{digits},"T":{digits},"m":1e999,"M":true}}'
    return Reply(200, f"[{row}]".encode())


def _lying_id(dice: random.Random) -> Reply:
    """One well-formed row with an id that cannot be."""
    number = dice.choice((INT64_MAX, 10**12, 2**53))
    trade = {"p": "1.00000000", "q": "1.00000000", "f": 1, "l": 1, "T": 1_767_225_600_000, "m": True, "M": True}
    return Reply(200, msgspec.json.encode([{"a": number} | trade]))


def _control_text(dice: random.Random) -> Reply:
    attack = "\nREADY=1\nMAINPID=1\nWATCHDOG=trigger\r\n\x1b]0;owned\x07\x1b[2J\x9b31m\u2028\u202e[link=file:///etc/passwd]x[/x]"
    length = dice.choice((1, 1, _LONG_TEXT // len(attack)))
    return error_reply(400, -1100, attack * length)


def _retry_after(dice: random.Random) -> Headers:
    values = ("9999999999", "999999999999", "9" * 400, "-5", "nan", "0", "soon", "1e9", "Fri, 31 Dec 9999 23:59:59 GMT")
    return ((b"retry-after", dice.choice(values).encode()),)


def _used_weight(dice: random.Random) -> Headers:
    value = dice.choice(("5000", "999999999", "9" * 5000, "-7", "NaN", "", "1.5")).encode()
    return ((b"x-mbx-used-weight", value), (b"x-mbx-used-weight-1m", value))


def _foreign_weights(dice: random.Random) -> Headers:
    names = [f"x-mbx-used-weight-{dice.randrange(10**9)}m".encode() for _ in range(_FOREIGN_NAMES)]
    return tuple((name, b"1") for name in names)


def _date(dice: random.Random) -> Headers:
    values = (
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        f"Wed, 01 Jan {dice.randrange(1900, 2300)} 00:00:00 GMT",
        "yesterday",
        "",
    )
    return ((b"date", dice.choice(values).encode()),)


def _charset(dice: random.Random) -> Headers:
    return ((b"content-type", b"application/json;charset=" + dice.choice((b"undefined", b"hex", b"utf-16", b"idna"))),)


def _absurd_limits(dice: random.Random) -> Reply:
    """An exchangeInfo without symbols whose limits cannot be."""
    limit = dice.choice((0, -5, 2**63, 10**400, 30))
    num = dice.choice((0, -1, 1, 10**9))
    limits = [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": num, "limit": "LIMIT"}
    ] * dice.choice((0, 1, 1, 20_000))
    body = msgspec.json.encode({"timezone": "UTC", "serverTime": 0, "rateLimits": limits, "symbols": []})
    return Reply(200, body.replace(b'"LIMIT"', str(limit).encode()))


def _nested(dice: random.Random) -> Reply:
    return Reply(200, (b"[" if dice.random() < 0.5 else b'[{"a":') * _NESTING)  # noqa: PLR2004


_ELSEWHERE: Headers = ((b"location", b"http://127.0.0.1:9/"),)
_REPLIES: dict[Fault, Callable[[random.Random], Reply]] = {
    Fault.GZIP_BOMB: _bomb,
    Fault.NESTED_BODY: _nested,
    Fault.HUGE_NUMBERS: _huge_numbers,
    Fault.LYING_ID: _lying_id,
    Fault.CONTROL_TEXT: _control_text,
    Fault.ABSURD_LIMITS: _absurd_limits,
    Fault.EMPTY_PAGE: lambda _: Reply(200, b"[]"),
    Fault.STATUS_302: lambda _: Reply(
        302, b"", HTML_TYPE, ((b"location", b"http://127.0.0.1:9/"),), from_exchange=False
    ),
    Fault.STATUS_404_HTML: lambda _: Reply(404, b"<html>404 Not Found</html>", HTML_TYPE, from_exchange=False),
    Fault.STATUS_400_TEXT: lambda _: Reply(400, b"Bad Request", b"text/plain", from_exchange=False),
    Fault.INVALID_SYMBOL: lambda _: error_reply(400, -1121, "Invalid symbol."),
    Fault.RETRY_AFTER: lambda _: error_reply(429, -1003, "Too much request weight used."),
    Fault.CHARSET_BAN: lambda _: replace(
        error_reply(418, -1003, "Way too much request weight used; IP banned."), headers=((b"retry-after", b"3600"),)
    ),
}
_HEADERS: dict[Fault, Callable[[random.Random], Headers]] = {
    Fault.RETRY_AFTER: _retry_after,
    Fault.USED_WEIGHT: _used_weight,
    Fault.FOREIGN_WEIGHTS: _foreign_weights,
    Fault.WRONG_DATE: _date,
    Fault.CHARSET: _charset,
    Fault.CHARSET_BAN: _charset,
}
