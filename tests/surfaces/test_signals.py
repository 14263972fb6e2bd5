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


async def test_sighup_reads_the_settings_again_and_ends_nothing() -> None:
    """Each one that arrives by itself; then SIGTERM ends as ever."""
    stop, received, scope = trio.Event(), list[str](), trio.CancelScope()
    reloads: list[bool] = []
    heard = trio.Event()

    def reload() -> None:
        nonlocal heard
        reloads.append(stop.is_set())
        heard.set()

    with trio.fail_after(10), capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, stop, scope, received, reload)
            for _ in range(3):
                heard = trio.Event()
                os.kill(os.getpid(), signal.SIGHUP)
                await heard.wait()
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
            heard = trio.Event()
            os.kill(os.getpid(), signal.SIGHUP)
            await heard.wait()
            nursery.cancel_scope.cancel()
    assert reloads == [False, False, False, True]
    assert received == ["SIGTERM"], "a SIGHUP in between is no second signal to end"
    assert not scope.cancel_called
    assert [event["event"] for event in logs] == ["stop_requested"]


async def test_whoever_must_know_of_the_end_learns_of_it_before_it_begins() -> None:
    stop = trio.Event()
    calls: list[bool] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            on_stop = lambda: calls.append(stop.is_set())  # noqa: E731 - shorter than what it would take
            await nursery.start(watch_signals, stop, trio.CancelScope(), [], ignored, on_stop)
            os.kill(os.getpid(), signal.SIGINT)
            await stop.wait()
            nursery.cancel_scope.cancel()
    assert calls == [False]


async def test_a_sighup_in_the_last_moments_does_not_end_the_process() -> None:
    """Its default would, after the receiver has gone and before the interpreter has: with a failure for all that was
    done well."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals, trio.Event(), trio.CancelScope(), [], ignored)
        nursery.cancel_scope.cancel()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
