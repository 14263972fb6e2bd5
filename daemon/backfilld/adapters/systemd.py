"""Notifications to systemd: the datagrams of sd_notify(3), sent to the socket that NOTIFY_SOCKET names.

Owns the protocol's words. Does nothing where there is no socket. A manager that does not listen is not our error.
"""

import errno
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from backfilld.core.text import plain

MOST_PENDING = 20
"""Notifications that wait for a busy manager; the oldest are dropped."""

STATUS_LENGTH = 300
"""Characters of a status: ``systemctl status`` shows one line."""

_NEVER = {errno.EMSGSIZE, errno.EINVAL}
"""Errors that the same datagram meets again at every attempt."""


class Notifier:
    """Sends notifications to the service manager. ``environment`` is the process's."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watchdog_is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        interval = environment.get("WATCHDOG_USEC", "0")
        self.watchdog_s = int(interval) / 1e6 if watchdog_is_ours and interval.isdecimal() else 0.0
        """How long systemd waits for a sign of life, in seconds; 0 if it does not."""
        self._status = ""
        self._pending: list[str] = []

    def __bool__(self) -> bool:
        """Whether there is a manager to notify."""
        return bool(self._address)

    def ready(self) -> None:
        """The service is up, or a reload is over."""
        self._send_lasting("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._send_lasting(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send_lasting("STOPPING=1")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._send_now("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Starting, or stopping, may take this much longer from now on."""
        self._send_now(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def status(self, sentence: str) -> None:
        """Set the line that ``systemctl status`` shows; an unchanged one is not sent again.

        A newline in it would begin another variable of the protocol, such as READY=1.
        """
        line = plain(sentence, STATUS_LENGTH)
        if line != self._status:
            self._status = line
            self._send_lasting(f"STATUS={line}")

    def _send_lasting(self, message: str) -> None:
        """Send, and again with the next notification if the manager is busy."""
        self._send([*self._pending, message])

    def _send_now(self, message: str) -> None:
        """Send before all that is pending, so that nothing pending holds a sign of life back; never again."""
        self._send([message, *self._pending])
        self._pending = [each for each in self._pending if each is not message]

    def _send(self, messages: list[str]) -> None:
        """Send in order until the manager is busy; the rest is pending."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.setblocking(False)
            while messages:
                try:
                    manager.sendto(messages[0].encode(), self._address)
                except OSError as error:
                    if error.errno not in _NEVER:
                        raise
                del messages[0]
        self._pending = messages[-MOST_PENDING:]
