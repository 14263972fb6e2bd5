"""``backfilld fleet worker``: one Dask worker for this machine, started again whenever it ends.

Owns the lock of the machine's state directory: two workers behind one address would only be slower. Credentials, keys
and directories are those of this process' environment.
"""

import ctypes
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from backfilld.adapters.month_days import sweep_scratch
from backfilld.errors import EXIT_DONE
from backfilld.settings import Settings
from backfilld.store.lock import locked

PAUSE_S = 1.0
"""Between the end of a worker and the start of the next."""

_PR_SET_PDEATHSIG = 1


def work(settings: Settings, scheduler: str, options: tuple[str, ...]) -> int:
    """Work for a scheduler until SIGTERM; return the exit code. Raises CacheLocked if a worker runs here already."""
    command = [
        sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--no-nanny", "--nthreads", "1",
        "--resources", "IP=1", "--no-dashboard", "--memory-limit", "0", "--death-timeout", "60",
        "--local-directory", str(settings.state_path / "dask"), *options,
    ]  # fmt: skip
    stopping = False
    process: subprocess.Popen[bytes] | None = None

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        if process is not None:
            process.terminate()

    with locked(settings.state_path / "worker"):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        Path(settings.state_path / "dask").mkdir(parents=True, exist_ok=True)
        while not stopping:
            sweep_scratch(settings.state_path)
            process = subprocess.Popen(command, preexec_fn=_end_with_parent)  # noqa: PLW1509, S603 - no thread runs here
            process.wait()
            if not stopping:
                print(f"backfilld: the worker ended with {process.returncode}; another is started", file=sys.stderr)
                time.sleep(PAUSE_S)
        sweep_scratch(settings.state_path)
    return EXIT_DONE


def _end_with_parent() -> None:
    """A worker whose parent was killed would hold the address for nobody."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
