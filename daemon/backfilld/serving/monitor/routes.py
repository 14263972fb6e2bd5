"""The routes of the page, the metrics and health: what a request names, checked, and the answer's headers.

Owns paths, statuses and the policy that keeps foreign script out of the page.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from backfilld.core.model import Instrument
from backfilld.errors import SettingsError
from backfilld.serving.connections import connection_of
from backfilld.serving.monitor.events import Changes, events
from backfilld.serving.monitor.live_section import MAX_LAG_S
from backfilld.serving.monitor.metrics import Metrics
from backfilld.serving.monitor.page import page
from backfilld.serving.monitor.watch import Watch

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

MOST_READERS = 64
"""Pages that are brought up to date at a time."""

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "uplot.css": "text/css",
    "uplot.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def monitor_routes(watch: Watch) -> Sequence[BaseRoute]:
    """The routes over what ``watch`` sees."""
    return _Monitor(watch).routes


class _Monitor:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._metrics = Metrics(watch.look)
        self._changes = Changes(watch)
        self._readers = 0
        self.routes = (
            _route("/", self._page),
            _route("/events", self._events),
            _route("/metrics", self._show_metrics),
            _route("/healthz", self._health),
            _route("/readyz", self._readiness),
            *(_route(f"/static/{name}", _file(name, kind), "/static/") for name, kind in _TYPES.items()),
        )

    async def _page(self, request: Request) -> Response:
        chosen = self._chosen(request)
        if chosen is None:
            return _refusal("this instrument is not kept here")
        return Response(page(self._watch.look(chosen)), 200, HEADERS, "text/html")

    async def _events(self, request: Request) -> Response:
        chosen = self._chosen(request)
        if chosen is None:
            return _refusal("this instrument is not kept here")
        if request.method == "HEAD":
            return Response(b"", 200, HEADERS, "text/event-stream")
        if self._readers >= MOST_READERS:
            return PlainTextResponse("too many pages are open", 503, HEADERS | {"retry-after": "10"})
        connection = connection_of(request.scope)
        if connection is not None:
            # An answer without end: it is closed when the client takes nothing, not when it has lasted long.
            connection.is_lasting = True
        return StreamingResponse(self._counted(chosen), 200, HEADERS, "text/event-stream")

    async def _counted(self, chosen: Instrument) -> AsyncIterator[bytes]:
        self._readers += 1
        try:
            async for each in events(self._changes, chosen):
                yield each
        finally:
            self._readers -= 1

    async def _show_metrics(self, request: Request) -> Response:
        text, content_type = self._metrics.text(request.headers.get("accept", ""))
        return Response(text, 200, HEADERS | {"content-type": content_type})

    async def _health(self, _request: Request) -> Response:
        # That this is answered shows that the loop turns.
        is_alive = self._watch.is_alive
        return _json({"alive": is_alive}, 200 if is_alive else 503)

    async def _readiness(self, request: Request) -> Response:
        try:
            max_lag_s = float(request.query_params.get("max_lag", MAX_LAG_S))
        except ValueError:
            max_lag_s = float("nan")
        if not 0 <= max_lag_s < float("inf"):
            return _refusal("max_lag is a number of seconds, such as 60")
        daemon = self._watch.look().daemon
        reasons = daemon.stale(max_lag_s)
        reasons += [] if daemon.trouble is None else [f"the disk fails: {daemon.trouble.reason}"]
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    def _chosen(self, request: Request) -> Instrument | None:
        """The instrument that the query names, or the first; None for one that is not kept."""
        kept = self._watch.instruments
        name = request.query_params.get("instrument")
        if name is None:
            return kept[0]
        try:
            wanted = Instrument.parse(name)
        except SettingsError:
            return None
        return wanted if wanted in kept else None


def _route(path: str, answer: Callable[[Request], Awaitable[Response]], counted_as: str | None = None) -> Route:
    """A route that is counted by its path."""

    async def counted(request: Request) -> Response:
        request.scope["backfilld.route"] = counted_as or path
        return await answer(request)

    return Route(path, counted)


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    body = (_STATIC / name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(body, 200, HEADERS | {"cache-control": "max-age=3600"}, kind)

    return answer


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, HEADERS, "application/json")


def _refusal(sentence: str) -> Response:
    return PlainTextResponse(sentence, 400, HEADERS)
