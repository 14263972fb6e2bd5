"""How a connection of the exchange ends against the client's will.

Owns the reset of a socket. Must not know what the connection was for.
"""

import struct
from socket import SO_LINGER, SOL_SOCKET

import trio

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def abort(stream: trio.SocketStream) -> None:
    """Close at once, with a reset in place of an orderly end."""
    if stream.socket.fileno() >= 0:
        stream.socket.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
    stream.socket.close()
