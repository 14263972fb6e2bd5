"""Running a pipeline as a process: signals around it, progress beside it, a summary after it, an exit code out of
it."""

import sys
from collections.abc import Callable
from functools import partial

import trio
from trio_util import move_on_when

from backfilld.adapters.systemd import Notifier
from backfilld.assembly import Assembly, assembled
from backfilld.core.backfill.outcome import Outcome, overall_exit_code
from backfilld.core.timespan import TimeSpan
from backfilld.errors import EXIT_DONE, EXIT_TRY_LATER
from backfilld.settings import Settings
from backfilld.supervisor import Pipeline, cause_of, run_pipeline
from backfilld.supervisor_remote import Remote
from backfilld.surfaces.endpoint import refuse_without_extra, serves
from backfilld.surfaces.logs import complain
from backfilld.surfaces.service import Service
from backfilld.surfaces.signals import watch_signals


async def run_daemon(
    settings: Settings, *, once: bool, read_settings: Callable[[], Settings], window: TimeSpan | None = None
) -> int:
    """Run until the spec is done or a signal ends it; return the exit code. Raises BackfillError.

    ``window`` is today and DAYS before it, unless it is given. ``read_settings`` reads the settings anew, for SIGHUP.
    What keeps a backfill from being complete is said on stderr, a sentence a reason.
    """
    if not once and serves(settings):
        refuse_without_extra()
    signals: list[str] = []
    outcomes: list[Outcome] = []
    unpushed: str | None = None
    try:
        with assembled(settings, once=once, window=window) as assembly:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(_gather, assembly, outcomes, show=not once))
                service = Service(settings, assembly.pipeline, Notifier(), read_settings)
                unpushed = await _run_attended(settings, assembly.pipeline, service, signals)
    except BaseExceptionGroup as group:
        raise cause_of(group) from None
    if once:
        _show(outcomes)
    code = _conclude(outcomes, signals, once=once)
    if once and unpushed is not None:
        complain(unpushed)
        return EXIT_TRY_LATER if code == EXIT_DONE else code
    return code


async def _run_attended(settings: Settings, pipeline: Pipeline, service: Service, signals: list[str]) -> str | None:
    """Run the pipeline with signals, the service manager and, on a terminal, a progress bar beside it; return what is
    left to push of a single run, as a sentence."""
    unpushed: str | None = None
    is_interrupted = trio.Event()

    def stopping() -> None:
        service.stopping()
        is_interrupted.set()

    async with trio.open_nursery() as nursery:
        scope = nursery.cancel_scope
        await nursery.start(watch_signals, pipeline.stop, scope, signals, service.reload, stopping)
        nursery.start_soon(service.attend)
        if not pipeline.spec.once and serves(settings):
            from backfilld.serving.endpoint import run_endpoint  # noqa: PLC0415 - most daemons serve nobody
            from backfilld.serving.world import World  # noqa: PLC0415

            nursery.start_soon(run_endpoint, World(settings, pipeline))
        if sys.stdout.isatty():
            # Only here is rich imported: a daemon that logs to a pipe starts without it.
            from backfilld.surfaces.progress import show_progress  # noqa: PLC0415

            nursery.start_soon(show_progress, pipeline)
        await run_pipeline(pipeline)
        if pipeline.spec.once and pipeline.remote is not None and pipeline.remote.pushes:
            unpushed = await _push_rest(pipeline, pipeline.remote, is_interrupted)
        nursery.cancel_scope.cancel()
    return unpushed


async def _push_rest(pipeline: Pipeline, remote: Remote, is_interrupted: trio.Event) -> str | None:
    """Push what a single run has sealed and not pushed yet, until a signal; return what is left, as a sentence."""
    from backfilld.services.remote import push_days  # noqa: PLC0415 - most runs have no bucket

    async with move_on_when(is_interrupted.wait) as scope:
        found = await push_days(remote.days, pipeline.spec.instruments, remote.concurrent)
        return f"{len(found.left)} sealed days are not pushed: {found.error}" if found.left else None
    return "the push was interrupted: what is left is pushed the next time" if scope.cancel_called else None


async def _gather(assembly: Assembly, outcomes: list[Outcome], *, show: bool) -> None:
    """Collect the outcomes of the first round; ``show`` them when they are all there."""
    async for outcome in assembly.outcomes:
        outcomes.append(outcome)
        if show and len(outcomes) == len(assembly.pipeline.spec.instruments):
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
            complain(f"{outcome.instrument}: {reason}")
    return overall_exit_code(outcomes)
