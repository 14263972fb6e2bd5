"""What a fleet leaves in the bucket: which days are there, manifests that name them all, and whether they join.

A certificate is read only of a day that the manifest does not name as it is: a fleet over what is there costs a listing
and a manifest per instrument.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from backfilld.adapters.bucket_days import RemoteDay
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.day.certificate import Certificate
from backfilld.core.fleet import FleetTask
from backfilld.core.model import Instrument
from backfilld.errors import DayLocked, ObjectRefused
from backfilld.services.side_by_side import side_by_side
from backfilld.store.upkeep.inspection import Finding, Inspected, chain_findings


@dataclass(slots=True)
class Catalogued:
    """The days of each instrument by their certificates, and what is wrong with them and between them."""

    days: dict[Instrument, dict[date, Certificate]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


async def catalogue(days: CachedDaysInBucket, instruments: Sequence[Instrument], at_once: int) -> Catalogued:
    """Bring the manifests up to date, and check how the days join. Raises RemoteError."""
    found = Catalogued()
    await side_by_side(instruments, at_once, lambda each: _catalogue_one(days, each, found))
    found.findings.sort(key=lambda each: (each.instrument, each.day))
    return found


async def missing_tasks(
    days: CachedDaysInBucket, tasks: Sequence[FleetTask], at_once: int
) -> tuple[list[FleetTask], int]:
    """The tasks without the days that the manifests name, and how many those are."""
    there: dict[Instrument, frozenset[date]] = {}

    async def look(instrument: Instrument) -> None:
        there[instrument] = frozenset(await days.named(instrument))

    await side_by_side(dict.fromkeys(task.instrument for task in tasks), at_once, look)
    left = [task.without(there[task.instrument]) for task in tasks]
    count = sum(task.mask.bit_count() for task in tasks) - sum(task.mask.bit_count() for task in left)
    return [task for task in left if task.mask], count


async def _catalogue_one(days: CachedDaysInBucket, instrument: Instrument, found: Catalogued) -> None:
    listed = await days.days(instrument)
    named = await days.named(instrument)
    certificates: dict[date, Certificate] = {}
    is_behind = bool(named.keys() - listed.keys())
    for day, each in sorted(listed.items()):
        line = named.get(day)
        if line is not None and (line.etag, line.bytes) == (each.etag, each.bytes):
            certificates[day] = line.decoded_certificate()
            continue
        is_behind = True
        try:
            there = await days.look(instrument, day)
        except (ObjectRefused, DayLocked) as reason:
            kind = "locked" if isinstance(reason, DayLocked) else "unreadable"
            found.findings.append(Finding(instrument, day, kind, str(reason)))  # type: ignore[arg-type]
            continue
        if there is not None:
            certificates[day] = there.certificate
            days.note_pushed(instrument, there)
    if is_behind:
        for day, line in named.items():
            if day in certificates and line.etag == listed[day].etag:
                days.note_pushed(instrument, RemoteDay(listed[day], certificates[day]))
        await days.replace_manifest(instrument)
    found.days[instrument] = certificates
    inspected = (Inspected(instrument, day, each, each.rows, 0, ()) for day, each in certificates.items())
    found.findings += chain_findings(inspected)
