"""Which days a sync must know, which it takes from the archive, and which part of its window it plans now.

Owns the steps from a spec and the stored days to a plan. Must not remember anything; the sync does.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from backfilld.core.backfill.sources import archive_days, seam_days
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import MS_PER_DAY, Instrument, day_of, day_start_ms, days_from
from backfilld.core.sync.spec import RunSpec
from backfilld.core.timespan import TimeSpan


def wanted_window(spec: RunSpec, today: date) -> TimeSpan:
    """The window of the spec; an open one begins ``days`` whole days before today."""
    return spec.window or TimeSpan(day_start_ms(today - timedelta(days=spec.days)))


def days_of(window: TimeSpan, now_ms: int) -> tuple[date, ...]:
    """The days that the window touches, up to now if it is open."""
    last_ms = max(window.start_ms, (window.stop_ms or now_ms) - 1)
    return tuple(days_from(day_of(window.start_ms), day_of(last_ms)))


def days_beside(window: TimeSpan) -> tuple[date, ...]:
    """The day before and the day after the window, if it begins or ends at a midnight: they may prove its ends, and it
    theirs."""
    before = (day_of(window.start_ms - 1),) if window.start_ms % MS_PER_DAY == 0 else ()
    after = (day_of(window.stop_ms),) if window.stop_ms is not None and window.stop_ms % MS_PER_DAY == 0 else ()
    return before + after


@dataclass(slots=True)
class ArchiveState:
    """The days that the archive was asked for. The plan in force waits for those in ``awaited``. Those in ``answered``
    are not asked for again within ARCHIVE_AGAIN_S from ``asked_at``, in the loop's time."""

    asked_at: float
    awaited: frozenset[date] = frozenset()
    asked: frozenset[date] = frozenset()
    answered: frozenset[date] = frozenset()

    def await_days(self, days: Collection[date]) -> tuple[date, ...]:
        """Await these days. Return those that were not asked for yet."""
        self.awaited = frozenset(days)
        new = tuple(sorted(self.awaited - self.asked))
        self.asked |= self.awaited
        return new

    def ended(self, *days: date) -> None:
        """These days are stored now, or the archive does not have them."""
        self.asked -= {*days}
        self.answered |= {*days}
        self.awaited -= {*days}


@dataclass(frozen=True, slots=True)
class Draft:
    """``window`` is planned now, of all that is ``wanted``. ``archive`` are the days to await meanwhile; the plan that
    follows them fills what they lack. ``is_whole`` if no time before today is left to that plan."""

    window: TimeSpan
    wanted: TimeSpan
    archive: tuple[date, ...]
    is_whole: bool


def drafted(
    instrument: Instrument,
    spec: RunSpec,
    now_ms: int,
    records: Mapping[date, Certificate],
    *,
    reach_ms: int,
    answered: Collection[date],
    is_unanswered: bool,
) -> Draft:
    """What to plan now. REST answers for no time before ``reach_ms``. If the instrument ``is_unanswered``, REST does
    not answer for it at all."""
    today = day_of(now_ms)
    window = wanted = wanted_window(spec, today)
    stop_ms = window.stop_ms or now_ms
    archive: tuple[date, ...] = ()
    if spec.uses_archive:
        days = archive_days(window, now_ms, records, answered)
        seams = seam_days(window, now_ms, instrument.market, records, unanswered=is_unanswered)
        archive = tuple(sorted({*days, *seams} - set(answered)))
    if window.start_ms < reach_ms < stop_ms:
        window = TimeSpan(reach_ms, window.stop_ms)
    today_ms = day_start_ms(today)
    if archive and stop_ms > today_ms:
        return Draft(TimeSpan(max(window.start_ms, today_ms), window.stop_ms), wanted, archive, is_whole=False)
    return Draft(window, wanted, archive, is_whole=True)
