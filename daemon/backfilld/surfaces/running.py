"""Running a pipeline as a process: signals around it, progress beside it, a summary after it, an exit code out of
it."""

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import structlog
import trio
from trio_util import move_on_when

from backfilld.adapters.systemd import Notifier
from backfilld.assembly import Assembly, assembled
from backfilld.core.backfill.outcome import Outcome, exit_code, overall_exit_code
from backfilld.core.polling import polling_weights
from backfilld.core.timespan import TimeSpan
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE, EXIT_SETTINGS, EXIT_TRY_LATER, BackfillError
from backfilld.pipeline import Pipeline
from backfilld.settings import Settings
from backfilld.supervisor import cause_of, run_pipeline
from backfilld.supervisor_remote import Remote
from backfilld.surfaces.endpoint import refuse_without_extra, serves
from backfilld.surfaces.logs import RECENT, complain
from backfilld.surfaces.service import Service
from backfilld.surfaces.signals import watch_signals

log = structlog.get_logger()


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
    began = trio.current_time()
    _log_start(settings, once=once)
    try:
        code = await _run(settings, signals, once=once, read_settings=read_settings, window=window)
    except BackfillError as error:
        _log_stop(str(error), exit_code(error), began)
        raise
    _log_stop(_outcome(code, signals, once=once), code, began)
    return code


def _log_start(settings: Settings, *, once: bool) -> None:
    log.info(
        "daemon_started",
        version=version("backfilld"),
        pid=os.getpid(),
        instruments=[str(each) for each in settings.instrument_list()],
        cache_dir=str(settings.cache_dir.absolute()) if settings.cache_enabled else None,
        settings_from=list(settings.sources()),
        once=once,
    )
    polled = () if once else settings.instrument_list()
    for each in polling_weights(polled, settings.poll_seconds, settings.weight_share):
        planned = {"pool": str(each.pool), "instruments": each.instruments, "weight": each.weight}
        if each.is_too_much:
            log.warning("polling_planned", **planned, allowed=each.allowed)
        else:
            log.info("polling_planned", **planned, allowed=each.allowed)


def _log_stop(outcome: str, code: int, began: float) -> None:
    log.info("daemon_stopped", outcome=outcome, exit_code=code, seconds=round(trio.current_time() - began, 3))


def _outcome(code: int, signals: list[str], *, once: bool) -> str:
    if signals and not once:
        return f"stopped by {signals[-1]}"
    if signals and code:
        return f"stopped by {signals[-1]} before it was complete"
    return "complete" if code == EXIT_DONE else "incomplete"


async def _run(
    settings: Settings,
    signals: list[str],
    *,
    once: bool,
    read_settings: Callable[[], Settings],
    window: TimeSpan | None,
) -> int:
    outcomes: list[Outcome] = []
    unpushed: str | None = None
    try:
        with assembled(settings, once=once, window=window, locks_as="command" if once else "daemon") as assembly:
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

            nursery.start_soon(run_endpoint, World(settings, pipeline, warnings=RECENT))
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
    came = [outcome for outcome in outcomes if outcome.complete or outcome.downloaded]
    if came and sys.stdout.isatty():
        from backfilld.surfaces.progress import print_summary  # noqa: PLC0415

        print_summary(came)


def _conclude(outcomes: list[Outcome], signals: list[str], *, once: bool) -> int:
    if signals and not once:
        return EXIT_DONE
    refused = [] if once else [each for each in outcomes if each.exit_code == EXIT_SETTINGS]
    for outcome in refused or outcomes:
        for reason in outcome.reasons:
            complain(f"{outcome.instrument}: {reason}")
    if signals and not all(outcome.complete for outcome in outcomes):
        complain("stopped before it was complete; what came is saved, and the same command goes on from there")
    code = overall_exit_code(outcomes)
    # A daemon ends with 0 only when it is stopped.
    return code if once or code != EXIT_DONE else EXIT_INCOMPLETE
