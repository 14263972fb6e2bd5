"""Where the endpoint listens, as the settings name it.

Owns the syntax ``HOST:PORT``, ``unix:/PATH`` and ``systemd``, and which Host names a request may then carry. Must not
open anything.
"""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""The Host names that are always answered: no other site's name resolves in a browser to these texts."""

MOST_PORT = 65_535

RULE = "write HOST:PORT such as 127.0.0.1:8190, unix:/PATH, systemd for a socket that systemd hands over, or off"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A port of an IP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.host).is_loopback


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system, for the user and the group that own it."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A socket that systemd opened."""

    def __str__(self) -> str:
        return "systemd"


Address = TcpAddress | UnixAddress | HandedOver


def parse_address(text: str) -> Address | None:
    """The address, None for ``off``. Raises ValueError with the rule."""
    if text.lower() in {"", "off"}:
        return None
    if text == "systemd":
        return HandedOver()
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"the path of a unix socket begins with a slash; {RULE}")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f"the host is an IP address or localhost; {RULE}") from None
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= MOST_PORT:
        raise ValueError(RULE)
    return TcpAddress(host, int(port))


def hosts_answered(more: Collection[str]) -> frozenset[str]:
    """The Host names, in lower case and without a port, that requests may carry."""
    return frozenset((*LOOPBACK_NAMES, *(each.lower() for each in more)))
