"""The commands of a fleet: many machines fill one bucket (REMOTE_URL). They need the extra [fleet]."""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from backfilld.surfaces.options import DAY, options, settings_of

F = TypeVar("F", bound=Callable[..., Any])


@click.group(short_help="Fill a bucket by many machines.")
def fleet() -> None:
    """Fill a bucket (REMOTE_URL) with past days by many machines, on Dask. It costs no request weight."""


def _span(command: F) -> F:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table."),
        click.option("--instruments", "names", multiple=True, required=True, help="market:SYMBOL, market:* or @FILE."),
        click.option("--to", "last", required=True, type=DAY, help="The last UTC day."),
        click.option("--from", "first", required=True, type=DAY, help="The first UTC day."),
    ):
        command = option(command)
    return command


@fleet.command(short_help="Show the tasks and what they take.")
@options("config", "cache-dir")
@_span
def plan(
    config: Path | None,
    cache_dir: str | None,
    first: datetime,
    last: datetime,
    names: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Show the tasks, a month of an instrument each, from the archive's own listing."""
    from backfilld.surfaces.fleet import names_of, print_plan  # noqa: PLC0415

    settings = settings_of(config, (), cache_dir)
    print_plan(settings, names_of(names), first.date(), last.date(), as_json=as_json)


@fleet.command(short_help="Fill the bucket.")
@options("config", "cache-dir")
@_span
@click.option("--scheduler", default="", help="tcp://HOST:8786 or tls://; without it, here, one task after the other.")
@click.option("--rest", "uses_rest", is_flag=True, help="Ask REST for what the archive leaves open.")
def fill(
    config: Path | None,
    cache_dir: str | None,
    first: datetime,
    last: datetime,
    names: tuple[str, ...],
    scheduler: str,
    *,
    uses_rest: bool,
    as_json: bool,
) -> None:
    """Fill the bucket; what is there is skipped, and nothing is overwritten.

    Exit codes: 0 every day that the archive lists is sealed and joins; 1 names what is not; 75 the bucket, the archive
    or the scheduler is out of reach; 78 a setting is wrong.
    """
    from backfilld.surfaces.fleet import fill as fill_bucket  # noqa: PLC0415
    from backfilld.surfaces.fleet import names_of  # noqa: PLC0415

    settings, wanted = settings_of(config, (), cache_dir), names_of(names)
    sys.exit(fill_bucket(settings, wanted, first.date(), last.date(), scheduler, uses_rest=uses_rest, as_json=as_json))


@fleet.command(short_help="Show what the manifests name.")
@options("config", "cache-dir")
@click.option("--instruments", "names", multiple=True, help="market:SYMBOL, market:* or @FILE; all if not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def status(config: Path | None, cache_dir: str | None, names: tuple[str, ...], *, as_json: bool) -> None:
    """Show what the bucket's manifests name, by instrument."""
    from backfilld.surfaces.fleet import names_of, print_status  # noqa: PLC0415

    print_status(settings_of(config, (), cache_dir), names_of(names) if names else None, as_json=as_json)


@fleet.command(short_help="Work for a scheduler.", context_settings={"ignore_unknown_options": True})
@options("config", "cache-dir")
@click.option("--scheduler", required=True, help="tcp://HOST:8786 or tls://HOST:8786.")
@click.argument("dask_options", nargs=-1, type=click.UNPROCESSED)
def worker(config: Path | None, cache_dir: str | None, scheduler: str, dask_options: tuple[str, ...]) -> None:
    """Work for a scheduler, one worker per machine, until SIGTERM; further options are Dask's own (--tls-ca-file ...).

    Exit codes: 0 stopped; 75 a worker runs on this machine already; 78 a setting is wrong.
    """
    from backfilld.surfaces.fleet_worker import work  # noqa: PLC0415

    sys.exit(work(settings_of(config, (), cache_dir), scheduler, dask_options))
