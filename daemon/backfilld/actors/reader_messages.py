"""What the scheduler asks the reader, and what it answers."""

from dataclasses import dataclass
from datetime import date

from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.figures import Figures
from backfilld.core.model import Instrument, day_of, day_start_ms, day_stop_ms
from backfilld.core.timespan import TimeSpan
from backfilld.errors import BackfillError

# -- scheduler -> reader


@dataclass(frozen=True, slots=True)
class ReadDays:
    """Read and check the files of these days."""

    instrument: Instrument
    days: tuple[date, ...]


@dataclass(frozen=True, slots=True)
class LookForChanges:
    """See whether another program has changed the day files."""

    instrument: Instrument


@dataclass(frozen=True, slots=True)
class DistrustDay:
    """Move the file of a day aside."""

    instrument: Instrument
    day: date
    reason: str


@dataclass(frozen=True, slots=True)
class AddUp:
    """Add up the figures of a span; ``tick`` is the width of the price bins. ``is_whole`` says that the span is all of
    the window."""

    instrument: Instrument
    start_ms: int
    stop_ms: int
    tick: float
    is_whole: bool = True

    @classmethod
    def of_newest_day(cls, instrument: Instrument, window: TimeSpan, today: date, tick: float) -> "AddUp":
        """The newest day of a window alone: years of history are not read again at each start."""
        stop_ms = window.stop_ms or day_stop_ms(today)
        start_ms = max(window.start_ms, day_start_ms(day_of(stop_ms - 1)))
        return cls(instrument, start_ms, stop_ms, tick, is_whole=start_ms == window.start_ms)


@dataclass(frozen=True, slots=True)
class RetireDays:
    """Delete the days that are more than ``keep_days`` older than ``today``."""

    instruments: tuple[Instrument, ...]
    today: date
    keep_days: int


@dataclass(frozen=True, slots=True)
class RememberShown:
    """Keep the newest trade that the exchange has shown."""

    instrument: Instrument
    shown: ShownEnd


ReaderMessage = ReadDays | LookForChanges | DistrustDay | AddUp | RetireDays | RememberShown


# -- reader -> scheduler


@dataclass(frozen=True, slots=True)
class DaysRead:
    """What the files of days hold, None for a day without one; or why they cannot be read. ``shown`` is what an
    earlier process has kept of the newest trade that the exchange has shown."""

    instrument: Instrument
    records: dict[date, Certificate | None]
    error: BackfillError | None = None
    shown: ShownEnd | None = None


@dataclass(frozen=True, slots=True)
class DaysAltered:
    """Another program has changed the files of these days."""

    instrument: Instrument
    days: frozenset[date]


@dataclass(frozen=True, slots=True)
class DayDeleted:
    """A day has outlived its time."""

    instrument: Instrument
    day: date


@dataclass(frozen=True, slots=True)
class FiguresRead:
    """The figures of a span; None if a file turned out to be damaged. ``is_whole`` as in :class:`AddUp`."""

    instrument: Instrument
    figures: Figures | None
    is_whole: bool = True
    is_damaged: bool = False
