"""A server with nothing behind it, on the endpoint's own stack: every answer is the same bytes. Prints its URL.

It is the floor of what a page can cost, and shows what the machine itself adds to the times.
"""

import json
import sys

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ROW = (
    '{"a":3800862675,"p":"85299.90000000","q":"0.01700000","f":7601725350,"l":7601725351,'
    '"T":1760000250000,"m":false,"M":true}'
)


async def main() -> None:
    """Serve until killed."""
    body = f"[{','.join([ROW] * 1000)}]".encode()

    async def page(_request: Request) -> Response:
        return Response(body, media_type="application/json")

    async def ping(_request: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    application = Starlette(routes=[Route("/api/v3/aggTrades", page), Route("/api/v3/ping", ping)])
    config = Config()
    config.keep_alive_max_requests = 2**62
    config.accesslog = config.errorlog = None
    context, wrapped = WorkerContext(max_requests=None), ASGIWrapper(application)  # type: ignore[arg-type]

    async def serve(stream: trio.SocketStream) -> None:
        await TCPServer(wrapped, config, context, ConnectionState({}), stream)  # type: ignore[arg-type]

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{listener.socket.getsockname()[1]}"}) + "\n")
    sys.stdout.flush()
    await trio.serve_listeners(serve, [listener])


if __name__ == "__main__":
    trio.run(main)
