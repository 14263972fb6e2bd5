"""Running a pipeline as a process: signals around it, progress beside it, a summary after it, an exit code out of
it."""

import sys

import trio

from backfilld.assembly import assembled
from backfilld.core.outcome import EXIT_DONE, EXIT_INCOMPLETE, Outcome, overall_exit_code
from backfilld.settings import Settings
from backfilld.supervisor import run_pipeline
from backfilld.surfaces.signals import watch_signals


async def run_daemon(settings: Settings, *, once: bool) -> int:
    """Run until the orders are done or a signal ends it; return the exit code. Raises BackfillError.

    What keeps a backfill from being complete is said on stderr, a sentence a reason.
    """
    signals: list[str] = []
    outcomes: list[Outcome] = []
    with assembled(settings, once=once) as assembly:
        pipeline = assembly.pipeline
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals, pipeline.stop, nursery.cancel_scope, signals)
            nursery.start_soon(_gather, assembly.outcomes, outcomes, len(pipeline.orders.instruments), not once)
            if sys.stdout.isatty():
                # Only here is rich imported: a daemon that logs to a pipe starts without it.
                from backfilld.surfaces.progress import show_progress  # noqa: PLC0415

                nursery.start_soon(show_progress, pipeline)
            await run_pipeline(pipeline)
            nursery.cancel_scope.cancel()
        while len(outcomes) < len(pipeline.orders.instruments):
            outcomes.append(assembly.outcomes.receive_nowait())
    if once:
        _show(outcomes)
    return _conclude(outcomes, signals, once=once)


async def _gather(
    arriving: trio.MemoryReceiveChannel[Outcome], outcomes: list[Outcome], count: int, show: bool
) -> None:
    """Collect the outcomes of the first round; ``show`` them when they are all there."""
    while len(outcomes) < count:
        outcomes.append(await arriving.receive())
    if show:
        _show(outcomes)


def _show(outcomes: list[Outcome]) -> None:
    if sys.stdout.isatty():
        from backfilld.surfaces.progress import print_summary  # noqa: PLC0415

        print_summary(outcomes)


def _conclude(outcomes: list[Outcome], signals: list[str], *, once: bool) -> int:
    if signals and not once:
        return EXIT_DONE
    for outcome in outcomes:
        for reason in outcome.reasons:
            print(f"backfilld: {outcome.instrument}: {reason}", file=sys.stderr)
    incomplete = any(not outcome.complete for outcome in outcomes)
    if signals and incomplete:
        print(f"backfilld: stopped by {signals[0]} before the backfill was complete", file=sys.stderr)
        return EXIT_INCOMPLETE
    return overall_exit_code(outcomes)
