"""The sockets that the endpoint listens on: opened here, or handed over by systemd; and the end of a connection.

Owns the mode of a unix socket and the protocol of LISTEN_FDS. Must not read a request.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import trio

from backfilld.core.serving.addresses import Address, HandedOver, TcpAddress, UnixAddress

BACKLOG = 128
_FIRST_HANDED = 3
_GROUP_MASK = 0o117
"""A unix socket is for its user and its group: 0660."""


def open_listener(address: Address, name: str, environment: Mapping[str, str] = os.environ) -> trio.SocketListener:
    """Listen there. ``name`` is ``api`` or ``streams``, the name that systemd gives its sockets. Raises OSError."""
    match address:
        case TcpAddress(host, port):
            return _listening(_bound_tcp(host, port))
        case UnixAddress(path):
            return _listening(_bound_unix(path))
        case HandedOver():
            return _listening(_handed_over(name, environment))


def close_listener(address: Address, listener: trio.SocketListener) -> None:
    """Listen no more; a unix socket of ours leaves the file system."""
    listener.socket.close()
    if isinstance(address, UnixAddress):
        with suppress(OSError):
            Path(address.path).unlink()


def abort(stream: trio.SocketStream) -> None:
    """End a connection at once, whatever is still to be sent: a task that waits for its socket then goes on."""
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


def _listening(bound: socket.socket) -> trio.SocketListener:
    bound.listen(BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(bound))


def _bound_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
    except OSError:
        opened.close()
        raise
    return opened


def _bound_unix(path: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(_GROUP_MASK)
    try:
        _unlink_stale(path)
        opened.bind(path)
    except OSError:
        opened.close()
        raise
    finally:
        os.umask(mask)
    return opened


def _unlink_stale(path: str) -> None:
    """Remove the socket of a process that is gone. Raises OSError for one that answers, and for any other file."""
    if not os.path.lexists(path):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def _handed_over(name: str, environment: Mapping[str, str]) -> socket.socket:
    """The socket of that name; without names the first is ``api``, the second ``streams``."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        raise OSError(errno.ENOTCONN, "systemd handed over no socket: start backfilld.socket")
    count = int(environment.get("LISTEN_FDS", "0"))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    place = names.index(name) if name in names else ("api", "streams").index(name)
    if place >= count:
        raise OSError(errno.ENOTCONN, f"systemd handed over {count} sockets, and none is for {name}")
    # A copy: the endpoint may open it again after a failure.
    return socket.socket(fileno=os.dup(_FIRST_HANDED + place))
