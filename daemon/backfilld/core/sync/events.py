"""What happens to a sync, and what it wants done: the vocabulary of :mod:`backfilld.core.sync.instrument`.

Events are past participles, actions are imperatives; all are values. The scheduler turns messages of other actors into
events, and actions into messages to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.backfill.questions import Found, Query
from backfilld.core.day.absences import AbsentIds
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import DayStart
from backfilld.core.model import IdRange
from backfilld.core.sync.spec import RunSpec
from backfilld.errors import BackfillError, ExchangeError


@dataclass(frozen=True, slots=True)
class Instant:
    """One instant by three clocks: ``now_ms`` is the best guess of the exchange's time, ``server_ms`` the same once an
    answer has named it and None before, ``monotonic_s`` the loop's time. ``is_doubted`` while a second answer must
    judge whether the last one's time was right."""

    now_ms: int
    server_ms: int | None
    monotonic_s: float
    is_doubted: bool = False


# -- events


@dataclass(frozen=True, slots=True)
class DaysLoaded:
    """What the day files hold that were asked for: None for a day without a file that can be trusted; and what an
    earlier process has kept of the newest trade that the exchange has shown."""

    records: Mapping[date, Certificate | None]
    shown: ShownEnd | None = None


@dataclass(frozen=True, slots=True)
class DaysUnreadable:
    """A day file is there, and cannot be read now: no key opens it, or a newer program wrote it."""

    error: BackfillError


@dataclass(frozen=True, slots=True)
class Answered:
    """The exchange answered; rows that are to be kept are on their way to the disk."""

    query: Query
    found: Found


@dataclass(frozen=True, slots=True)
class Failed:
    """A question was given up."""

    query: Query
    error: ExchangeError


@dataclass(frozen=True, slots=True)
class Described:
    """exchangeInfo lists the symbol, since ``listed_ms`` if it says so."""

    listed_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Undescribed:
    """exchangeInfo does not list the symbol, or could not be read."""

    error: ExchangeError


@dataclass(frozen=True, slots=True)
class Arrived:
    """Rows that nobody asked for are on their way to the disk."""

    found: Found


@dataclass(frozen=True, slots=True)
class PassedOver:
    """The live side went on without these ids: the exchange answered with later rows only."""

    ids: IdRange


@dataclass(frozen=True, slots=True)
class IsFollowed:
    """The live side looks after the newest end: it must not be polled."""


@dataclass(frozen=True, slots=True)
class DayStored:
    """A day stands on disk as ``record`` describes it. ``conflicts`` counts the rows that were refused."""

    record: Certificate
    conflicts: int = 0


@dataclass(frozen=True, slots=True)
class Flushed:
    """All rows that came before a Flush are on disk."""


@dataclass(frozen=True, slots=True)
class ArchiveDayEnded:
    """The archive's day is stored, as ``record`` describes it, or there is nothing to store, as ``refusal`` says."""

    day: date
    record: Certificate | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class DaysAltered:
    """Somebody else has changed, added or deleted the files of these days."""

    days: frozenset[date]


@dataclass(frozen=True, slots=True)
class DayDeleted:
    """The day has outlived its time: its file is gone."""

    day: date


@dataclass(frozen=True, slots=True)
class SpecReplaced:
    """Go on with this spec. One that does not name the instrument ends its sync."""

    spec: RunSpec


@dataclass(frozen=True, slots=True)
class ClockHeard:
    """The exchange's time has become known, or a doubt about it is settled."""


@dataclass(frozen=True, slots=True)
class RoundDue:
    """The rest is over."""


Event = (
    DaysLoaded
    | DaysUnreadable
    | Answered
    | Failed
    | Described
    | Undescribed
    | Arrived
    | PassedOver
    | IsFollowed
    | DayStored
    | Flushed
    | ArchiveDayEnded
    | DaysAltered
    | DayDeleted
    | SpecReplaced
    | ClockHeard
    | RoundDue
)


# -- actions


@dataclass(frozen=True, slots=True)
class LoadDays:
    """Read and check the files of these days; DaysLoaded answers."""

    days: tuple[date, ...]


@dataclass(frozen=True, slots=True)
class Describe:
    """Ask exchangeInfo about the symbol; Described or Undescribed answers."""


@dataclass(frozen=True, slots=True)
class LookAtFiles:
    """See whether somebody else has changed the day files; DaysAltered answers if so."""


@dataclass(frozen=True, slots=True)
class Distrust:
    """Move the file of a day aside."""

    day: date
    reason: str


@dataclass(frozen=True, slots=True)
class Prove:
    """Where days begin: write it with what is saved from now on."""

    day_starts: frozenset[DayStart]


@dataclass(frozen=True, slots=True)
class Flush:
    """Save all that came, note the ``absences`` of days, and write the files of the days in ``renew``; Flushed
    answers."""

    renew: frozenset[date] = frozenset()
    absences: Mapping[date, AbsentIds] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TakeArchive:
    """Take these days from the archive; ArchiveDayEnded answers for each. ``day_starts`` are known already."""

    days: tuple[date, ...]
    day_starts: frozenset[DayStart] = frozenset()


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep the newest trade that the exchange has shown: the next process must know it."""

    shown: ShownEnd


@dataclass(frozen=True, slots=True)
class Offer:
    """The newest trade is reached: the live side may go on from ``next_id``."""

    next_id: int


@dataclass(frozen=True, slots=True)
class EndRound:
    """A round is over; the outcome says what it came to."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The spec does not name the instrument any more, and all of it is saved."""


@dataclass(frozen=True, slots=True)
class Log:
    """Write a line about the instrument."""

    level: str
    event: str
    fields: Mapping[str, object]


Action = (
    LoadDays
    | Describe
    | LookAtFiles
    | Distrust
    | Prove
    | Flush
    | TakeArchive
    | Remember
    | Offer
    | EndRound
    | Leave
    | Log
)
