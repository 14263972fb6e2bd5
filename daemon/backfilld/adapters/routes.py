"""How a base URL is reached: certificates, proxies; and in words why it was not.

Owns the choice of the proxy (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as curl reads them) and the sentences
about connections that failed. No cookie is kept, no redirect followed: requests go straight to the transport.
"""

import errno
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from backfilld.core.text import plain
from backfilld.errors import SettingsError

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")

_HEADERS = {"accept": "*/*", "accept-encoding": "gzip", "user-agent": "backfilld"}

_KEPT_CONNECTIONS = 10
"""Idle connections that one transport keeps open."""

_CERTIFIED = cache(httpx.create_ssl_context)
"""Loading the CA bundle takes 150 ms; once for all."""

_WORDS = {
    errno.ECONNREFUSED: "the connection was refused, nothing listens there",
    errno.ECONNRESET: "the connection was reset",
    errno.EHOSTUNREACH: "there is no route to the host",
    errno.ENETUNREACH: "the network is unreachable",
    errno.ETIMEDOUT: "the connection timed out",
}

_KINDS: dict[type[Exception], str] = {
    httpx.ConnectTimeout: "no connection came about in time",
    httpx.ReadTimeout: "no answer came in time",
    httpx.ReadError: "the connection broke while the answer came",
    httpx.WriteError: "the connection broke while the request was sent",
    httpx.CloseError: "the connection broke while it was closed",
    httpx.ConnectError: "no connection came about",
    httpx.ProxyError: "the proxy refused",
}


class _Target(httpx.URL):
    """A path with its query below a base URL. httpx takes longer to parse and encode one than to send it."""

    def __init__(self, base: httpx.URL, target: str) -> None:
        super().__init__(base)
        self._target = base.raw_path.rstrip(b"/") + target.encode("ascii")

    @property
    def raw_path(self) -> bytes:
        """The path with its query, as it is sent."""
        return self._target


class Route:
    """The way to one base URL; ``transport`` sends requests on it."""

    def __init__(self, base: str, environment: Callable[[], Mapping[str, str]] = getproxies) -> None:
        self.base = base
        self.proxy = proxy_for(base, environment())
        needs_tls = base.startswith("https:")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT_CONNECTIONS)
        try:
            self.transport = httpx.AsyncHTTPTransport(
                verify=_CERTIFIED() if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                limits=limits,
                trust_env=False,
                proxy=self.proxy,
            )
        except ImportError as error:
            raise SettingsError(
                f"the proxy {shown(self.proxy or '')}: SOCKS needs the package socksio, pip install 'httpx[socks]'"
            ) from error

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> httpx.Request:
        """A request for a path with its query, percent-encoded; one with ``headers`` is another program's, and encoded
        by httpx. Raises httpx.InvalidURL."""
        if headers is not None:
            return httpx.Request("GET", f"{self.base}{target}", headers=_HEADERS | dict(headers))
        request = httpx.Request("GET", self._ours.url, headers=self._ours.headers, stream=self._ours.stream)
        request.url = _Target(self._ours.url, target)
        return request

    @cached_property
    def _ours(self) -> httpx.Request:
        return httpx.Request("GET", self.base, headers=_HEADERS)

    def failure(self, error: BaseException) -> str:
        """The sentence about a failed request: which host, through which proxy, and why."""
        through = f" through the proxy {shown(self.proxy)}" if self.proxy else ""
        return f"{self.base} is out of reach{through}: {reason_of(error)}"


def proxy_for(base: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for a base URL. Raises SettingsError if it is not one."""
    parts = urlsplit(base)
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or proxy_bypass(parts.netloc):
        return None
    proxy = found if "://" in found else f"http://{found}"
    try:
        read = urlsplit(proxy)
        is_good = read.scheme in PROXY_SCHEMES and bool(read.hostname) and read.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise SettingsError(
            f"the proxy {shown(proxy)} of the environment: a proxy is {'://, '.join(PROXY_SCHEMES)}:// and a host"
        )
    return proxy


def shown(url: str) -> str:
    """The URL without a user name and a password, for sentences."""
    try:
        parts: SplitResult = urlsplit(url)
    except ValueError:
        return plain(url.rpartition("@")[2])
    return plain(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in words: the cause that lies deepest says most."""
    chain = list(_causes(error))
    for each in reversed(chain):
        words = _words_of(each)
        if words:
            return words
    text = plain(str(error))
    kind = next((words for kind, words in _KINDS.items() if isinstance(error, kind)), "")
    return f"{kind} ({text})" if kind and text else kind or text or "the connection failed"


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, what caused that; each once."""
    chain: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop(0)
        if each in chain:
            continue
        chain.append(each)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        waiting += [cause for cause in (each.__cause__, each.__context__) if cause is not None]
    return chain


def _words_of(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its TLS certificate is not accepted ({plain(error.verify_message or str(error))})"
        case ssl.SSLError():
            detail = (error.reason or "protocol error").replace("_", " ").lower()
            return f"TLS failed ({plain(detail)}); a server of plain http answers like this"
        case socket.gaierror():
            return f"its name is not found in DNS ({plain(error.strerror or str(error))})"
        case OSError() if error.errno in _WORDS:
            return _WORDS[error.errno]
        case _:
            return None
