"""A wall clock that is ``CLOCK_AHEAD_S`` seconds ahead, in every Python that finds this on its path (tests/clock.py).

Python's own clock functions only: the monotonic clock, file times, sleeps and C libraries keep the true time.
"""

import ctypes
import gc
import os
import time
from datetime import datetime, tzinfo

AHEAD_S = float(os.environ.get("CLOCK_AHEAD_S", "0"))
true_time, true_time_ns = time.time, time.time_ns


def now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
    """What stands for ``datetime.now``."""
    return cls.fromtimestamp(time.time(), tz)


if AHEAD_S:
    time.time = lambda: true_time() + AHEAD_S
    time.time_ns = lambda: true_time_ns() + round(AHEAD_S * 1e9)
    # The class itself is changed, behind its back: libraries in C would not know another one.
    gc.get_referents(datetime.__dict__)[0]["now"] = classmethod(now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))
