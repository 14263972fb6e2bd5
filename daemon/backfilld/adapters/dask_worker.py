"""What Dask loads into the worker of a fleet (``--preload``): it ends a worker that is closing and does not end.

Dask closes a worker whose scheduler has gone or whose process is to stop. Where both come at once its event loop can
wait for ever, and the machine would be idle until somebody looks. What is lost is a task, which is done again.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

CLOSING_S, LOOK_S = 20.0, 1.0
"""How long a worker may be closing, and how often that is looked at."""

_AT_WORK = {"undefined", "created", "init", "starting", "running", "paused"}


def dask_setup(worker: Any) -> None:
    """Watch the worker, which Dask hands over when it starts it."""
    threading.Thread(target=watch, args=(lambda: str(worker.status.name), os._exit), daemon=True).start()


def watch(
    status: Callable[[], str],
    end: Callable[[int], object],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Call ``end`` once the status was none of a worker at work for CLOSING_S."""
    at_work_at = clock()
    while clock() - at_work_at < CLOSING_S:
        sleep(LOOK_S)
        if status() in _AT_WORK:
            at_work_at = clock()
    end(1)
