"""Signals: the first SIGTERM or SIGINT drains, the second one cancels at once; SIGHUP reads the settings again."""

import signal
from collections.abc import Callable

import structlog
import trio

log = structlog.get_logger()


async def watch_signals(
    stop: trio.Event,
    scope: trio.CancelScope,
    received: list[str],
    on_reload: Callable[[], None],
    on_stop: Callable[[], None] = lambda: None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Set ``stop`` on the first signal to end, after ``on_stop``, and cancel ``scope`` on the second; their names are
    added to ``received``. ``on_reload`` is called for SIGHUP; several in a row may be one; afterwards it is ignored.

    Counts as started once the signals are caught.
    """
    # One that comes when these are caught no more, in the last moments, would end the process by its default.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                on_reload()
                continue
            received.append(signal.Signals(number).name)
            if len(received) > 1:
                log.warning("stopped_at_once", signal=received[-1])
                scope.cancel()
                return
            log.info("stop_requested", signal=received[-1])
            on_stop()
            stop.set()
