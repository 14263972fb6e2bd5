"""No process of a test outlives pytest, however pytest ends: a watcher kills what bears pytest's mark.

The mark is a variable of the environment, so that processes of processes bear it too.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "STARTED_BY_TEST_RUN"


@contextmanager
def killed_with_this_process() -> Iterator[None]:
    """Whatever is started within the block is killed at its end, or when this process is."""
    os.environ[MARK] = f"{os.getpid()}-{secrets.token_hex(8)}"
    command = [sys.executable, "-I", "-S", __file__, os.environ[MARK]]
    # In a session of its own: Ctrl-C is not for the watcher.
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield


def _marked(mark: str) -> list[int]:
    """The processes that bear the mark, but for this one."""
    entry = f"{MARK}={mark}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if entry in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return [pid for pid in found if pid != os.getpid()]


def _watch(mark: str) -> None:
    """Wait for the end of whoever holds the other end of stdin, and kill all that it left."""
    sys.stdin.buffer.read()
    for _ in range(50):  # what is killed may have started another one meanwhile
        marked = _marked(mark)
        if not marked:
            return
        for pid in marked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


if __name__ == "__main__":
    _watch(sys.argv[1])
