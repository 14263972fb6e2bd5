"""Whom the endpoint answers, and what it never does: the checks before anything of a request is looked at.

Owns the rules of Host, Origin, method, size, and of requests that need an account. A page of another site that makes a
browser ask this machine fails them: by a name that it let resolve to 127.0.0.1, by its Origin, or by its method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

MOST_URL_BYTES = 8192
MOST_HEADERS = 64
MOST_HEADER_BYTES = 16_384
METHODS = frozenset(("GET", "HEAD"))

_OF_PAGES = frozenset(("origin", "sec-fetch-site"))
"""Headers by which a browser says whose page asks; it sends each once."""

SIGNED = "backfilld serves public market data only; send signed requests to Binance"

_SIGNED_PREFIXES = ("/sapi/", "/papi/", "/wapi/")
_SIGNED_ENDPOINTS = frozenset(
    (
        "account",
        "accountConfig",
        "adlQuantile",
        "algoOrder",
        "allAlgoOrders",
        "allOrderList",
        "allOrders",
        "allPmAccountInfo",
        "apiReferral",
        "apiTradingStatus",
        "balance",
        "batchOrders",
        "commissionRate",
        "countdownCancelAll",
        "feeBurn",
        "forceOrders",
        "income",
        "leverage",
        "leverageBracket",
        "listenKey",
        "marginType",
        "multiAssetsMargin",
        "myAllocations",
        "myFilters",
        "myPreventedMatches",
        "myTrades",
        "openAlgoOrders",
        "openOrder",
        "openOrderList",
        "openOrders",
        "order",
        "orderAmendment",
        "orderList",
        "pmAccountInfo",
        "positionMargin",
        "positionRisk",
        "positionSide",
        "rateLimit",
        "sor",
        "symbolConfig",
        "userDataStream",
        "userTrades",
    )
)
"""The first word after the version of a path that belongs to an account."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request is refused: the status, the exchange's code or 0, a sentence for the client, a word for logs."""

    status: int
    code: int
    message: str
    reason: str


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request; ``headers`` have names in lower case."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]


def denial(head: Head, hosts: frozenset[str]) -> Denial | None:
    """Why this request is refused, None for one that is answered."""
    return too_large(head) or foreign(head.headers, hosts) or _not_a_reading(head)


def too_large(head: Head) -> Denial | None:
    """The bounds of an URL and of headers."""
    if len(head.path) + len(head.query) > MOST_URL_BYTES:
        return Denial(414, 0, f"the URL is longer than {MOST_URL_BYTES} bytes", "url")
    size = sum(len(name) + len(value) for name, value in head.headers)
    if len(head.headers) > MOST_HEADERS or size > MOST_HEADER_BYTES:
        return Denial(431, 0, f"there are more than {MOST_HEADERS} headers or {MOST_HEADER_BYTES} bytes", "headers")
    return None


def foreign(headers: Sequence[tuple[str, str]], hosts: frozenset[str]) -> Denial | None:
    """Whether a request came by another name than ours, or from the page of another site."""
    names = [value for name, value in headers if name == "host"]
    if len(names) != 1 or host_name(names[0]) not in hosts:
        return Denial(421, 0, "this Host is not served here; name it in api_hosts", "host")
    origins = [name for name, _ in headers if name in _OF_PAGES]
    if len(origins) > len(set(origins)) or not is_own_origin(dict(headers), hosts):
        return Denial(403, 0, "requests of other sites are refused", "origin")
    return None


def _not_a_reading(head: Head) -> Denial | None:
    given = dict(head.headers)
    if head.method not in METHODS:
        return Denial(405, 0, "only GET and HEAD are answered", "method")
    if given.get("content-length", "0") != "0" or "transfer-encoding" in given:
        return Denial(413, 0, "a request has no body here", "body")
    if is_signed(head.path, head.query):
        return Denial(403, -1002, SIGNED, "signed")
    return None


def host_name(host: str) -> str:
    """A Host header without its port, in lower case."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() and name else host.lower()


def is_own_origin(headers: Mapping[str, str], hosts: frozenset[str]) -> bool:
    """Whether a request was made by no page, or by one of this endpoint."""
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    scheme, colons, host = origin.partition("://")
    is_served = bool(colons) and scheme in {"http", "https"} and host_name(host) in hosts
    # Another port of this machine is another site, such as the page of a bot.
    return is_served and host.lower() == headers.get("host", "").lower()


def is_signed(path: str, query: str) -> bool:
    """Whether a request belongs to an account."""
    if any(name.lower() in {"signature", "listenkey"} for name, _ in parse_qsl(query, keep_blank_values=True)):
        return True
    plain = unquote(path)
    if plain.lower().startswith(_SIGNED_PREFIXES):
        return True
    words = [word for word in plain.split("/") if word]
    return any(word in _SIGNED_ENDPOINTS for word in words[2:3])
