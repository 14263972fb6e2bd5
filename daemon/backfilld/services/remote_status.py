"""What a bucket stores beside a cache, day by day, from one listing and one manifest per instrument.

Reads, and changes nothing. The listing says which days there are; the manifest, which may lag, how many trades.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import pairwise
from pathlib import Path

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.day.start import has_no_room
from backfilld.core.model import Instrument, days_from
from backfilld.services.stored_days import calendar_of
from backfilld.store.layout import instruments_in
from backfilld.store.manifest import ManifestDay

MARKS = {"stored": "#", "bucket": "^", "unpushed": "+", "conflicted": "!", "empty": "-", "missing": "."}
"""How a day is drawn: in the bucket and here; in the bucket alone; sealed here and not in the bucket; other rows there
than here; in neither, and nothing was traded; in neither."""


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """An instrument's days in the bucket. ``days`` counts them by mark; ``trades`` are those of the days that the
    manifest names, and ``lag`` are the days that it does not; ``calendar`` draws each month, a character a day."""

    instrument: str
    days: dict[str, int]
    trades: int
    bytes: int
    lag: int
    conflicted: list[str]
    unpushed: list[str]
    calendar: dict[str, str]


async def bucket_status(
    days: CachedDaysInBucket, cache_dir: Path, instruments: Sequence[Instrument] | None
) -> list[RemoteStatus]:
    """The state of these instruments (None: of all in the bucket or here). Raises RemoteError."""
    if instruments is None:
        instruments = sorted({*await days.instruments(), *instruments_in(cache_dir)})
    return [await _status(days, each) for each in instruments]


async def _status(days: CachedDaysInBucket, instrument: Instrument) -> RemoteStatus:
    listed = await days.days(instrument)
    named = await days.named(instrument)
    here = await days.here(instrument)
    conflicted = {day for day, note in days.notes(instrument).items() if note.conflict and day in here}
    conflicted |= {day for day in here if day in listed and day in named and named[day].digest != here[day]}
    mark = partial(_mark, listed=listed.keys(), here=here.keys(), conflicted=conflicted)
    days_known = {*listed, *here}
    marks = {day: mark(day) for day in _from_first_to_last(days_known)}
    marks |= dict.fromkeys(_empty(sorted(days_known), named), "empty")
    drawn = list(marks.values())
    return RemoteStatus(
        instrument=str(instrument),
        days={name: count for name in MARKS if (count := drawn.count(name))},
        trades=sum(named[day].rows for day in listed if day in named),
        bytes=sum(each.bytes for each in listed.values()),
        lag=len(listed.keys() - named.keys()),
        conflicted=[day.isoformat() for day in sorted(conflicted)],
        unpushed=[day.isoformat() for day, name in marks.items() if name == "unpushed"],
        calendar=calendar_of({day: MARKS[name] for day, name in marks.items()}),
    )


def _mark(day: date, *, listed: Iterable[date], here: Iterable[date], conflicted: set[date]) -> str:
    if day in conflicted:
        return "conflicted"
    if day in listed:
        return "stored" if day in here else "bucket"
    return "unpushed" if day in here else "missing"


def _empty(stored: Sequence[date], named: Mapping[date, ManifestDay]) -> Iterator[date]:
    """The days between stored ones on which nothing was traded, as far as the manifest names those around."""
    for earlier, later in pairwise(stored):
        if earlier in named and later in named and has_no_room(named[earlier], named[later]):
            yield from days_from(earlier, later)[1:-1]


def _from_first_to_last(days: set[date]) -> list[date]:
    return days_from(min(days), max(days)) if days else []
