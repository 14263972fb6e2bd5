"""The endpoint before a live exchange, a server to hold it against, and clients of both, each a process of its own."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from tests.benchmarks.live_world import LiveDaemon, live_daemon

_CLIENTS = Path(__file__).with_name("serve_clients.py")
_REFERENCE = Path(__file__).with_name("serve_reference.py")
READY_WITHIN_S = 90.0


@dataclass(frozen=True, slots=True)
class ServingDaemon:
    """A daemon with its endpoint up."""

    daemon: LiveDaemon
    url: str
    stream_url: str

    def newest_id(self) -> int:
        """The id of the newest trade."""
        with urllib.request.urlopen(f"{self.url}/api/v3/aggTrades?symbol=BTCUSDT&limit=1") as answer:
            return int(json.load(answer)[-1]["a"])

    def source_of(self, from_id: int) -> str:
        """Where the page with this id comes from."""
        with urllib.request.urlopen(f"{self.url}/api/v3/aggTrades?symbol=BTCUSDT&limit=1&fromId={from_id}") as answer:
            return str(answer.headers["x-backfilld"])


@contextmanager
def serving_daemon(urls: tuple[str, str], directory: Path, settings: Mapping[str, str]) -> Iterator[ServingDaemon]:
    """``backfilld run`` with its endpoint, once the newest trades come from it."""
    api, streams = f"127.0.0.1:{_free_port()}", f"127.0.0.1:{_free_port()}"
    listen = {"BACKFILL_API_LISTEN": api, "BACKFILL_STREAM_LISTEN": streams}
    with live_daemon(urls, directory, listen | dict(settings)) as daemon:
        daemon.await_attached(1, READY_WITHIN_S)
        serving = ServingDaemon(daemon, f"http://{api}", f"http://{streams}")
        until = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                serving.newest_id()
            except URLError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            else:
                break
        yield serving


@contextmanager
def reference_server() -> Iterator[tuple[str, int]]:
    """URL and process of the server with nothing behind it."""
    with subprocess.Popen([sys.executable, str(_REFERENCE)], stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield json.loads(line)["url"], process.pid
        finally:
            process.terminate()


def clients(kind: str, url: str, *numbers: float) -> "subprocess.Popen[str]":
    """Start clients."""
    words = [sys.executable, str(_CLIENTS), kind, url, *map(str, numbers)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> Any:
    """What they found. Raises RuntimeError where they failed."""
    text, _ = process.communicate(timeout=120)
    if process.returncode:
        raise RuntimeError(f"the clients ended with {process.returncode}")
    return json.loads(text)


def percentile(values: list[float], part: float) -> float:
    """The value that so much of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
