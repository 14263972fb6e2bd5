"""What the cache stores, as values: day by day, and by instrument with a calendar of one character per day.

Owns the values alone: ``status`` of a cache without day files starts without polars and pyarrow. They are read in
``day_statuses``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby

from backfilld.core.day.start import has_no_room
from backfilld.core.model import days_from

MARKS = {"sealed": "#", "partial": "+", "empty": "-", "missing": ".", "conflicted": "!", "bad": "x", "locked": "L"}
"""How a day is drawn: complete and over; anything less; no file, as nothing was traded; no file; two versions of a
trade; a damaged file; one that no key opens."""


@dataclass(frozen=True, slots=True)
class DayStatus:
    """One day file: ``state`` is sealed (complete and over), whole (no hole, not over or not proven), holes, bad
    or locked (no key opens it); for a day between others that has no file empty, where their ids leave no room for a
    trade, or missing. ``lowest_start`` and ``highest_start`` are the ids with which this day and a later one may begin
    at most, with nothing traded before and between."""

    instrument: str
    day: str
    state: str
    trades: int = 0
    missing: int = 0
    bytes: int = 0
    first_id: int | None = None
    last_id: int | None = None
    reason: str | None = None
    first_at: str | None = None
    last_at: str | None = None
    holes: list[tuple[int, int]] = field(default_factory=list)
    absent: int = 0
    conflicts: int = 0
    findings: dict[str, int] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    unencrypted: bool = False
    lowest_start: int | None = None
    highest_start: int | None = None

    @property
    def mark(self) -> str:
        """The name of how the day is drawn, a key of MARKS."""
        if self.state in {"bad", "locked", "missing", "empty"}:
            return self.state
        if self.conflicts:
            return "conflicted"
        return "sealed" if self.state == "sealed" else "partial"


@dataclass(frozen=True, slots=True)
class InstrumentStatus:
    """All day files of an instrument. ``days`` counts them by mark, the days between them without a file as well;
    ``calendar`` draws each month, a character a day."""

    instrument: str
    days: dict[str, int]
    trades: int
    bytes: int
    missing: int
    first_at: str | None
    last_at: str | None
    calendar: dict[str, str]


def instrument_statuses(days: Sequence[DayStatus]) -> Iterator[InstrumentStatus]:
    """The days put together by instrument, in the order given."""
    for name, group in groupby(days, key=lambda each: each.instrument):
        stored = list(group)
        marks = dict(_marks(stored))
        drawn = list(marks.values())
        yield InstrumentStatus(
            instrument=name,
            days={mark: count for mark in MARKS if (count := drawn.count(mark))},
            trades=sum(each.trades for each in stored),
            bytes=sum(each.bytes for each in stored),
            missing=sum(each.missing for each in stored),
            first_at=next((each.first_at for each in stored if each.first_at), None),
            last_at=next((each.last_at for each in reversed(stored) if each.last_at), None),
            calendar=calendar_of({day: MARKS[mark] for day, mark in marks.items()}),
        )


def _marks(stored: Sequence[DayStatus]) -> Iterator[tuple[date, str]]:
    """How each day from the first file to the last is drawn."""
    return ((date.fromisoformat(each.day), each.mark) for each in without_gaps(stored))


def without_gaps(stored: Iterable[DayStatus]) -> Iterator[DayStatus]:
    """The days, ascending, and between them those that have no file."""
    before: DayStatus | None = None
    for each in stored:
        if before is not None:
            state = "empty" if has_no_room(before, each) else "missing"
            days = days_from(date.fromisoformat(before.day), date.fromisoformat(each.day))
            yield from (DayStatus(each.instrument, day.isoformat(), state) for day in days[1:-1])
        yield each
        before = each


def calendar_of(drawn: dict[date, str]) -> dict[str, str]:
    """A string a month of a character a day: the place is the day of the month, days before the first one are blank."""
    months: dict[str, str] = {}
    for day, character in drawn.items():
        name = f"{day:%Y-%m}"
        months[name] = months.get(name, " " * (day.day - 1)) + character
    return months
