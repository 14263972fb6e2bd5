"""A live exchange and a daemon on it, as processes of their own, and what such a process has used so far."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.exchange import INSTRUMENT

ATTACHED = b'"live_attached"'


@dataclass(frozen=True, slots=True)
class LiveDaemon:
    """A running daemon and its log."""

    pid: int
    cache_dir: Path
    log: Path

    @property
    def cpu_s(self) -> float:
        """User and system time of all threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_mb(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def await_attached(self, count: int, within_s: float) -> None:
        """Wait until so many instruments are live. Raises RuntimeError if they are not in time."""
        until_s = time.monotonic() + within_s
        while (attached := self.log.read_bytes().count(ATTACHED)) < count:
            if time.monotonic() > until_s:
                raise RuntimeError(f"the daemon follows {attached} of {count} instruments")
            time.sleep(0.2)

    def await_logged(self, words: bytes, within_s: float) -> None:
        """Wait until the log has these words. Raises RuntimeError if they do not come in time."""
        until_s = time.monotonic() + within_s
        while words not in self.log.read_bytes():
            if time.monotonic() > until_s:
                raise RuntimeError(f"the daemon has not logged {words.decode()}")
            time.sleep(0.2)


@contextmanager
def live_exchange(
    options: Mapping[str, object], names: Sequence[str] = (str(INSTRUMENT),)
) -> Iterator[tuple[str, str]]:
    """The URLs of REST and of the spot streams; ``options`` are of the simulator's command line."""
    words = [word for name in names for word in ("--instrument", name)]
    words += [str(word) for pair in options.items() for word in pair]
    command = [sys.executable, "-m", "binance_simulator", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = json.loads((process.stdout.readline() if process.stdout else "") or "{}")
            if not line:
                raise RuntimeError("the simulated exchange did not start")
            yield line["url"], line["stream_urls"]["spot"]
        finally:
            process.terminate()


@contextmanager
def live_daemon(
    urls: tuple[str, str],
    directory: Path,
    settings: Mapping[str, str] | None = None,
    names: Sequence[str] = (str(INSTRUMENT),),
) -> Iterator[LiveDaemon]:
    """``backfilld run`` with its cache and log in ``directory``."""
    url, stream_url = urls
    environment = {
        "BACKFILL_SPOT_URL": url,
        "BACKFILL_ARCHIVE_URL": url,
        "BACKFILL_SPOT_STREAM_URL": stream_url,
        "BACKFILL_CACHE_DIR": str(directory / "cache"),
        "BACKFILL_INSTRUMENTS": ",".join(names),
        "BACKFILL_LOG_FORMAT": "json",
    }
    log = directory / "log"
    command = [sys.executable, "-m", "backfilld", "run"]
    everything = os.environ | environment | dict(settings or {})
    with log.open("wb") as out, subprocess.Popen(command, env=everything, stdout=out, stderr=out) as process:
        try:
            yield LiveDaemon(process.pid, directory / "cache", log)
        finally:
            process.send_signal(signal.SIGTERM)
