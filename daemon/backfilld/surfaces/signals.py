"""SIGTERM and SIGINT: the first one drains, the second one cancels at once."""

import signal

import structlog
import trio

log = structlog.get_logger()


async def watch_signals(
    stop: trio.Event,
    scope: trio.CancelScope,
    received: list[str],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Set ``stop`` on the first signal, cancel ``scope`` on the second; names are added to ``received``.

    Counts as started once the signals are caught.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            received.append(signal.Signals(number).name)
            if len(received) > 1:
                log.warning("stopped_at_once", signal=received[-1])
                scope.cancel()
                return
            log.info("stop_requested", signal=received[-1])
            stop.set()
