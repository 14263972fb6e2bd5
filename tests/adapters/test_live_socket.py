"""The daemon's live trades by its socket: what a client hears while nothing is traded, and from a frozen daemon."""

import shutil
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from backfilld.actors.live_messages import Beginning, Ended, Frame
from backfilld.adapters import live_socket
from backfilld.core.model import Instrument

BTC = Instrument.parse("spot:BTCUSDT")


async def test_a_client_hears_from_a_daemon_however_long_nothing_is_traded(autojump_clock: MockClock) -> None:
    frames, channel = trio.open_memory_channel[Frame](1)
    server = live_socket._Server(lambda _, __: channel, lambda: None)  # type: ignore[arg-type, return-value]
    theirs, ours = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, theirs)  # type: ignore[arg-type]
        await ours.send_all(b'{"instrument": "spot:BTCUSDT"}\n')
        nursery.start_soon(partial(later, frames))
        got = [frame async for frame in live_socket._frames(ours, BTC)]  # type: ignore[arg-type]
    assert got == [Beginning(7), Ended(7, "enough")]
    assert trio.current_time() >= 7_200


async def test_a_directory_that_is_gone_is_no_failure_at_the_end(tmp_path: Path) -> None:
    """The socket went with it."""
    directory = tmp_path / "state"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(live_socket.serve_live, directory, lambda _, __: "", lambda: None))  # type: ignore[arg-type, return-value]
        await wait_all_tasks_blocked()
        shutil.rmtree(directory)
        nursery.cancel_scope.cancel()
    assert not directory.exists()


async def test_a_socket_that_is_seen_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    listen = socket.socket.listen

    def watched(self: socket.socket, backlog: int) -> None:
        seen.append((tmp_path / "live.sock").exists())
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", watched)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(live_socket.serve_live, tmp_path, lambda _, __: "nobody", lambda: None))  # type: ignore[arg-type, return-value]
        await wait_all_tasks_blocked()
        async with live_socket.connect_live(tmp_path, BTC, None) as frames:
            assert frames is not None
        nursery.cancel_scope.cancel()
    assert seen == [False]
    assert list(tmp_path.iterdir()) == []


async def later(frames: Any) -> None:
    for frame in (Beginning(7), Ended(7, "enough")):
        await trio.sleep(3600)
        await frames.send(frame)


@pytest.mark.parametrize(
    ("sent", "reason", "after_s"),
    [
        (b"", live_socket.STILL, live_socket.STILL_S),
        (b"\0\0", live_socket.STILL, live_socket.STILL_S),
        (b"\0\0\0\3abc", live_socket.NONSENSE, 0),
        (b"\xff\xff\xff\xff", live_socket.NONSENSE, 0),
    ],
    ids=["nothing", "half a length", "no message", "too long"],
)
async def test_what_cannot_go_on_ends_in_time(
    sent: bytes, reason: str, after_s: float, autojump_clock: MockClock
) -> None:
    theirs, ours = memory_stream_pair()
    await theirs.send_all(sent)
    with pytest.raises(EOFError, match=reason):
        await anext(live_socket._frames(ours, BTC))  # type: ignore[arg-type]
    assert trio.current_time() == pytest.approx(after_s)
