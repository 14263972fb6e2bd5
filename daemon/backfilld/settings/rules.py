"""The rules of single values: instruments, hosts, URLs. Each returns the value as it is kept, or raises ValueError."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from backfilld.core.model import Instrument, Market
from backfilld.errors import SettingsError


def instrument_text(text: str) -> str:
    """The instrument as ``market:SYMBOL``. ``spot:btcusdt``, ``um:BTC/USDT`` and ``BTC/USDT`` (spot) are understood."""
    market, colon, symbol = text.partition(":")
    if not colon and "/" in text:
        market, symbol = Market.SPOT.value, text
    elif not colon:
        market, symbol = "", text
    symbol = symbol.replace("/", "").upper() if symbol.count("/") <= 1 else symbol
    if not market and re.fullmatch(r"\w{5,60}", symbol):
        raise ValueError(
            f"write market:SYMBOL with market one of {', '.join(Market)}; did you mean {Market.SPOT}:{symbol}?"
        )
    try:
        return str(Instrument.parse(f"{market.lower()}:{symbol}" if market else text))
    except SettingsError as error:
        raise ValueError(str(error)) from None


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_link_local(host: str) -> bool:
    """Whether a host is an address of the link alone."""
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False


def bucket_url(value: str) -> str:
    """The URL of a bucket, without a slash at its end. Raises ValueError with the rule."""
    parts = urlsplit(value)
    if "@" in value:
        raise ValueError("a bucket's URL has no user name and no password: credentials come from the environment")
    is_plain = not (parts.query or parts.fragment or re.search(r"[\s\\]", value))
    if parts.scheme not in {"s3", "gs", "az"} or not parts.netloc or not is_plain:
        raise ValueError("write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX")
    return value.rstrip("/")


def base_url(value: str) -> str:
    """A base URL without a slash at its end. Raises ValueError with the rule."""
    rule = "a base URL is http:// or https://, a host and perhaps a port, without a path"
    try:
        parts = urlsplit(value)
        host = (parts.hostname or "").encode("idna")
        good = parts.scheme in {"http", "https"} and host and parts.port != 0 and not re.search(r"[\s\\]", value)
    except ValueError:
        good = False
    if "@" in value:
        raise ValueError("a base URL has no user name and no password: they would stand in logs")
    if not good or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(rule)
    return value.rstrip("/")


def stream_url(value: str) -> str:
    """A stream address without a slash at its end. Raises ValueError with the rule."""
    rule = "a stream address is ws:// or wss://, a host, perhaps a port and a path such as /market"
    try:
        parts = urlsplit(value)
        host = (parts.hostname or "").encode("idna")
        good = parts.scheme in {"ws", "wss"} and host and parts.port != 0 and not re.search(r"[\s\\]", value)
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(rule)
    return value.rstrip("/")
