"""The rules of single values: instruments, hosts, URLs. Each returns the value as it is kept, or raises ValueError."""

import re
from collections.abc import Container
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from backfilld.core.model import Instrument, Market
from backfilld.core.text import plain
from backfilld.errors import SettingsError

_LEVELS = {"zstd": (1, 22), "gzip": (1, 9)}


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


def instrument_of(given: object) -> Instrument:
    """The instrument, or the one that a text names in any of these spellings. Raises SettingsError."""
    if isinstance(given, Instrument):
        return given
    if not isinstance(given, str):
        raise SettingsError(f"{plain(repr(given), 60)} is not an instrument: give text such as 'spot:BTCUSDT'")
    try:
        return Instrument.parse(instrument_text(given.strip()))
    except ValueError as error:
        sentence = str(error)
    raise SettingsError(sentence if sentence.startswith("instrument ") else f"instrument {given!r}: {sentence}")


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
    parts = _split(value, "http", "https")
    if "@" in value:
        raise ValueError("a base URL has no user name and no password: they would stand in logs")
    if parts is None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("a base URL is http:// or https://, a host and perhaps a port, without a path")
    return value.rstrip("/")


def endpoint_url(value: str) -> str:
    """The base URL of an object store. Raises ValueError with the rule."""
    if is_link_local(urlsplit(base_url(value)).hostname or ""):
        raise ValueError("an address such as 169.254.169.254 gives out credentials, and is not an object store")
    return base_url(value)


def check_scheme(name: str, url: str, hosts: Container[str]) -> None:
    """Raise ValueError for a URL of setting ``name`` that goes in the clear to another machine than ``hosts``."""
    parts = urlsplit(url)
    host, scheme = parts.hostname or "", parts.scheme
    if scheme in {"http", "ws"} and not is_loopback(host) and host not in hosts:
        raise ValueError(
            f"{name} = {url}: {scheme}:// is for this machine alone; use {scheme}s://, or name {host} in "
            "plain_http_hosts"
        )


def stream_url(value: str) -> str:
    """A stream address without a slash at its end. Raises ValueError with the rule."""
    parts = _split(value, "ws", "wss")
    if parts is None or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("a stream address is ws:// or wss://, a host, perhaps a port and a path such as /market")
    return value.rstrip("/")


def _split(value: str, *schemes: str) -> SplitResult | None:
    """The parts of a URL with one of these schemes and a host; None for any other text."""
    try:
        parts = urlsplit(value)
        host = (parts.hostname or "").encode("idna")
        good = parts.scheme in schemes and host and parts.port != 0 and not re.search(r"[\s\\]", value)
    except ValueError:
        return None
    return parts if good else None


def check_level(compression: str, level: int) -> None:
    """Raise ValueError for a level that the compression does not have."""
    if compression not in _LEVELS:
        raise ValueError(f"compression_level: {compression} has no levels, leave it out")
    low, high = _LEVELS[compression]
    if not low <= level <= high:
        raise ValueError(f"compression_level {level}: {compression} has {low} to {high}")


def host_name(value: str) -> str:
    """A name as requests carry it in Host, without a port. Raises ValueError with the rule."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]", value):
        raise ValueError(f"{value}: write the name that requests carry as Host, without a port")
    return value


def directory(value: Path) -> Path:
    """The path of a directory that is there or can be made. Raises ValueError with the rule."""
    try:
        value = value.expanduser()
        stands = value.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"it must be the path of a directory ({error})") from None
    if "\0" in str(value):
        raise ValueError("it must be the path of a directory, without a NUL")
    if stands and not value.is_dir():
        raise ValueError("it must be a directory, and a file stands there")
    return value
