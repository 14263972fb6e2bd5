"""Answers before they are sent: status, headers and body, in the exchange's words and in those of the network.

Owns the texts. Must not know when they are due, nor how they are delivered.
"""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from binance_simulator.faults import Fault
from binance_simulator.model import Market
from binance_simulator.query import Refusal
from binance_simulator.quotas import Interval, Quota
from binance_simulator.weights import BANNED, Charge

JSON_TYPE = b"application/json;charset=UTF-8"
HTML_TYPE = b"text/html"
_STREAMS = "Please use WebSocket Streams for live updates to avoid"
_OUR_ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. ``from_exchange`` is false for a page of the network, which knows nothing of weights.

    ``delivery`` is a fault in how the answer is sent, or None.
    """

    status: int
    body: bytes
    content_type: bytes = JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()
    from_exchange: bool = True
    delivery: Fault | None = None


def json_reply(document: Any, status: int = 200) -> Reply:
    """A JSON document."""
    return Reply(status, msgspec.json.encode(document))


def refusal_reply(refusal: Refusal) -> Reply:
    """The exchange's ``{"code", "msg"}``."""
    return error_reply(refusal.status, refusal.code, refusal.message)


def error_reply(status: int, code: int, message: str) -> Reply:
    """The exchange's ``{"code", "msg"}`` under a status."""
    return json_reply({"code": code, "msg": message}, status)


def html_reply(status: int, title: str, text: str) -> Reply:
    """A page that a web server or a content delivery network writes in place of the exchange."""
    head, body = f"<head><title>{title}</title></head>", f"<body><h1>{title}</h1><p>{text}</p></body>"
    page = f"<html>\r\n{head}\r\n{body}\r\n</html>\r\n"
    return Reply(status, page.encode(), HTML_TYPE, from_exchange=False)


def limit_reply(market: Market, weight: Quota, charged: Charge) -> Reply:
    """429 or 418 with Retry-After, in the words of spot or of the futures markets."""
    if charged.status == BANNED:
        message = _banned_message(market, charged.banned_until_ms)
    elif charged.limiter is not None and charged.limiter != weight:
        message = (
            f"Too many requests; current limit is {charged.limiter.limit} raw requests per {charged.limiter.interval}."
        )
    else:
        message = _refused_message(market, weight.limit, weight.interval)
    retry_after = (b"retry-after", str(charged.retry_after_s).encode())
    return replace(error_reply(charged.status, -1003, message), headers=(retry_after,))


def _refused_message(market: Market, limit: int, interval: Interval) -> str:
    if market is Market.SPOT:
        return (
            f"Too much request weight used; current limit is {limit} request weight per {interval}. "
            f"{_STREAMS} polling the API."
        )
    period = str(interval.unit).lower() if interval.num == 1 else f"{interval.num} {interval.unit}".lower()
    return f"Too many requests; current limit is {limit} requests per {period}. {_STREAMS} polling the API."


def _banned_message(market: Market, until_ms: int) -> str:
    if market is Market.SPOT:
        return f"Way too much request weight used; IP banned until {until_ms}. {_STREAMS} bans."
    return f"Way too many requests; IP({_OUR_ADDRESS}) banned until {until_ms}. {_STREAMS} bans."
