"""A fill by many machines: which tasks there are, in which sequence, and what they take.

A task is a month of one instrument, as far as the archive lists its days. The days beside it prove where it begins and
ends. Owns the plan. Must not ask anybody.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby

from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, Market, day_stop_ms

BYTES_PER_CORE_S = 8_000_000
"""Bytes of zips that a core turns into sealed days in a second: measured 1.3 us a trade, at 13.5 bytes a trade."""

FILE_S = 0.05
"""What a day takes besides its bytes: requests, footers, and being synced."""


@dataclass(frozen=True, slots=True)
class FleetTask:
    """The days of one month that the archive lists, as bits of ``mask`` from ``month`` on, and the nearest listed day
    ``before`` and ``after`` them. ``bytes`` are those of the days' zips."""

    instrument: Instrument
    month: date
    mask: int
    bytes: int
    before: date | None = None
    after: date | None = None

    @property
    def days(self) -> tuple[date, ...]:
        """The days, ascending."""
        return tuple(self.month + timedelta(days=bit) for bit in range(self.mask.bit_length()) if self.mask >> bit & 1)

    @property
    def name(self) -> str:
        """``spot:BTCUSDT 2025-11``."""
        return f"{self.instrument} {self.month:%Y-%m}"

    def without(self, there: Iterable[date]) -> "FleetTask":
        """The task without these days."""
        gone = set(there)
        left = sum(1 << (day - self.month).days for day in self.days if day not in gone)
        share = left.bit_count() / self.mask.bit_count() if self.mask else 0
        return replace(self, mask=left, bytes=round(self.bytes * share))


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The tasks, longest first, and their sums. ``core_hours`` is at the measured pace of one core."""

    tasks: tuple[FleetTask, ...]

    @property
    def files(self) -> int:
        """The days of all tasks."""
        return sum(task.mask.bit_count() for task in self.tasks)

    @property
    def bytes(self) -> int:
        """The bytes of their zips."""
        return sum(task.bytes for task in self.tasks)

    @property
    def core_hours(self) -> float:
        """What they take, on one core."""
        return (self.bytes / BYTES_PER_CORE_S + self.files * FILE_S) / 3600


def tasks_of(instrument: Instrument, listed: Mapping[date, int], first: date, last: date) -> Iterator[FleetTask]:
    """The tasks of an instrument whose zips are listed with their sizes, for the days from ``first`` to ``last``."""
    every = sorted(listed)
    inside = [day for day in every if first <= day <= last]
    place = {day: number for number, day in enumerate(every)}
    for month, group in groupby(inside, key=lambda day: day.replace(day=1)):
        days = list(group)
        low, high = place[days[0]], place[days[-1]]
        yield FleetTask(
            instrument,
            month,
            mask=sum(1 << (day - month).days for day in days),
            bytes=sum(listed[day] for day in days),
            before=every[low - 1] if low else None,
            after=every[high + 1] if high + 1 < len(every) else None,
        )


def planned(tasks: Iterable[FleetTask]) -> FleetPlan:
    """The plan of these tasks: the longest first, so that no machine is left alone with one at the end."""
    return FleetPlan(tuple(sorted(tasks, key=lambda task: (-task.bytes, task.instrument, task.month))))


def within_lookback(days: Iterable[date], market: Market, now_ms: float) -> list[date]:
    """The days of which the market documents that REST answers. A question for any other costs a futures market's full
    weight and is refused: a month with many holes would spend the minute's budget on refusals."""
    lookback_ms = RULES[market].lookback_ms
    return [day for day in days if lookback_ms is None or day_stop_ms(day) > now_ms - lookback_ms]


@dataclass(frozen=True, slots=True)
class MonthFilled:
    """What became of a task. ``unsealed`` names each day that is not sealed, and why; ``bytes`` were downloaded."""

    task: FleetTask
    pushed: tuple[date, ...] = ()
    stored: tuple[date, ...] = ()
    conflicted: tuple[date, ...] = ()
    unsealed: tuple[tuple[date, str], ...] = ()
    bytes: int = 0
    weight: int = 0
