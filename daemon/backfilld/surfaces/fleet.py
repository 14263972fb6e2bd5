"""``backfilld fleet``: plan, fill and status in words or JSON; and the worker of a machine."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.fleet import FleetPlan, FleetTask, MonthFilled
from backfilld.core.model import Instrument
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE, ObjectRefused, SettingsError
from backfilld.ports.fleet import Cluster
from backfilld.services.fleet import FleetFilled, OneByOne, run_tasks
from backfilld.services.fleet_catalog import Catalogued, catalogue, missing_tasks
from backfilld.services.fleet_month import FleetSpec, fill_month
from backfilld.services.fleet_plan import instruments_named, plan_fleet
from backfilld.settings import Settings
from backfilld.surfaces.bar import progress_bar
from backfilld.surfaces.bucket import on_bucket
from backfilld.surfaces.words import counted, say

if TYPE_CHECKING:
    from backfilld.adapters.dask_cluster import DaskCluster

OF_A_MACHINE = {"cache_dir", "state_dir", "key_file", "log_format", "log_level", "config", "instruments", "api_listen",
                "stream_listen"}  # fmt: skip
"""The settings that each machine has of its own; a fleet sends all others along."""

REPORT_S, WAITING_S = 5.0, 15.0
"""How often the progress of a fleet is reported, and that it waits while no task ends."""


def names_of(given: Sequence[str]) -> list[str]:
    """The names of instruments; ``@FILE`` stands for those in a file. Raises SettingsError."""
    found: list[str] = []
    for each in given:
        if not each.startswith("@"):
            found += each.replace(",", " ").split()
            continue
        try:
            lines = Path(each[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--instruments {each}: the file cannot be read ({error})") from None
        found += [name for line in lines for name in line.partition("#")[0].replace(",", " ").split()]
    if not found:
        raise SettingsError("--instruments: name at least one instrument, such as spot:BTCUSDT or spot:*, or @FILE")
    return found


def print_plan(settings: Settings, names: Sequence[str], first: date, last: date, *, as_json: bool) -> None:
    """Print the tasks and what they take."""
    plan, _ = _planned(settings, names, first, last, quiet=as_json)
    if as_json:
        click.echo(json.dumps(_document(plan), ensure_ascii=False))
        return
    for task in plan.tasks[:20]:
        say(f"{task.name}: {counted(task.mask.bit_count(), 'day')}, {task.bytes:,} bytes")
    if len(plan.tasks) > 20:  # noqa: PLR2004 - what fits a screen
        say(f"and {len(plan.tasks) - 20:,} tasks more; --json has them all")
    say(_summary(plan))


def fill(
    settings: Settings, names: Sequence[str], first: date, last: date, scheduler: str, *, uses_rest: bool, as_json: bool
) -> int:
    """Fill the bucket, by the workers of a scheduler or one task after the other here; return the exit code."""
    if not settings.remote_url:
        raise SettingsError("remote_url is empty: a fleet fills a bucket, such as s3://BUCKET/PREFIX")
    if scheduler:
        _dask()  # a missing extra is said before anything is asked
    began = time.monotonic()
    plan, instruments = _planned(settings, names, first, last, quiet=as_json)
    tasks, there = on_bucket(settings, lambda days: missing_tasks(days, plan.tasks, settings.remote_concurrent))
    _say(f"{_summary(plan)}; {counted(there, 'day')} there already", quiet=as_json)
    spec = FleetSpec(shared_settings(settings), uses_rest)
    filled = _run(scheduler, spec, tasks, quiet=as_json)
    found = on_bucket(settings, lambda days: catalogue(days, instruments, settings.remote_concurrent), writes=True)
    unsealed = _unsealed(plan, filled, found)
    _report(settings, filled, found, unsealed, there, time.monotonic() - began, as_json=as_json)
    return EXIT_INCOMPLETE if unsealed or _chain(found) else EXIT_DONE


def print_status(settings: Settings, names: Sequence[str] | None, *, as_json: bool) -> None:
    """Print what the manifests name, by instrument."""

    async def look(days: CachedDaysInBucket) -> list[dict[str, object]]:
        wanted = await days.instruments() if names is None else await instruments_named(settings, names)
        return [await _state(days, each) for each in wanted]

    found = on_bucket(settings, look)
    if as_json:
        click.echo(json.dumps({"remote_url": settings.remote_url, "instruments": found}, ensure_ascii=False))
        return
    for each in found:
        if not each["days"]:
            say(f"{each['instrument']}: {each['reason']}")
            continue
        figures = f"{each['trades']:,} trades, {each['bytes']:,} bytes"
        say(f"{each['instrument']}: {each['days']} days, {each['first']} to {each['last']}, "
            f"{each['unjoined']} gaps; {figures}")  # fmt: skip


def shared_settings(settings: Settings) -> dict[str, object]:
    """The settings that were given, without those of a machine of its own."""
    given = {name for name in type(settings).model_fields if settings.source_of(name) != "default"}
    return {name: getattr(settings, name) for name in sorted(given - OF_A_MACHINE)}


async def _state(days: CachedDaysInBucket, instrument: Instrument) -> dict[str, object]:
    try:
        lines = await days.manifest(instrument)
    except ObjectRefused as reason:
        return {"instrument": str(instrument), "days": 0, "reason": str(reason)}
    if not lines:
        return {"instrument": str(instrument), "days": 0, "reason": "no manifest in the bucket"}
    ordered = [lines[day] for day in sorted(lines)]
    return {
        "instrument": str(instrument),
        "days": len(ordered),
        "first": ordered[0].day.isoformat(),
        "last": ordered[-1].day.isoformat(),
        "unjoined": sum(earlier.next_first_id != later.first_id for earlier, later in pairwise(ordered)),
        "trades": sum(each.rows for each in ordered),
        "bytes": sum(each.bytes for each in ordered),
    }


def _planned(
    settings: Settings, names: Sequence[str], first: date, last: date, *, quiet: bool
) -> tuple[FleetPlan, list[Instrument]]:
    if first > last:
        raise SettingsError(f"--from {first} is after --to {last}")

    async def main() -> tuple[FleetPlan, list[Instrument]]:
        instruments = await instruments_named(settings, names)
        with progress_bar(quiet=quiet) as watch:
            return await plan_fleet(settings, instruments, first, last, watch), instruments

    return trio.run(main)


def _run(scheduler: str, spec: FleetSpec, tasks: Sequence[FleetTask], *, quiet: bool) -> FleetFilled:
    progress = _Progress(tasks, quiet)
    if not scheduler:
        return run_tasks(OneByOne(lambda task: fill_month(task, spec)), tasks, progress.add)
    cluster = _dask()(scheduler, fill_month, (spec,))
    try:
        return run_tasks(cluster, tasks, progress.add, lambda: progress.look(cluster, scheduler))
    finally:
        cluster.close()


def _dask() -> "type[DaskCluster]":
    try:
        from backfilld.adapters.dask_cluster import DaskCluster  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise SettingsError(f"--scheduler needs the extra [fleet]: pip install 'backfilld[fleet]' ({error})") from None
    return DaskCluster


@dataclass(slots=True)
class _Progress:
    """Reports days and bytes, now and then."""

    tasks: Sequence[FleetTask]
    quiet: bool
    days: int = 0
    bytes: int = 0
    began_s: float = field(default_factory=time.monotonic)
    said_s: float = field(default_factory=time.monotonic)

    def add(self, done: MonthFilled) -> None:
        """A task is done."""
        self.days += done.task.mask.bit_count()
        self.bytes += done.task.bytes
        now = time.monotonic()
        if now - self.said_s < REPORT_S:
            return
        self.said_s = now
        every, size = sum(each.mask.bit_count() for each in self.tasks), sum(each.bytes for each in self.tasks)
        left_s = (now - self.began_s) * (size - self.bytes) / max(1, self.bytes)
        _say(f"{self.days:,} of {every:,} days, {self.bytes:,} of {size:,} bytes, about {left_s / 60:.0f} min left",
             quiet=self.quiet)  # fmt: skip

    def look(self, cluster: Cluster, scheduler: str) -> None:
        """Report what is waited for, if nothing was reported for a while."""
        now = time.monotonic()
        if now - self.said_s < WAITING_S:
            return
        self.said_s = now
        if not cluster.workers:
            _say(f"{scheduler} has no worker: start one on each machine, by backfilld fleet worker", quiet=self.quiet)
            return
        every = sum(each.mask.bit_count() for each in self.tasks)
        _say(f"{self.days:,} of {every:,} days; {counted(cluster.in_hand, 'task')} with "
             f"{counted(cluster.workers, 'worker')}", quiet=self.quiet)  # fmt: skip


def _unsealed(plan: FleetPlan, filled: FleetFilled, found: Catalogued) -> list[tuple[str, str]]:
    """What is planned and not in the bucket, with the reason where it is known."""
    reasons = dict(filled.unsealed)
    wanted = ((task, day) for task in plan.tasks for day in task.days)
    missing = [f"{task.instrument} {day}" for task, day in wanted if day not in found.days.get(task.instrument, {})]
    conflicts = {f"{each.task.instrument} {day}" for each in filled.done for day in each.conflicted}
    names = sorted({*missing, *conflicts})
    by_task = {task.name: reason for task, reason in filled.failed}
    return [(name, reasons.get(name) or by_task.get(name[:-3]) or "not filled") for name in names]


def _chain(found: Catalogued) -> list[str]:
    return [f"{each.instrument} {each.day}: {each.kind}: {each.sentence}" for each in found.findings]


def _report(
    settings: Settings, filled: FleetFilled, found: Catalogued, unsealed: Sequence[tuple[str, str]], there: int,
    seconds: float, *, as_json: bool,
) -> None:  # fmt: skip
    pushed = sum(len(each.pushed) for each in filled.done)
    stored = there + sum(len(each.stored) for each in filled.done)
    size, weight = sum(each.bytes for each in filled.done), sum(each.weight for each in filled.done)
    if as_json:
        document = {
            "remote_url": settings.remote_url, "pushed": pushed, "stored": stored, "downloaded_bytes": size,
            "weight": weight, "seconds": round(seconds, 1), "tries_lost": filled.tries,
            "unsealed": [{"day": name, "reason": reason} for name, reason in unsealed], "findings": _chain(found),
        }  # fmt: skip
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for name, reason in unsealed:
        say(f"{name}: not sealed: {reason}", err=True)
    for line in _chain(found):
        say(line, err=True)
    say(
        f"{counted(pushed, 'day')} pushed, {stored:,} there already, {len(unsealed):,} not sealed; {size:,} bytes "
        f"downloaded, request weight {weight}, {seconds:.1f} s"
    )


def _document(plan: FleetPlan) -> dict[str, object]:
    return {
        "files": plan.files,
        "bytes": plan.bytes,
        "core_hours": round(plan.core_hours, 3),
        "tasks": [
            {"instrument": str(task.instrument), "month": f"{task.month:%Y-%m}", "days": task.mask.bit_count(),
             "bytes": task.bytes} for task in plan.tasks
        ],
    }  # fmt: skip


def _summary(plan: FleetPlan) -> str:
    hours = f"about {plan.core_hours:.1f} core hours"
    return f"{counted(len(plan.tasks), 'task')}, {counted(plan.files, 'day')}, {plan.bytes:,} bytes of zips, {hours}"


def _say(sentence: str, *, quiet: bool) -> None:
    if not quiet:
        say(sentence, err=True)
