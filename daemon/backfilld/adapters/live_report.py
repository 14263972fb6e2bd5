"""How the live side of a running daemon stands at this moment, by its socket.

Owns the place of the socket, the one question that is not about trades, and its answer. It needs no event loop, so that
``status`` starts fast.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from backfilld.core.live.reports import LiveStatistics  # it loads polars, which status does without

SOCKET_NAME = "live.sock"
QUESTION = b'{"report": true}\n'
ANSWER_WITHIN_S = 2.0
MOST_ANSWER_BYTES = 4 * 2**20


class LiveInstrumentReport(msgspec.Struct):
    """One instrument: whether the stream brings it, how far its newest message lay behind its event, and for how long
    its open hole has stood; None before the first message, and without a hole. ``silent`` as in LiveInstrument."""

    attached: bool
    lag_ms: float | None = None
    hole_since_s: float | None = None
    silent: bool = False


class LiveReport(msgspec.Struct, tag="report"):
    """The live side at a glance; counts are since the start of the pipeline."""

    text: str
    attached: int
    lag_ms: float | None
    connects: int
    holes_found: int
    holes_healed: int
    holes_given_up: int
    instruments: dict[str, LiveInstrumentReport]


def report_of(live: "LiveStatistics") -> LiveReport:
    """What is said of these statistics."""
    return LiveReport(
        text=live.text,
        attached=live.attached,
        lag_ms=live.lag_ms,
        connects=live.connects,
        holes_found=live.holes_found,
        holes_healed=live.holes_healed,
        holes_given_up=live.holes_given_up,
        instruments={
            str(name): LiveInstrumentReport(each.is_attached, each.lag_ms, each.hole_since_s, each.is_silent)
            for name, each in live.instruments.items()
        },
    )


def ask_report(directory: Path) -> LiveReport | None:
    """The report of the daemon whose socket is in ``directory``; None if none listens there, or an older version.
    Raises TimeoutError if it does not answer in time: it stands still."""
    try:
        with reached(directory) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_WITHIN_S)
            connection.connect(path)
            connection.sendall(QUESTION)
            with connection.makefile("rb") as answer:
                length = int.from_bytes(answer.read(4), "big")
                return msgspec.msgpack.decode(answer.read(min(length, MOST_ANSWER_BYTES)), type=LiveReport)
    except TimeoutError:
        raise
    except (OSError, msgspec.DecodeError):
        return None


@contextmanager
def reached(directory: Path) -> Iterator[str]:
    """A path to the socket that is short whatever the directory's is: a unix socket's may have 107 bytes only."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{SOCKET_NAME}"
    finally:
        os.close(opened)
