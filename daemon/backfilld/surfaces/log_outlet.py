"""Log lines on their way to a pipe whose reader may stand still.

A blocking write would stop the daemon with the reader: no trade would be stored, and no weight counted. So a line is
written only where the pipe takes it at once. Until then lines wait, up to a bound; what comes after that is counted and
left out.
"""

import errno
import os
import select
import time
from collections import deque

MOST_WAITING = 1_000_000
"""Bytes of lines that wait for the reader."""

LAST_WAIT_S = 1.0
"""How long the end of the process waits for the reader."""


_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
"""A file on a full disk takes lines again once there is room, as a reader does that stood still."""


class LogOutlet:
    """Whole lines for a file descriptor, in sequence. Raises OSError where the reader has gone."""

    def __init__(self, descriptor: int, most_waiting: int = MOST_WAITING) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._most_waiting = most_waiting
        self._waiting: deque[bytes] = deque()
        self._bytes = self._left_out = 0

    def put(self, line: bytes) -> None:
        """Write a line, or let it wait."""
        if self._left_out or self._bytes + len(line) > self._most_waiting:
            self._left_out += 1
        else:
            self._waiting.append(line)
            self._bytes += len(line)
        self._write(time.monotonic())

    def left_out(self) -> int:
        """How many lines were left out before the next one, once those before them are written; counts anew then."""
        if self._waiting or not self._left_out:
            return 0
        count, self._left_out = self._left_out, 0
        return count

    def finish(self, within_s: float = LAST_WAIT_S) -> None:
        """Write what waits, as far as the reader takes it in this time."""
        self._write(time.monotonic() + within_s)

    def _write(self, until_s: float) -> None:
        # A pipe that polls as writable takes PIPE_BUF bytes without blocking: poll(2), pipe(7).
        while self._waiting and self._poll.poll(max(0.0, until_s - time.monotonic()) * 1000):
            line = self._waiting.popleft()
            try:
                written = os.write(self._descriptor, line[: select.PIPE_BUF])
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._waiting.appendleft(line)
                return
            self._bytes -= written
            if written < len(line):
                self._waiting.appendleft(line[written:])
