"""Verifying a bucket: is every object a sealed day, do the days join, and are they those of the cache?

Nothing is changed but by a repair. It replaces the very object that it examined, by a day of the cache that passes
every check, and what it replaces stays in the bucket under another key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from backfilld.adapters.bucket_days import RemoteDay
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.model import Instrument
from backfilld.core.replication import DayName, day_key
from backfilld.errors import BackfillError, DayLocked, ObjectRefused
from backfilld.services.progress import Progress, Watch, unwatched
from backfilld.services.remote import Transfers, transfer
from backfilld.store.upkeep.inspection import Finding, Inspected, Kind, chain_findings

REPLACEABLE: frozenset[Kind] = frozenset({"unreadable", "incomplete", "conflict"})
"""What a repair replaces. A locked object is whole, and is never replaced."""


@dataclass(slots=True)
class BucketVerified:
    """The days of the bucket that were looked at, all that is wrong with them, and how far each manifest is behind.
    ``left`` are days that the bucket, out of reach, kept from being looked at."""

    days: dict[DayName, RemoteDay] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    left: list[DayName] = field(default_factory=list)
    error: BackfillError | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a repair did about an object, in a sentence."""

    instrument: Instrument
    day: date
    is_done: bool
    sentence: str


async def verify_bucket(
    days: CachedDaysInBucket,
    instruments: Sequence[Instrument] | None,
    concurrent: int,
    *,
    deep: bool,
    watch: Watch = unwatched,
) -> BucketVerified:
    """Look at every day of the instruments (None: of all in the bucket): at its certificate, or with ``deep`` at all of
    its rows. Raises RemoteError if the bucket cannot be listed."""
    found = BucketVerified()
    for instrument in await days.instruments() if instruments is None else instruments:
        await _verify_instrument(days, instrument, concurrent, found, deep=deep, watch=watch)
    found.findings.sort(key=lambda each: (each.instrument, each.day))
    return found


async def _verify_instrument(
    days: CachedDaysInBucket,
    instrument: Instrument,
    concurrent: int,
    found: BucketVerified,
    *,
    deep: bool,
    watch: Watch,
) -> None:
    listed = await days.days(instrument)
    read = days.examine if deep else days.look
    transfers = Transfers()

    async def look(name: DayName) -> None:
        try:
            there = await read(*name)
        except (ObjectRefused, DayLocked) as reason:
            kind: Kind = "locked" if isinstance(reason, DayLocked) else "unreadable"
            found.findings.append(Finding(*name, kind, _without_key(str(reason), *name)))
        else:
            if there is not None:
                found.days[name] = there
        watch(Progress("verify", f"{name[0]} {name[1]}", 1, len(listed)))

    await transfer([(instrument, day) for day in listed], look, transfers, concurrent)
    found.left += transfers.left
    found.error = found.error or transfers.error
    own = {day: each for (whose, day), each in found.days.items() if whose == instrument}
    found.findings += chain_findings([_inspected(instrument, each) for each in own.values()])
    found.findings += _unsealed(instrument, own, found.findings)
    found.findings += _conflicts(instrument, own, await days.here(instrument))
    if transfers.error is None:
        found.remarks += await _manifest_remarks(days, instrument, own)


def _inspected(instrument: Instrument, remote: RemoteDay) -> Inspected:
    facts = remote.certificate
    return Inspected(instrument, facts.day, facts, facts.rows, remote.object.bytes, ())


def _unsealed(instrument: Instrument, own: dict[date, RemoteDay], known: Sequence[Finding]) -> Iterator[Finding]:
    named = {each.day for each in known if each.instrument == instrument and each.kind == "incomplete"}
    for day, each in own.items():
        if not each.certificate.sealed and day not in named:
            yield Finding(instrument, day, "incomplete", "it is not sealed")


def _conflicts(instrument: Instrument, own: dict[date, RemoteDay], here: dict[date, str]) -> Iterator[Finding]:
    for day, each in own.items():
        ours, theirs = here.get(day), each.certificate.digest
        if ours is not None and theirs is not None and ours != theirs:
            said = f"the cache has other rows: their digest is {ours[:12]}, and the bucket's is {theirs[:12]}"
            yield Finding(instrument, day, "conflict", said)


async def _manifest_remarks(
    days: CachedDaysInBucket, instrument: Instrument, own: dict[date, RemoteDay]
) -> Sequence[str]:
    try:
        named = await days.manifest(instrument) or {}
    except ObjectRefused as reason:
        return (f"{instrument}: {reason}; run catalog",)
    behind = [day for day, each in own.items() if day not in named or named[day].digest != each.certificate.digest]
    gone = len(named.keys() - own.keys())
    if not behind and not gone:
        return ()
    return (f"{instrument}: the manifest lags by {len(behind)} days, and names {gone} that are not there; run catalog",)


async def repair_bucket(days: CachedDaysInBucket, verified: BucketVerified, *, deep: bool) -> list[Replacement]:
    """Replace each object that is wrong by the day of the cache, if that is sealed and sound, and write the manifests.

    Each is examined once more before, and replaced by the tag that it had then. Raises RemoteError and StoreError.
    """
    wrong = dict.fromkeys((each.instrument, each.day) for each in verified.findings if each.kind in REPLACEABLE)
    done = [await _replace(days, name, deep=deep) for name in wrong]
    for instrument in dict.fromkeys(each.instrument for each in done if each.is_done):
        await days.publish(instrument)
    return done


async def _replace(days: CachedDaysInBucket, name: DayName, *, deep: bool) -> Replacement:
    file = await days.sound_file(*name)
    if isinstance(file, str):
        return Replacement(*name, is_done=False, sentence=f"not replaced: {file}")
    examined = await days.objects.head(day_key(*name))
    if examined is None:
        return Replacement(*name, is_done=False, sentence="not replaced: it is gone; push creates it")
    try:
        there = await (days.examine if deep else days.look)(*name)
        if there is not None and there.certificate.digest == file.certificate.digest:
            return Replacement(*name, is_done=True, sentence="it has the cache's rows by now")
    except DayLocked as locked:
        return Replacement(*name, is_done=False, sentence=f"not replaced: {locked}")
    except ObjectRefused:
        pass
    if not await days.replace(name[0], file, examined):
        return Replacement(*name, is_done=False, sentence="not replaced: it changed while it was examined")
    return Replacement(*name, is_done=True, sentence=f"replaced by the cache's day, {file.certificate.rows:,} trades")


def _without_key(sentence: str, instrument: Instrument, day: date) -> str:
    return sentence.removeprefix(f"{day_key(instrument, day)}: ")
