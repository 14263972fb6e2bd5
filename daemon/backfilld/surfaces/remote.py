"""``backfilld push``, ``pull`` and ``catalog``: days to a bucket and from there, by hand."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import date

import click
import trio

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.assembly import remote_days
from backfilld.core.model import Instrument
from backfilld.core.replication import DayName
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE, EXIT_TRY_LATER, DayLocked, StoreError
from backfilld.services.remote import Transfers, days_between, make_manifests, pull_days, push_days
from backfilld.services.status import managers
from backfilld.settings import Settings
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.layout import instruments_in
from backfilld.store.lock import locked
from backfilld.surfaces.words import counted


def push(settings: Settings, instruments: Sequence[Instrument] | None) -> int:
    """Push every sealed day of the cache that is not in the bucket; return the exit code."""
    wanted = instruments_in(settings.cache_dir) if instruments is None else instruments

    async def work(days: CachedDaysInBucket) -> Transfers:
        return await push_days(days, wanted, settings.remote_concurrent)

    return _report("pushed", _run(settings, work))


def pull(settings: Settings, instruments: Sequence[Instrument], first: date, last: date) -> int:
    """Put the days that the bucket has into the cache, where they are not sealed yet; return the exit code."""
    names = days_between(instruments, first, last)

    async def work(days: CachedDaysInBucket) -> Transfers:
        sealed = {name for each in instruments for name in _sealed(settings, each)}
        return await pull_days(days, names, settings.remote_concurrent, is_sealed=sealed.__contains__)

    with locked(settings.cache_dir):
        return _report("pulled", _run(settings, work))


def catalog(settings: Settings, instruments: Sequence[Instrument] | None) -> int:
    """Make the manifests anew from the certificates in the bucket; return the exit code."""

    async def work(days: CachedDaysInBucket) -> Transfers:
        return await make_manifests(days, instruments, settings.remote_concurrent)

    return _report("in the manifests", _run(settings, work))


def _run(settings: Settings, work: Callable[[CachedDaysInBucket], Awaitable[Transfers]]) -> Transfers:
    async def main() -> Transfers:
        days = remote_days(settings)
        await days.probe()
        return await work(days)

    return trio.run(main)


def _sealed(settings: Settings, instrument: Instrument) -> list[DayName]:
    found = []
    for manager in managers(settings.cache_dir, [instrument]):
        for day in manager.days():
            with suppress(UntrustedFile, StoreError, DayLocked):
                if manager.facts(day).sealed:
                    found.append((instrument, day))
    return found


def _report(deed: str, found: Transfers) -> int:
    """Say what was done and what was not; the exit code of it."""
    click.echo(f"{counted(len(found.done), 'day')} {deed}, {len(found.stored)} were there already")
    for instrument, day in found.conflicted:
        click.echo(f"{instrument} {day}: the bucket has other rows; nothing was overwritten", err=True)
    for (instrument, day), reason in found.refused:
        click.echo(f"{instrument} {day}: refused, {reason}", err=True)
    if found.left:
        print(f"backfilld: {counted(len(found.left), 'day')} left for later: {found.error}", file=sys.stderr)
        return EXIT_TRY_LATER
    return EXIT_INCOMPLETE if found.conflicted or found.refused else EXIT_DONE
