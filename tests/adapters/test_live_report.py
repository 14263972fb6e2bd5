"""What a running daemon says of its live side, asked by its socket without an event loop."""

import socket
from pathlib import Path

import pytest
import trio

from backfilld.adapters import live_report
from backfilld.adapters.live_report import SOCKET_NAME, LiveInstrumentReport, ask_report
from backfilld.adapters.live_socket import serve_live
from backfilld.core.live.reports import LiveInstrument, LiveStatistics
from tests.fakes import BTC, ETH

LIVE = LiveStatistics(
    {BTC: LiveInstrument(True, lag_ms=12.5), ETH: LiveInstrument(False, hole_since_s=3.0)}, 12.5, 2, 5, 4, 1
)


async def test_the_report_is_that_of_this_moment(tmp_path: Path, nursery: trio.Nursery) -> None:
    directory = tmp_path / ("deep" * 60)
    shown = [LiveStatistics(), LIVE]
    nursery.start_soon(serve_live, directory, lambda *_: "nothing is followed", shown.pop)
    with trio.fail_after(10):
        while not (directory / SOCKET_NAME).exists():
            await trio.sleep(0.01)
    report = await trio.to_thread.run_sync(ask_report, directory)
    assert report is not None
    assert (report.text, report.attached, report.lag_ms, report.connects) == (LIVE.text, 1, 12.5, 2)
    assert (report.holes_found, report.holes_healed, report.holes_given_up) == (5, 4, 1)
    assert report.instruments == {
        str(BTC): LiveInstrumentReport(True, 12.5),
        str(ETH): LiveInstrumentReport(False, None, 3.0),
    }
    nothing = await trio.to_thread.run_sync(ask_report, directory)
    assert nothing is not None
    assert nothing.instruments == {}


def test_where_nobody_answers_there_is_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_report, "ANSWER_WITHIN_S", 0.05)
    assert ask_report(tmp_path / "absent") is None
    assert ask_report(tmp_path) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stuck:
        stuck.bind(str(tmp_path / SOCKET_NAME))
        stuck.listen()
        with pytest.raises(TimeoutError):
            ask_report(tmp_path)
