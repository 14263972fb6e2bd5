"""Signals: the first one asks to stop, the second one cancels."""

import os
import signal

import pytest
import trio
from structlog.testing import capture_logs

from backfilld.surfaces.signals import watch_signals


def ignored() -> None:
    """Nothing is to be read again."""


async def test_the_first_signal_sets_stop_and_cancels_nothing() -> None:
    stop, received = trio.Event(), list[str]()
    with trio.fail_after(10), capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, stop, trio.CancelScope(), received, ignored)
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
            nursery.cancel_scope.cancel()
    assert received == ["SIGTERM"]
    assert [(event["event"], event["signal"]) for event in logs] == [("stop_requested", "SIGTERM")]


@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
)
async def test_the_second_signal_of_either_kind_cancels_at_once(numbers: tuple[signal.Signals, signal.Signals]) -> None:
    stop, received, scope = trio.Event(), list[str](), trio.CancelScope()
    with trio.fail_after(10), capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, stop, scope, received, ignored)
            with scope:
                os.kill(os.getpid(), numbers[0])
                await stop.wait()
                os.kill(os.getpid(), numbers[1])
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert received == [number.name for number in numbers]
    assert [event["event"] for event in logs] == ["stop_requested", "stopped_at_once"]


async def test_it_counts_as_started_only_when_signals_are_caught() -> None:
    """And gives them back at its end."""
    before = signal.getsignal(signal.SIGTERM)
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, trio.Event(), trio.CancelScope(), [], ignored)
        assert signal.getsignal(signal.SIGTERM) != before
        nursery.cancel_scope.cancel()
    assert signal.getsignal(signal.SIGTERM) == before
