"""A proxy between a client and an S3 server that plays one fault a request, and passes the rest through.

It goes on threads of its own: the library that it vexes runs outside of trio. The client signs for the proxy's address,
so the proxy puts the client's own Host through to the server.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

from backfilld.adapters.object_store import RemoteLocation

Fault = Literal["pass", "500", "503", "429", "lose", "cut", "cut_upload", "silence", "refuse"]
"""What happens to a request: an answer of this status; the answer is lost after the deed; half of the answer, or of the
request, gets through; there is no answer; the connection is closed at once."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A request that the server answered."""

    method: str
    path: str
    status: int


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Proxy"

    def _play(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault()
        match fault:
            case "500" | "503" | "429":
                self._answer(int(fault), {}, b"")
            case "refuse":
                self._break_off()
            case "silence":
                self.server.ended.wait(30)
                self._break_off()
            case "cut_upload":
                self._forward(body[: len(body) // 2], is_cut=True)
                self._break_off()
            case _:
                answer, content = self._forward(body)
                self._reply(answer, content, fault)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _play  # noqa: N815 - the names are http.server's

    def _forward(self, body: bytes, *, is_cut: bool = False) -> tuple[HTTPResponse | None, bytes]:
        with closing(HTTPConnection(*self.server.upstream, timeout=30)) as upstream:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            if is_cut:
                return None, b""
            answer = upstream.getresponse()
            self.server.passed.append(Passed(self.command, self.path, answer.status))
            return answer, answer.read()

    def _reply(self, answer: HTTPResponse | None, content: bytes, fault: Fault) -> None:
        assert answer is not None
        if fault == "lose":
            self._break_off()
            return
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in {"connection", "date"}}
        if fault == "cut":
            self._answer(answer.status, headers | {"Content-Length": str(len(content))}, content[: len(content) // 2])
            self._break_off()
            return
        self._answer(answer.status, headers, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        given = {name.lower() for name in headers}
        for name, value in headers.items():
            if name.lower() != "transfer-encoding":
                self.send_header(name, value)
        if "content-length" not in given:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _break_off(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: tuple[str, int], faults: Sequence[Fault]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.ended = threading.Event()
        self.seen: list[Fault] = []
        self.passed: list[Passed] = []
        self.down_until_s = 0.0
        self._faults = list(faults)
        self._lock = threading.Lock()

    def next_fault(self) -> Fault:
        """The fault of the next request."""
        with self._lock:
            if time.monotonic() < self.down_until_s:
                return "503"
            fault: Fault = self._faults.pop(0) if self._faults else "pass"
            self.seen.append(fault)
            return fault

    def handle_error(self, *_: Any) -> None:
        """A client that went away is none."""


@contextmanager
def faulty_proxy(location: RemoteLocation, faults: Sequence[Fault]) -> Iterator[tuple[RemoteLocation, list[Fault]]]:
    """The location by way of a proxy that plays these faults, one a request, and the faults played so far."""
    with _running(location, faults) as (proxied, proxy):
        yield proxied, proxy.seen


@contextmanager
def proxy_with_outage(location: RemoteLocation) -> Iterator[tuple[RemoteLocation, Callable[[float], None]]]:
    """The location by way of a proxy, and what makes it answer 503 for some seconds."""
    with _running(location, ()) as (proxied, proxy):

        def fall_for(seconds: float) -> None:
            proxy.down_until_s = time.monotonic() + seconds

        yield proxied, fall_for


@contextmanager
def recording_proxy(location: RemoteLocation) -> Iterator[tuple[RemoteLocation, list[Passed]]]:
    """The location by way of a proxy that plays no fault, and the requests so far."""
    with _running(location, ()) as (proxied, proxy):
        yield proxied, proxy.passed


@contextmanager
def _running(location: RemoteLocation, faults: Sequence[Fault]) -> Iterator[tuple[RemoteLocation, _Proxy]]:
    assert location.endpoint is not None
    parts = urlsplit(location.endpoint)
    proxy = _Proxy((parts.hostname or "", parts.port or 80), faults)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        host, port = proxy.server_address[:2]
        yield replace(location, endpoint=f"http://{host!s}:{port}"), proxy
    finally:
        proxy.ended.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
