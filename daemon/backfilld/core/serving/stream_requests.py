"""What a client of the streams asks: the path it connects to, and the messages it sends.

Owns the syntax, and the replies. A name that is not served is refused: an acknowledgement is a promise here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from backfilld.core.model import Instrument, Market
from backfilld.core.serving.intervals import Interval, interval_named
from backfilld.errors import SettingsError

MOST_STREAMS = 1024
"""Names of one connection, as at the exchange."""

_PREFIXES = {
    "": Market.SPOT,
    "/market": Market.UM,
    "/public": Market.UM,
    "/um": Market.UM,
    "/um/market": Market.UM,
    "/um/public": Market.UM,
    "/cm": Market.CM,
    "/cm/market": Market.CM,
    "/cm/public": Market.CM,
}
_PATH = re.compile(r"(?P<prefix>(?:/[a-z]+)*?)(?P<kind>/ws|/stream/ws|/stream)(?P<rest>/.*)?")
_DIGITS = re.compile(r"\d+")
_LONGEST_ID = 36
_NAME = re.compile(r"([^@\s]{1,60})@(aggTrade|kline_([0-9]+[a-zA-Z])(?:@([+-]\d{2}:\d{2}))?)")

SERVED = "backfilld serves SYMBOL@aggTrade and, of spot, SYMBOL@kline_INTERVAL, in lower case, of what it follows"


@dataclass(frozen=True, slots=True)
class StreamName:
    """A stream: the trades of an instrument, or its candles of an interval."""

    text: str
    instrument: Instrument
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What the path of a connection says: its market, whether messages name their stream, the first names."""

    market: Market
    is_combined: bool
    names: tuple[str, ...] = ()


def parse_target(path: str) -> Target | None:
    """Read the path of a connection with its query; None for one that is none of the exchange's."""
    parts = urlsplit(path)
    match = _PATH.fullmatch(parts.path.rstrip("/"))
    if match is None or match["prefix"] not in _PREFIXES:
        return None
    market = _PREFIXES[match["prefix"]]
    rest = [unquote(name) for name in (match["rest"] or "").strip("/").split("/") if name]
    if match["kind"] == "/stream":
        listed = parse_qs(parts.query).get("streams", [""])[0]
        names = tuple(name for name in listed.split("/") if name)
        return None if rest else Target(market, is_combined=True, names=names)
    is_number = len(rest) == 1 and _DIGITS.fullmatch(rest[0])
    return Target(market, is_combined=match["kind"] == "/stream/ws", names=() if is_number else tuple(rest))


def parse_name(market: Market, text: str) -> StreamName | None:
    """The stream of that name; None if it is none that is served."""
    match = _NAME.fullmatch(text)
    if match is None or match[1] != match[1].lower():
        return None
    try:
        instrument = Instrument.parse(f"{market}:{match[1].upper()}")
    except SettingsError:
        return None
    if match[3] is None:
        return StreamName(text, instrument)
    interval = interval_named(match[3], match[4] or "0") if market is Market.SPOT else None
    return None if interval is None else StreamName(text, instrument, interval)


@dataclass(frozen=True, slots=True)
class Request:
    """A message of the client."""

    method: str
    params: Sequence[Any] = field(default_factory=tuple)
    id: int | str | None = None


class BadRequest(Exception):
    """A message that is answered with an error."""

    def __init__(self, code: int, text: str, request_id: int | str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.request_id = request_id


def parse_request(text: bytes) -> Request:
    """Read a client's message. Raises BadRequest."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(3, f"Invalid JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("method"), str):
        raise BadRequest(2, "Invalid request: missing field `method`")
    request_id = document.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str | None):
        raise BadRequest(2, "Invalid request: request ID must be an integer, a string or null")
    if isinstance(request_id, str) and len(request_id) > _LONGEST_ID:
        raise BadRequest(2, "Invalid request: request ID is too long")
    params = document.get("params") or []
    if not isinstance(params, list):
        raise BadRequest(2, "Invalid request: params must be an array", request_id)
    return Request(document["method"], params, request_id)


def names_of(request: Request, market: Market) -> list[StreamName]:
    """The streams that a SUBSCRIBE or an UNSUBSCRIBE names. Raises BadRequest unless all can be served."""
    found = []
    for text in request.params:
        name = parse_name(market, text) if isinstance(text, str) else None
        if name is None:
            raise BadRequest(2, f"Invalid request: {str(text)[:80]}: {SERVED}", request.id)
        found.append(name)
    return found


def result(value: Any, request_id: int | str | None) -> bytes:
    """The reply to a request that was carried out."""
    return msgspec.json.encode({"result": value, "id": request_id})


def refusal(error: BadRequest) -> bytes:
    """The reply to a request that was not."""
    return msgspec.json.encode({"error": {"code": error.code, "msg": str(error)}, "id": error.request_id})
