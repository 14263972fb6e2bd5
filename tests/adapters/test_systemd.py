"""What the service manager hears: datagrams on a real socket, and nothing where there is none."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from backfilld.adapters.systemd import Notifier


class Manager:
    """A socket as systemd opens one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """The datagrams so far."""
        datagrams: list[str] = []
        while True:
            try:
                datagrams.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return datagrams


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@backfilld-{uuid4()}")
    yield manager
    manager.socket.close()


EVERYTHING: list[Callable[[Notifier], None]] = [
    Notifier.ready,
    Notifier.stopping,
    Notifier.alive,
    lambda notifier: notifier.extend(60.0),
    lambda notifier: notifier.status("1 of 2 instruments complete; 1,000 trades stored (\u00b5)"),
]


def test_each_sentence_is_one_datagram_in_the_protocols_words(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    assert notifier
    for tell in EVERYTHING:
        tell(notifier)
    assert manager.heard() == [
        "READY=1",
        "STOPPING=1",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=60000000",
        "STATUS=1 of 2 instruments complete; 1,000 trades stored (\u00b5)",
    ]


def test_a_reload_carries_the_monotonic_instant_of_its_beginning(manager: Manager) -> None:
    """In the same datagram: sd_notify(3) spec the reload by it."""
    before = time.monotonic_ns() // 1000
    Notifier({"NOTIFY_SOCKET": manager.address}).reloading()
    (datagram,) = manager.heard()
    word, instant = datagram.split("\n")
    assert word == "RELOADING=1"
    name, value = instant.split("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_the_same_status_is_sent_once(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    for sentence in ("a", "a", "b", "a"):
        notifier.status(sentence)
    assert manager.heard() == ["STATUS=a", "STATUS=b", "STATUS=a"]


def test_without_a_socket_nobody_listens_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object, **__: object) -> socket.socket:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    for environment in ({}, {"NOTIFY_SOCKET": ""}):
        notifier = Notifier(environment)
        assert not notifier
        for tell in EVERYTHING:
            tell(notifier)


def test_a_manager_that_is_gone_or_was_never_there_is_not_our_error(manager: Manager, tmp_path: Path) -> None:
    gone = Notifier({"NOTIFY_SOCKET": manager.address})
    manager.socket.close()
    for notifier in (
        gone,
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "nothing")}),
        Notifier({"NOTIFY_SOCKET": "vsock"}),
    ):
        for tell in EVERYTHING:
            tell(notifier)


def test_a_manager_that_does_not_read_does_not_hold_us_up(manager: Manager) -> None:
    """The queue of its socket is finite; what does not fit is dropped."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    for _ in range(5_000):
        notifier.alive()
    heard = manager.heard()
    assert 0 < len(heard) < 5_000
    assert set(heard) == {"WATCHDOG=1"}


def test_no_file_descriptor_is_left_behind(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for tell in EVERYTHING * 20:
        tell(notifier)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid() + 1)}, 0.0),
        ({"WATCHDOG_USEC": "0"}, 0.0),
        ({"WATCHDOG_USEC": ""}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
    ],
)
def test_how_long_the_manager_waits_for_a_sign_of_life(environment: dict[str, str], watchdog_s: float) -> None:
    """WATCHDOG_PID names another process where the variables were inherited."""
    assert Notifier(environment).watchdog_s == watchdog_s


def test_a_busy_manager_gets_later_what_lasts_and_a_sign_of_life_first(manager: Manager) -> None:
    """Its queue holds a few datagrams only, and the daemon does not wait for it."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    for _ in range(1000):
        notifier.alive()
    notifier.ready()
    notifier.stopping()
    assert set(manager.heard()) == {"WATCHDOG=1"}
    notifier.alive()
    assert manager.heard() == ["WATCHDOG=1", "READY=1", "STOPPING=1"]


@pytest.mark.parametrize(
    "said", ["bad\nREADY=1\nMAINPID=1", "bad\r\nWATCHDOG=trigger", "bad\x85READY=1", "bad\u2028READY=1", "\x1b[2Jbad"]
)
def test_a_status_is_one_line_whatever_it_quotes(manager: Manager, said: str) -> None:
    Notifier({"NOTIFY_SOCKET": manager.address}).status(said)
    (datagram,) = manager.heard()
    assert len(datagram.splitlines()) == 1
    assert datagram.isprintable()


def test_a_status_of_any_length_and_any_character_never_keeps_a_sign_of_life_back(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    for sentence in ("x" * 400_000, "\ud800"):
        notifier.status(sentence)
        notifier.alive()
    assert manager.heard().count("WATCHDOG=1") == 2


def test_a_datagram_that_can_never_be_sent_is_dropped(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    notifier._send_lasting("X=" + "x" * 10_000_000)
    notifier.ready()
    notifier.alive()
    assert manager.heard() == ["READY=1", "WATCHDOG=1"]
