"""A crowd of hostile clients on both listeners: checkpoints come on time, the end too, and the file is whole."""

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import polars as pl
import trio

from tests.e2e.test_live import live_exchange, streamed, until_attached
from tests.e2e.test_serving import free_port
from tests.e2e.world import Daemon, ended

SECONDS = 12
SLOW, STUCK, DEAF = 200, 20, 30
GRACE_S = 5
LATE_S = 5.0
"""CHECKPOINT_SECONDS is one; the rest is for a machine on which other tests run."""

UPGRADE = (
    b"GET /ws/btcusdt@aggTrade HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def masked(text: bytes) -> bytes:
    """A text frame of a client whose mask is nought."""
    return b"\x81" + bytes([0x80 | 126]) + len(text).to_bytes(2, "big") + b"\0\0\0\0" + text


async def slow(port: int) -> None:
    """A byte of a request each second."""
    with suppress(trio.BrokenResourceError):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for byte in b"GET /api/v3/ping HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100:
                await stream.send_all(bytes([byte]))
                await trio.sleep(1)


async def stuck(port: int) -> None:
    """Asks for page after page, and reads none."""
    ask = b"GET /api/v3/aggTrades?symbol=BTCUSDT&fromId=2000&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with suppress(trio.BrokenResourceError):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(ask * 200)
            await trio.sleep_forever()


async def deaf(port: int) -> None:
    """Subscribes, and reads nothing."""
    with suppress(trio.BrokenResourceError):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(UPGRADE)
            await trio.sleep_forever()


async def flooding(port: int) -> None:
    """10,000 SUBSCRIBEs, again and again."""
    request = {"method": "SUBSCRIBE", "params": [f"btcusdt@kline_{each}m" for each in (1, 3, 5, 15, 30)] * 4, "id": 1}
    while True:
        with suppress(trio.BrokenResourceError, OSError):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(UPGRADE)
                await stream.send_all(masked(json.dumps(request).encode()) * 10_000)
        await trio.sleep(0.1)


def refusals() -> list[tuple[bytes, int, bool]]:
    """Requests to the endpoint or its streams as they arrive from pages of other sites and from giants, and the status
    that each gets."""
    ping = b"GET /api/v3/ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
    rebound, cross_site = b"rebound.example", b"localhost\r\nOrigin: https://evil.example"
    giants = b"X: " + b"y" * 40_000, b"".join(b"X%d: y\r\n" % number for number in range(100))
    return [
        (ping.replace(b"localhost", rebound), 421, False),
        (ping.replace(b"localhost", cross_site), 403, False),
        (ping.replace(b"ping", b"account?timestamp=1&signature=ab"), 403, False),
        (ping.replace(b"ping", b"ping?x=" + b"y" * 9000), 414, False),
        (ping.replace(b"localhost", b"localhost\r\n" + giants[0]), 431, False),
        (ping.replace(b"localhost\r\n", b"localhost\r\n" + giants[1]), 431, False),
        (ping.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n") + b"y" * 4096, 413, False),
        (UPGRADE.replace(b"localhost", rebound), 421, True),
        (UPGRADE.replace(b"localhost", cross_site), 403, True),
    ]


async def rude(api: int, streams: int, refused: Counter[int]) -> None:
    """Sends what is refused, and counts the refusals."""
    while True:
        for text, status, is_stream in refusals():
            with suppress(trio.BrokenResourceError, OSError), trio.move_on_after(5):
                async with await trio.open_tcp_stream("127.0.0.1", streams if is_stream else api) as stream:
                    await stream.send_all(text)
                    words = (await stream.receive_some()).split(None, 2)
                    assert not words or int(words[1]) == status, (text[:200], words)
                    refused[status] += bool(words)
        await trio.sleep(0.2)


async def latest_checkpoints(daemon: Daemon, seconds: float) -> float:
    """The longest time in which nothing was saved."""
    directory, longest, before = daemon.cache_dir, 0.0, trio.current_time()
    known: object = None
    until = trio.current_time() + seconds
    while trio.current_time() < until:
        paths = [*directory.rglob("*.journal"), *directory.rglob("backfill_*.parquet")]
        found = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths]
        if found != known:
            known, before = found, trio.current_time()
        longest = max(longest, trio.current_time() - before)
        await trio.sleep(0.1)
    return longest


async def test_nothing_that_clients_do_delays_the_writer_or_the_end(tmp_path: Path) -> None:
    api, streams = free_port(), free_port()
    refused: Counter[int] = Counter()
    listen = {"API_LISTEN": f"127.0.0.1:{api}", "STREAM_LISTEN": f"127.0.0.1:{streams}"}
    async with live_exchange(50.0) as exchange:
        daemon = streamed(exchange, tmp_path / "cache", GRACE_SECONDS=str(GRACE_S), SAVE_SECONDS="300", **listen)
        process = daemon.start("run")
        try:
            await until_attached(daemon)
            async with trio.open_nursery() as nursery:
                for attack, port, count in ((slow, api, SLOW), (stuck, api, STUCK), (deaf, streams, DEAF)):
                    for _ in range(count):
                        nursery.start_soon(attack, port)
                nursery.start_soon(flooding, streams)
                nursery.start_soon(rude, api, streams, refused)
                assert await latest_checkpoints(daemon, SECONDS) < LATE_S
                with trio.fail_after(5):
                    async with await trio.open_tcp_stream("127.0.0.1", api) as stream:
                        await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
                assert refused.keys() == {status for _, status, _ in refusals()}
                process.terminate()
                assert await ended(process, GRACE_S + 1) == 0
                nursery.cancel_scope.cancel()
        finally:
            if process.poll() is None:
                process.kill()
        stored = daemon.stored()
        tape = daemon.tape_of_today().filter(pl.col("a") <= stored["a"][-1])
        assert stored.select("a", "p", "q", "T").equals(tape.select("a", "p", "q", "T"))
