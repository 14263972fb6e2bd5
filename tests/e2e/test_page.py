"""The page, the metrics and the probes of a real daemon that is live."""

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import trio

from tests.e2e.test_live import end, live_exchange, streamed
from tests.e2e.world import Daemon, ended, kill

ROOT = Path(__file__).parents[2]


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def until_ready(client: httpx.AsyncClient) -> None:
    with trio.fail_after(40):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await trio.sleep(0.1)


async def test_metrics_probes_and_events_of_a_live_daemon(tmp_path: Path) -> None:
    """The exchange's clock stands at another time of day: that is no lag."""
    address = free_address()
    async with live_exchange(20.0) as exchange:
        daemon = streamed(exchange, tmp_path / "cache", API_LISTEN=address)
        process = daemon.start("run")
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://{address}", timeout=60) as client:
            await until_ready(client)
            assert (await client.get("/healthz")).json() == {"alive": True}
            shown = set(re.findall(r"^(backfilld_\w+)", (await client.get("/metrics")).text, re.MULTILINE))
            names = (ROOT / "docs" / "reference-metrics.md").read_text()
            assert [name for name in shown if re.sub(r"_(bucket|count|sum)$", "", name) not in names] == []
            assert {"backfilld_stored_trades_total", "backfilld_requests_total", "backfilld_weight_used"} <= shown
            await trades_move(address)
        with trio.fail_after(40):
            while (checked := await daemon.run("status", "--check", "--json")).code:
                # What it reported last is from before it was complete; it reports every 15 s.
                await trio.sleep(1)
        assert json.loads(checked.stdout)["reasons"] == []
        await end(process)


async def trades_move(address: str) -> None:
    """The events bring another newest trade soon."""
    host, _, port = address.rpartition(":")
    received = b""
    with trio.fail_after(15):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(f"GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            while len(set(re.findall(rb'datetime=\\"([^"\\]+)', received))) < 3:
                received += await stream.receive_some()


async def test_without_a_daemon_the_check_says_so(tmp_path: Path) -> None:
    async with live_exchange(5.0) as exchange:
        daemon = streamed(exchange, tmp_path / "cache")
        checked = await daemon.run("status", "--check")
        assert checked.code == 75
        assert "no daemon has reported" in checked.stdout


async def test_the_demo_shows_its_page_until_it_is_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220 - its pipe is read on a thread
        Daemon.command("demo", "--page", "--trades", "2000", "--cache-dir", str(tmp_path / "cache")),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        with trio.fail_after(40):
            line = json.loads(await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True))
        assert line["event"] == "demo_page_opened"
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            assert "Is it live?" in (await client.get(line["url"])).text
        process.send_signal(signal.SIGINT)
        assert await ended(process) == 0
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(line["url"].rstrip("/").rpartition(":")[2]))) != 0
    finally:
        if process.poll() is None:
            await kill(process)
        if process.stdout is not None:
            process.stdout.close()
