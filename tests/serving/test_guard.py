"""What the endpoint refuses before it looks at a request, on real sockets."""

import json
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from backfilld.errors import SettingsError
from backfilld.serving import connections
from backfilld.serving.endpoint import run_endpoint
from backfilld.settings import Settings
from tests.serving.serving import answer_from, serving, world_with


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8190", "127.0.0.1.evil.example", "", "localhost.", "*"])
async def test_a_foreign_host_is_refused(host: str) -> None:
    """DNS rebinding: the browser asks 127.0.0.1 by the name of another site."""
    async with serving() as served:
        status, _, _ = await served.get("/nothing", Host=host)
        assert status == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8190", "localhost", "LOCALHOST:1", "[::1]:8190", "[::1]"])
async def test_our_own_hosts_are_answered(host: str) -> None:
    async with serving() as served:
        status, _, _ = await served.get("/nothing", Host=host)
        assert status == 404


async def test_a_host_that_the_settings_name_is_answered() -> None:
    async with serving(api_hosts=("trades.lan",)) as served:
        assert (await served.get("/nothing", Host="trades.lan:8190"))[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_pages_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    async with serving() as served:
        assert (await served.get("/nothing", **headers))[0] == 403


async def test_no_answer_lets_another_site_read_it() -> None:
    async with serving() as served:
        _, headers, _ = await served.get("/nothing")
        assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v3/account?timestamp=1&signature=abc",
        "/api/v3/klines?symbol=BTCUSDT&signature=abc",
        "/api/v3/order",
        "/sapi/v1/capital/config/getall",
        "/fapi/v2/positionRisk",
        "/dapi/v1/listenKey",
        "/api/v3/%61ccount",
        "/api/v3//account",
    ],
)
async def test_signed_requests_are_refused_in_the_exchange_s_words(path: str) -> None:
    async with serving() as served:
        status, _, body = await served.get(path)
        assert status == 403
        assert json.loads(body)["code"] == -1002


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_only_reading_is_possible(method: str) -> None:
    async with serving() as served:
        assert (await served.ask(f"{method} /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 405


async def test_a_body_is_refused() -> None:
    async with serving() as served:
        text = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
        assert (await served.ask(text))[0] == 413


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/" + "x" * 9000, {}),
        ("/?" + "x" * 9000, {}),
        ("/", {"X": "y" * 17_000}),
        ("/", {f"X-{number}": "y" for number in range(100)}),
        ("/" + "x" * 200_000, {}),
    ],
)
async def test_giant_urls_and_headers_are_refused(path: str, headers: dict[str, str]) -> None:
    async with serving() as served:
        assert (await served.get(path, **headers))[0] in {400, 414, 431}


async def test_a_second_host_header_is_refused() -> None:
    async with serving() as served:
        text = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"
        assert (await served.ask(text))[0] in {400, 421}


async def test_a_websocket_is_not_served_here() -> None:
    async with serving() as served:
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        status, _, _ = await served.ask(f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{upgrade}{key}\r\n")
        assert status == 403


async def test_half_a_request_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow-loris: 200 connections that send a byte now and then end, and others are served meanwhile."""
    monkeypatch.setattr(connections, "HEADERS_WITHIN_S", 1.0)
    async with serving() as served:
        with trio.fail_after(60):
            async with AsyncExitStack() as stack:
                streams = [await stack.enter_async_context(await served.connect()) for _ in range(200)]
                for stream in streams:
                    await stream.send_all(b"GET / HTTP/1.1\r\n")
                assert (await served.get("/nothing"))[0] == 404
                for stream in streams:
                    with pytest.raises(trio.BrokenResourceError):
                        while await stream.receive_some():
                            pass
                        raise trio.BrokenResourceError


async def test_the_longest_idle_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    async with serving() as served:
        async with AsyncExitStack() as stack:
            idle = [await stack.enter_async_context(await served.connect()) for _ in range(5)]
            assert (await served.get("/nothing"))[0] == 404
            with trio.fail_after(10):
                for stream in idle[:2]:
                    with pytest.raises(trio.BrokenResourceError):
                        if not await stream.receive_some():
                            raise trio.BrokenResourceError


async def test_a_stop_waits_for_no_half_sent_request() -> None:
    async with serving(grace_seconds=30.0) as served:
        stream = await served.connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: local")
        began = trio.current_time()
    await stream.aclose()
    assert trio.current_time() - began < 10.0


async def test_a_unix_socket_is_for_its_user_and_its_group(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    world = world_with(api_listen=f"unix:{path}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_endpoint, world)
        while not path.exists():
            await trio.sleep(0.01)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await answer_from(stream))[0] == 404
        world.pipeline.stop.set()
    assert not path.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"api_listen": "0.0.0.0:8190"},
        {"api_listen": "8190"},
        {"api_listen": "trades.lan:8190"},
        {"api_listen": "unix:relative"},
        {"stream_listen": "[::]:8191"},
        {"api_listen": "127.0.0.1:0"},
        {"api_hosts": "a:1"},
    ],
)
def test_a_wrong_address_is_refused_in_a_sentence(settings: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"listen|api_hosts"):
        Settings(**settings)


def test_other_machines_are_let_in_only_by_name() -> None:
    assert Settings(api_listen="0.0.0.0:8190", api_hosts="trades.lan").api_listen == "0.0.0.0:8190"
