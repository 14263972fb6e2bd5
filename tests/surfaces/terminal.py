"""A terminal for a command: what a person would see on it, line by line."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

HEIGHT = 40
_BEYOND = 400
"""Columns of the emulated screen: a line that is wider than the terminal shows as such, instead of being wrapped."""


class Terminal:
    """``backfilld`` with these arguments on a terminal that claims to be ``columns`` wide; or another ``program``."""

    def __init__(
        self,
        columns: int,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str],
        program: Sequence[str] = ("-m", "backfilld"),
    ) -> None:
        self._screen = pyte.HistoryScreen(_BEYOND, HEIGHT, history=5000)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._widest = ""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, columns, 0, 0))
        hidden = ("BACKFILL", "COLUMNS", "LINES", "NO_COLOR")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=cwd,
            env={**clean, "TERM": "xterm-256color", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65_536)
            except OSError:
                return
            with self._lock:
                self._stream.feed(piece)
                self._widest = max([self._widest, *self._shown()], key=len)

    def _shown(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def widest(self) -> str:
        """The widest line that ever stood on the screen."""
        with self._lock:
            return self._widest

    def shown(self) -> list[str]:
        """The lines on the screen now, without the empty ones."""
        with self._lock:
            return [line for line in self._shown() if line]

    def scrollback(self) -> list[str]:
        """The same with those that have gone off its top."""
        with self._lock:
            rows = self._screen.history.top
            gone = ["".join(row[at].data for at in range(_BEYOND)).rstrip() for row in rows]
        return [*[line for line in gone if line], *self.shown()]

    def wait(self, until: Callable[[list[str]], bool], timeout_s: float = 40) -> list[str]:
        """The lines, as soon as they are as wanted."""
        ends_at = time.monotonic() + timeout_s
        while not until(lines := self.shown()):
            if time.monotonic() > ends_at:
                self.process.kill()
                self.process.wait()
                raise AssertionError("\n".join(lines))
            time.sleep(0.05)
        return lines

    def end(self, timeout_s: float = 60) -> int:
        """Wait for the command's end; its exit code."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("\n".join(self.shown())) from None
        self._reader.join(10)
        os.close(self._ours)
        return code
