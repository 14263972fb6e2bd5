"""One task of a fleet: the days of a month of an instrument, out of the archive, proven, and in the bucket.

A pure function of its arguments but for the credentials and directories of the machine that runs it. Done twice, or
broken off anywhere, it harms nothing: each day ends in a conditional create. REST is asked for what the archive left
open, and only if the fleet says so.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Any, TypeVar

import structlog
import trio

from backfilld.adapters.binance_archive import open_archive
from backfilld.adapters.month_days import MonthDays, scratch
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.assembly import remote_days
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY
from backfilld.core.fleet import FleetTask, MonthFilled, within_lookback
from backfilld.core.model import days_from
from backfilld.core.replication import day_key, day_of_key, folder_of
from backfilld.errors import ArchiveError, DayLocked, ObjectRefused, RemoteUnreachable
from backfilld.ports import Published
from backfilld.services.month_zips import Downloads, ListedDays
from backfilld.services.refill import run_once, windows
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of
from backfilld.store.layout import archive_directory
from backfilld.supervisor import cause_of

T = TypeVar("T")

PATIENCE_S, FIRST_WAIT_S = 60.0, 0.5
"""How long a task waits for a bucket that does not answer. Then it fails, and runs again elsewhere."""


@dataclass(frozen=True)
class FleetSpec:
    """What all tasks of a fleet have in common: the settings that do not depend on the machine, and whether what the
    archive leaves open is asked of REST. Credentials are not among them."""

    settings: Mapping[str, Any]
    uses_rest: bool = False

    def settings_here(self) -> Settings:
        """The settings on this machine."""
        return Settings(**self.settings)


def fill_month(task: FleetTask, spec: FleetSpec) -> MonthFilled:
    """Fill the month; in the process that calls it, on any thread. Raises RemoteError, ExchangeError and StoreError."""
    # A worker's output is its operator's log: one line per task, which Dask writes, is enough.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    here = spec.settings_here()
    with scratch(here.state_path) as directory:
        settings = here.model_copy(update={"cache_dir": directory, "state_dir": here.state_path})
        try:
            return trio.run(_fill, task, settings, spec.uses_rest)
        except BaseExceptionGroup as group:
            raise cause_of(group) from None


async def _fill(task: FleetTask, settings: Settings, uses_rest: bool) -> MonthFilled:
    work = _Work(task, settings, remote_days(settings))
    await work.find_what_is_there()
    if work.wanted:
        await work.take_all()
        if uses_rest and work.reasons:
            await work.ask_rest()
        await work.publish()
    return work.result()


@dataclass(slots=True)
class _Work:
    """A task under way. ``reasons`` say of each day that is not sealed why."""

    task: FleetTask
    settings: Settings
    bucket: CachedDaysInBucket
    listed: set[date] = field(default_factory=set)
    wanted: list[date] = field(default_factory=list)
    pushed: list[date] = field(default_factory=list)
    stored: list[date] = field(default_factory=list)
    conflicted: list[date] = field(default_factory=list)
    reasons: dict[date, str] = field(default_factory=dict)
    bytes: int = 0
    weight: int = 0

    async def find_what_is_there(self) -> None:
        """List the bucket around the month."""
        instrument, first = self.task.instrument, min(self.task.before or self.task.month, self.task.month)
        start = day_key(instrument, first - ONE_DAY)
        objects = await _patiently(lambda: self.bucket.objects.objects(folder_of(instrument), after=start))
        names = [day_of_key(each.key) for each in objects]
        self.listed = {name[1] for name in names if name is not None}
        self.wanted = [day for day in self.task.days if day not in self.listed]
        self.stored = [day for day in self.task.days if day in self.listed]

    async def take_all(self) -> None:
        """Take the days that are wanted in their sequence, and push each as soon as it is sealed."""
        beside = ListedDays([day for day in (self.task.before, *self.task.days, self.task.after) if day is not None])
        certificates = {day: found for day in beside.known(self.wanted) if (found := await self._certificate(day))}
        needed = beside.needed(self.wanted, certificates)
        month = MonthDays(self.settings.cache_dir, self.task.instrument, encoding_of(self.settings))
        directory = archive_directory(self.settings.cache_dir)
        await trio.Path(directory).mkdir(parents=True, exist_ok=True)
        async with open_archive(self.settings.archive_url, directory) as archive, trio.open_nursery() as nursery:
            downloads = Downloads(archive, self.task, needed)
            nursery.start_soon(downloads.run)
            async for day, published, following in downloads:
                if isinstance(published, str):
                    self._leave(day, published)
                    continue
                self.bytes += published.bytes
                before, after = (certificates.get(each) if each else None for each in beside.around(day))
                # The day after the month only proves where the month ends.
                if day != needed[-1] or day in self.wanted:
                    await self._take(month, day, published, following, before, after, certificates)
                await trio.Path(published.path).unlink(missing_ok=True)

    def _leave(self, day: date, reason: str) -> None:
        if day in self.wanted:
            self.reasons[day] = reason

    async def _take(
        self,
        month: MonthDays,
        day: date,
        published: Published,
        following: Published | None,
        before: Certificate | None,
        after: Certificate | None,
        certificates: dict[date, Certificate],
    ) -> None:
        try:
            certificates[day] = taken = await month.take(day, published, following, before, after)
        except ArchiveError as error:
            self._leave(day, str(error))
            return
        if day not in self.wanted:
            return
        if taken.sealed:
            await self._push(day)
        else:
            self.reasons[day] = _lack(taken)

    async def _push(self, day: date) -> None:
        pushed = await _patiently(lambda: self.bucket.push(self.task.instrument, day))
        if pushed is None:
            self.reasons[day] = "its file is gone or was altered"
            return
        {"pushed": self.pushed, "stored": self.stored, "conflicted": self.conflicted}[pushed.standing].append(day)
        self.reasons.pop(day, None)

    async def ask_rest(self) -> None:
        """Run the ordinary pipeline over the days that are not sealed, in the scratch directory."""
        left = sorted(self.reasons)
        asked = within_lookback(left, self.task.instrument.market, time.time() * 1000)
        for day in left:
            if day not in asked:
                self.reasons[day] += f"; {self.task.instrument.market} answers nothing of days so long ago"
        # What is old enough to be deleted is so only after it was pushed: with its scratch directory.
        settings = self.settings.model_copy(update={"remote_url": "", "live": False, "keep_days": 0})
        for window, instruments in windows([(self.task.instrument, day) for day in self._bridged(asked)]):
            outcomes = await run_once(settings, window, instruments)
            self.weight += sum(each.weight for each in outcomes)
        month = MonthDays(self.settings.cache_dir, self.task.instrument, encoding_of(self.settings))
        found = await month.certificates()
        for day in asked:
            if day not in found:
                continue
            if found[day].sealed:
                await self._push(day)
            else:
                self.reasons[day] = _lack(found[day])

    def _bridged(self, asked: Sequence[date]) -> list[date]:
        """These days, and those between two of them if all that lie there were sealed here: one run is cheaper than
        two. Days that only the bucket has are not here, and would be fetched again."""
        here, found = {*self.pushed, *self.conflicted}, list(asked[:1])
        for earlier, later in pairwise(asked):
            between = days_from(earlier, later)[1:-1]
            found += [*between, later] if here.issuperset(between) else [later]
        return found

    async def publish(self) -> None:
        """Write the manifest. It may lag: the end of the fleet brings it up to date."""
        try:
            await self.bucket.publish(self.task.instrument)
        except (RemoteUnreachable, ObjectRefused):
            return

    def result(self) -> MonthFilled:
        """What became of the task."""
        return MonthFilled(
            self.task,
            tuple(self.pushed),
            tuple(self.stored),
            tuple(self.conflicted),
            tuple(sorted(self.reasons.items())),
            self.bytes,
            self.weight,
        )

    async def _certificate(self, day: date) -> Certificate | None:
        if day not in self.listed:
            return None
        try:
            found = await _patiently(lambda: self.bucket.look(self.task.instrument, day))
        except (ObjectRefused, DayLocked):
            return None
        return None if found is None else found.certificate


def _lack(certificate: Certificate) -> str:
    """Why a day is not sealed."""
    holes = certificate.holes
    if holes:
        count = sum(map(len, holes))
        return f"the archive lacks {count:,} ids, from {holes[0].first_id} on"
    if not certificate.opened:
        return "its first id is not proven by the day before"
    return "its last id is not proven by the day after"


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask the bucket, again and again while it does not answer, up to PATIENCE_S."""
    wait_s, deadline = FIRST_WAIT_S, trio.current_time() + PATIENCE_S
    while True:
        try:
            return await ask()
        except RemoteUnreachable:
            if trio.current_time() + wait_s > deadline:
                raise
        await trio.sleep(wait_s)
        wait_s = min(2 * wait_s, 8.0)
