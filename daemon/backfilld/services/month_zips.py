"""The zips of a month on their way from the archive, a few ahead of the one in use; and which of them are needed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial

from trio_util import AsyncValue

from backfilld.adapters.binance_archive import BinanceArchive
from backfilld.core.day.certificate import Certificate
from backfilld.core.fleet import FleetTask
from backfilld.errors import ArchiveError
from backfilld.ports import Published

DOWNLOADS_AHEAD = 3
"""Zips that wait on disk for their turn."""


@dataclass(frozen=True, slots=True)
class ListedDays:
    """The listed days around and in a month, ascending, and what proves what."""

    days: Sequence[date]

    def around(self, day: date) -> tuple[date | None, date | None]:
        """The listed days before and after it."""
        at = self.days.index(day)
        return self.days[at - 1] if at else None, self.days[at + 1] if at + 1 < len(self.days) else None

    def known(self, wanted: Sequence[date]) -> list[date]:
        """The days beside those that are wanted, whose certificates would save a download."""
        beside = {each for day in wanted for each in self.around(day) if each is not None}
        return sorted(beside - set(wanted))

    def needed(self, wanted: Sequence[date], certificates: Mapping[date, Certificate]) -> list[date]:
        """The days whose zips are needed: those wanted, and those beside them that nothing is known of."""
        return sorted({*wanted, *(day for day in self.known(wanted) if day not in certificates)})


@dataclass(slots=True)
class Downloads:
    """The zips of some days in their sequence, a few ahead of the one in use."""

    archive: BinanceArchive
    task: FleetTask
    days: Sequence[date]
    _found: list[Published | str] = field(default_factory=list)
    _came: AsyncValue[int] = field(default_factory=lambda: AsyncValue(0))
    _used: AsyncValue[int] = field(default_factory=lambda: AsyncValue(0))

    async def run(self) -> None:
        """Download them."""
        for number, day in enumerate(self.days):
            await self._used.wait_value(partial(_is_near, number))
            self._found.append(await _published(self.archive, self.task, day))
            self._came.value += 1

    async def __aiter__(self) -> AsyncIterator[tuple[date, Published | str, Published | None]]:
        """Each day with its zip, or a sentence where there is none that can be used, and the zip that follows."""
        for number, day in enumerate(self.days):
            self._used.value = number
            behind = min(number + 2, len(self.days))
            await self._came.wait_value(partial(_reaches, behind))
            following = self._found[number + 1] if number + 1 < behind else None
            yield day, self._found[number], following if isinstance(following, Published) else None


def _is_near(number: int, used: int) -> bool:
    return number - used < DOWNLOADS_AHEAD


def _reaches(count: int, came: int) -> bool:
    return came >= count


async def _published(archive: BinanceArchive, task: FleetTask, day: date) -> Published | str:
    try:
        return await archive.fetch(task.instrument, day) or "the archive does not have it"
    except ArchiveError as error:
        return str(error)
