"""A small S3 server in memory that is wrong in one way: it ignores a condition, or wants its tags in one form only.

It looks at no signature. A real server (radosgw) shows what is right; this one shows what happens where one is not.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from backfilld.adapters.object_store import RemoteLocation

Habit = Literal[
    "ignores_if_none_match", "ignores_if_match", "quoted_only", "bare_only", "refuses_if_match", "redirects"
]

_EMPTY_LIST = (
    b"<ListBucketResult><Name>tape</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        if self.server.habit == "redirects":
            self._answer(307, b"", {"Location": f"http://127.0.0.1:{self.server.other_port}/elsewhere"})
            return
        self._answer(200, _EMPTY_LIST)

    def do_HEAD(self) -> None:
        body = self.server.objects.get(self.path)
        self._answer(404 if body is None else 200, body or b"")

    def do_PUT(self) -> None:
        body, there = self.rfile.read(int(self.headers["Content-Length"])), self.server.objects.get(self.path)
        wanted = self.headers.get("If-Match")
        is_refused = self.headers.get("If-None-Match") == "*" and there is not None
        if (is_refused and self.server.habit != "ignores_if_none_match") or (
            wanted is not None and not self._matches(wanted, there)
        ):
            self._answer(412, b"")
        else:
            self.server.objects[self.path] = body
            self._answer(200, b"", {"ETag": _tag(body)})

    def _matches(self, wanted: str, there: bytes | None) -> bool:
        match self.server.habit:
            case "ignores_if_match":
                return True
            case "refuses_if_match":
                return False
            case "quoted_only":
                return there is not None and wanted == _tag(there)
            case _:
                return there is not None and wanted == _tag(there).strip('"')

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        given = {"Content-Length": str(len(body)), "Last-Modified": "Fri, 07 Nov 2025 00:00:00 GMT", "ETag": _tag(body)}
        for name, value in (given | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, habit: Habit, other_port: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.habit = habit
        self.other_port = other_port
        self.objects: dict[str, bytes] = {}


def _tag(body: bytes) -> str:
    return f'"{md5(body).hexdigest()}"'


@contextmanager
def lax_server(habit: Habit, other_port: int = 1) -> Iterator[RemoteLocation]:
    """A server with this habit, and where it is."""
    server = _Server(habit, other_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        yield RemoteLocation("s3://tape/pre", endpoint, "us-east-1", allow_http=True, timeout_s=2.0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
