"""``backfilld fleet worker``: one Dask worker for this machine, started again whenever it ends.

Owns the lock of the machine's state directory: two workers behind one address would only be slower. Credentials, keys
and directories are those of this process' environment.
"""

import ctypes
import re
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from backfilld.adapters.month_days import sweep_scratch
from backfilld.errors import EXIT_DONE, SettingsError
from backfilld.settings import Settings
from backfilld.store.lock import locked

PAUSE_S, LOOK_S, GRACE_S = 1.0, 0.5, 15.0
"""Between the end of a worker and the start of the next; between two looks at it; from SIGTERM to its end."""

_PR_SET_PDEATHSIG = 1

_SCHEDULER = re.compile(r"(tcp|tls)://\S+:\d{1,5}")


def work(settings: Settings, scheduler: str, options: tuple[str, ...]) -> int:
    """Work for a scheduler until SIGTERM; return the exit code. Raises CacheLocked if a worker runs here already, and
    SettingsError."""
    if not find_spec("distributed"):
        raise SettingsError("fleet worker needs the extra [fleet]: pip install 'backfilld[fleet]'")
    if not _SCHEDULER.fullmatch(scheduler):
        raise SettingsError(f"--scheduler {scheduler}: write tcp://HOST:8786 or tls://HOST:8786")
    command = [
        sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--no-nanny", "--nthreads", "1",
        "--resources", "IP=1", "--no-dashboard", "--memory-limit", "0", "--death-timeout", "60",
        "--preload", "backfilld.adapters.dask_worker", "--local-directory", str(settings.state_path / "dask"), *options,
    ]  # fmt: skip
    stop = threading.Event()
    with locked(settings.state_path / "worker"):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Path(settings.state_path / "dask").mkdir(parents=True, exist_ok=True)
        while not stop.is_set():
            sweep_scratch(settings.state_path)
            process = subprocess.Popen(command, preexec_fn=_end_with_parent)  # noqa: PLW1509, S603 - no thread runs here
            _attend(process, stop)
            if not stop.is_set():
                print(f"backfilld: the worker ended with {process.returncode}; another is started", file=sys.stderr)
                stop.wait(PAUSE_S)
        sweep_scratch(settings.state_path)
    return EXIT_DONE


def _attend(process: "subprocess.Popen[bytes]", stop: threading.Event) -> None:
    """Wait until the process ends; after a stop not for longer than GRACE_S."""
    while process.poll() is None:
        if stop.wait(LOOK_S):
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent() -> None:
    """A worker whose parent was killed would hold the address for nobody."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
