"""What systemd is told: the datagrams of sd_notify(3), sent to the socket that NOTIFY_SOCKET names.

Owns the protocol's words. Silent where there is no socket; a manager that does not listen is no error of ours.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

MOST_PENDING = 20


class Notifier:
    """The service manager's ear. ``environment`` is the process's."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watchdog_is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        interval = environment.get("WATCHDOG_USEC", "0")
        self.watchdog_s = int(interval) / 1e6 if watchdog_is_ours and interval.isdecimal() else 0.0
        """How long systemd waits for a sign of life, in seconds; 0 if it does not."""
        self._status = ""
        self._pending: list[tuple[str, bool]] = []

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def ready(self) -> None:
        """What the service is for is there; or a reload is over."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._tell("WATCHDOG=1", lasting=False)

    def extend(self, seconds: float) -> None:
        """Starting, or stopping, may take so much longer from now on."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}", lasting=False)

    def status(self, sentence: str) -> None:
        """What ``systemctl status`` is to show; the same sentence again is not sent."""
        if sentence != self._status:
            self._status = sentence
            self._tell(f"STATUS={sentence}")

    def _tell(self, message: str, *, lasting: bool = True) -> None:
        """Send what is pending, and this. A manager that is busy must not hold up the loop: it is told the next time,
        but for what has lost its meaning by then."""
        if not self._address:
            return
        queue = [*self._pending, (message, lasting)]
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ear:
            ear.setblocking(False)
            while queue:
                ear.sendto(queue[0][0].encode(), self._address)
                del queue[0]
        self._pending = [each for each in queue if each[1]][-MOST_PENDING:]
