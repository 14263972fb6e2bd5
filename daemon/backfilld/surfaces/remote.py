"""``backfilld push``, ``pull``, ``catalog``, ``status --remote`` and ``verify --remote``: days to a bucket and from
there by hand, and what is there."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from functools import partial

import click

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.model import Instrument
from backfilld.core.replication import DayName
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE, EXIT_TRY_LATER
from backfilld.services.remote import Transfers, days_between, make_manifests, pull_days, push_days
from backfilld.services.remote_status import MARKS, RemoteStatus, bucket_status
from backfilld.services.remote_verify import BucketVerified, Replacement, repair_bucket, verify_bucket
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of
from backfilld.store.layout import instruments_in
from backfilld.store.lock import locked
from backfilld.store.manager import manager_of
from backfilld.surfaces.bar import progress_bar
from backfilld.surfaces.bucket import on_bucket
from backfilld.surfaces.logs import complain
from backfilld.surfaces.words import counted, say


def push(settings: Settings, instruments: Sequence[Instrument] | None) -> int:
    """Push every sealed day of the cache that is not in the bucket; return the exit code."""
    wanted = instruments_in(settings.cache_dir) if instruments is None else instruments

    async def work(days: CachedDaysInBucket) -> Transfers:
        return await push_days(days, wanted, settings.remote_concurrent)

    return _report("pushed", on_bucket(settings, work, writes=True))


def pull(settings: Settings, instruments: Sequence[Instrument], first: date, last: date) -> int:
    """Put the days that the bucket has into the cache, where they are not sealed yet; return the exit code."""
    names = days_between(instruments, first, last)

    async def work(days: CachedDaysInBucket) -> Transfers:
        sealed = {name for each in instruments for name in _sealed(settings, each)}
        return await pull_days(days, names, settings.remote_concurrent, is_sealed=sealed.__contains__)

    with locked(settings.cache_dir):
        return _report("pulled", on_bucket(settings, work))


def catalog(settings: Settings, instruments: Sequence[Instrument] | None) -> int:
    """Make the manifests anew from the certificates in the bucket; return the exit code."""

    async def work(days: CachedDaysInBucket) -> Transfers:
        return await make_manifests(days, instruments, settings.remote_concurrent)

    return _report("in the manifests", on_bucket(settings, work, writes=True))


def status(settings: Settings, instruments: Sequence[Instrument] | None, *, as_json: bool) -> None:
    """Print which days the bucket has, beside the cache. Raises RemoteError."""

    async def work(days: CachedDaysInBucket) -> list[RemoteStatus]:
        return await bucket_status(days, settings.cache_dir, instruments)

    found = on_bucket(settings, work)
    if as_json:
        document = {"remote_url": settings.remote_url, "instruments": [asdict(each) for each in found]}
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for each in found:
        counts = ", ".join(f"{count:,} {mark}" for mark, count in each.days.items()) or "no day"
        say(f"{each.instrument}: {counts}; {counted(each.trades, 'trade')}, {each.bytes:,} bytes in the bucket")
        if each.lag:
            say(f"  the manifest lags by {counted(each.lag, 'day')}, whose trades are not counted; run catalog")
        for month, drawn in each.calendar.items():
            click.echo(f"  {month}  {drawn}")
    words = "  ".join(f"{character} {mark}" for mark, character in MARKS.items())
    say(words if found else f"{settings.remote_url} has no days, and neither has {settings.cache_dir}")


def verify(
    settings: Settings, instruments: Sequence[Instrument] | None, *, deep: bool, repair: bool, as_json: bool
) -> int:
    """Verify the bucket, and with ``repair`` replace what is wrong and verify again; return the exit code."""
    concurrent, done = settings.remote_concurrent, list[Replacement]()

    async def work(days: CachedDaysInBucket) -> BucketVerified:
        with progress_bar(quiet=as_json) as watch:
            look = partial(verify_bucket, days, instruments, concurrent, deep=deep, watch=watch)
            found = await look()
            if repair and found.findings and found.error is None:
                done.extend(await repair_bucket(days, found, deep=deep))
                found = await look()
            return found

    found = on_bucket(settings, work, writes=repair)
    _print_verified(settings, found, done, as_json=as_json)
    if found.left:
        complain(f"{counted(len(found.left), 'day')} left for later: {found.error}")
        return EXIT_TRY_LATER
    return EXIT_INCOMPLETE if found.findings else EXIT_DONE


def _print_verified(settings: Settings, found: BucketVerified, done: list[Replacement], *, as_json: bool) -> None:
    findings = [(str(each.instrument), each.day.isoformat(), each.kind, each.sentence) for each in found.findings]
    if as_json:
        names = ("instrument", "day", "kind", "sentence")
        document = {
            "remote_url": settings.remote_url,
            "days": len(found.days),
            "findings": [dict(zip(names, each, strict=True)) for each in findings],
            "remarks": found.remarks,
            "repairs": [{"instrument": str(each.instrument), "day": each.day.isoformat(), "is_done": each.is_done,
                         "sentence": each.sentence} for each in done],
        }  # fmt: skip
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for step in done:
        say(f"{step.instrument} {step.day}: {step.sentence}")
    for line in (*(f"{whose} {day}: {kind}: {sentence}" for whose, day, kind, sentence in findings), *found.remarks):
        say(line)
    outcome = counted(len(findings), "finding") if findings else "every object is what it claims"
    say(f"{counted(len(found.days), 'day')} in {settings.remote_url}: {outcome}")


def _sealed(settings: Settings, instrument: Instrument) -> list[DayName]:
    manager = manager_of(settings.cache_dir, instrument, encoding_of(settings))
    known = ((day, manager.known(day)) for day in manager.days())
    return [(instrument, day) for day, record in known if record is not None and record.sealed]


def _report(deed: str, found: Transfers) -> int:
    """Say what was done and what was not; the exit code of it."""
    say(f"{counted(len(found.done), 'day')} {deed}, {len(found.stored)} were there already")
    for instrument, day in found.conflicted:
        say(f"{instrument} {day}: the bucket has other rows; nothing was overwritten", err=True)
    for (instrument, day), reason in found.refused:
        say(f"{instrument} {day}: refused, {reason}", err=True)
    if found.left:
        complain(f"{counted(len(found.left), 'day')} left for later: {found.error}")
        return EXIT_TRY_LATER
    return EXIT_INCOMPLETE if found.conflicted or found.refused else EXIT_DONE
