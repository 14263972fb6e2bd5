"""What a client of the streams asks: the path it connects to, and the messages it sends.

Owns the syntax and the replies to it. Pure; must not know who is subscribed to what.
"""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from binance_simulator.model import Market

_PATH = re.compile(r"(?P<prefix>/[a-z]+)??(?P<kind>/ws|/stream/ws|/stream)(?P<rest>/.*)?")
_DIGITS = re.compile(r"\d+")
_LONGEST_ID = 36


@dataclass(slots=True)
class StreamRecord:
    """What the exchange saw of a connection."""

    number: int
    market: Market
    path: str
    opened_ms: int
    names: set[str] = field(default_factory=set)
    requests: int = 0
    pongs: int = 0
    sent: int = 0
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What the path of a connection says: its prefix, whether messages name their stream, the first streams."""

    prefix: str
    is_combined: bool
    names: tuple[str, ...] = ()


def parse_target(path: str) -> Target | None:
    """Read ``/ws/a@aggTrade/b@aggTrade``, ``/ws``, ``/ws/1``, ``/stream?streams=a/b``, ``/stream`` and ``/stream/ws``,
    each also below a prefix such as ``/market``. None for any other path."""
    parts = urlsplit(path)
    match = _PATH.fullmatch(parts.path.rstrip("/") or "/")
    if match is None:
        return None
    rest = [unquote(name) for name in (match["rest"] or "").strip("/").split("/") if name]
    if match["kind"] == "/stream":
        if rest:
            return None
        listed = parse_qs(parts.query).get("streams", [""])[0]
        return Target(match["prefix"] or "", is_combined=True, names=tuple(filter(None, listed.split("/"))))
    names = () if len(rest) == 1 and _DIGITS.fullmatch(rest[0]) else tuple(rest)
    return Target(match["prefix"] or "", is_combined=match["kind"] == "/stream/ws", names=names)


@dataclass(frozen=True, slots=True)
class Request:
    """A message of the client."""

    method: str
    params: list[Any] = field(default_factory=list)
    id: int | str | None = None


class BadRequest(Exception):
    """A message that is answered with an error."""

    def __init__(self, code: int, text: str, request_id: int | str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.request_id = request_id


def parse_request(text: bytes) -> Request:
    """Read a client's message. Raises BadRequest with the exchange's code and sentence."""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BadRequest(3, f"Invalid JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("method"), str):
        raise BadRequest(2, "Invalid request: missing field `method`")
    request_id = document.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str | None):
        raise BadRequest(2, "Invalid request: request ID must be an integer, a string or null")
    if isinstance(request_id, str) and len(request_id) > _LONGEST_ID:
        raise BadRequest(2, "Invalid request: request ID is too long")
    params = document.get("params", [])
    if not isinstance(params, list):
        raise BadRequest(2, "Invalid request: params must be an array", request_id)
    return Request(document["method"], params, request_id)


def names_of(request: Request) -> tuple[str, ...]:
    """The streams that a SUBSCRIBE or UNSUBSCRIBE names. Raises BadRequest unless all are strings."""
    if not all(isinstance(name, str) for name in request.params):
        raise BadRequest(2, "Invalid request: invalid type, expected a string", request.id)
    return tuple(request.params)


def result(value: Any, request_id: int | str | None) -> bytes:
    """The answer to a request that was carried out."""
    return msgspec.json.encode({"result": value, "id": request_id})


def refusal(error: BadRequest) -> bytes:
    """The answer to a request that was not."""
    return msgspec.json.encode({"error": {"code": error.code, "msg": str(error)}, "id": error.request_id})
