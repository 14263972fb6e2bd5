"""The events and actions of a sync: the vocabulary of :mod:`backfilld.core.sync.instrument`.

Events are past participles, actions are imperatives; all are values. The scheduler turns messages of other actors into
events, and actions into messages to them.
"""

from collections.abc import Mapping
from datetime import date

import msgspec

from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.backfill.questions import Found, Neighbour, Query
from backfilld.core.day.absences import AbsentIds
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import DayStart
from backfilld.core.model import IdRange
from backfilld.core.sync.spec import RunSpec
from backfilld.errors import BackfillError, ExchangeError


class Instant(msgspec.Struct, frozen=True):
    """One instant by three clocks. ``now_ms`` is the best guess of the exchange's time. ``server_ms`` is the same once
    an answer has named the time, None before. ``monotonic_s`` is the loop's time. ``is_doubted``: a second answer must
    confirm the time of the last one."""

    now_ms: int
    server_ms: int | None
    monotonic_s: float
    is_doubted: bool = False


# -- events


class DaysLoaded(msgspec.Struct, frozen=True):
    """The certificates of the days that were asked for, None for a day without a file that can be trusted. ``shown`` is
    the newest trade that the exchange has shown to an earlier process."""

    records: Mapping[date, Certificate | None]
    shown: ShownEnd | None = None


class DaysUnreadable(msgspec.Struct, frozen=True):
    """A day file exists and cannot be read now: no key opens it, or a newer program wrote it."""

    error: BackfillError


class Answered(msgspec.Struct, frozen=True):
    """The exchange answered; the rows to keep are on their way to the disk."""

    query: Query
    found: Found


class Failed(msgspec.Struct, frozen=True):
    """A question was given up."""

    query: Query
    error: ExchangeError


class Described(msgspec.Struct, frozen=True):
    """exchangeInfo lists the symbol, since ``listed_ms`` if it names that time."""

    listed_ms: int | None = None


class Undescribed(msgspec.Struct, frozen=True):
    """exchangeInfo does not list the symbol, or could not be read."""

    error: ExchangeError


class Arrived(msgspec.Struct, frozen=True):
    """Rows that nobody asked for are on their way to the disk."""

    found: Found


class PassedOver(msgspec.Struct, frozen=True):
    """The live side goes on without these ids: the exchange answered with later rows only."""

    ids: IdRange


class IsFollowed(msgspec.Struct, frozen=True):
    """The live side follows the newest trades: do not poll for them."""


class DayStored(msgspec.Struct, frozen=True):
    """A day is on disk; ``record`` is its certificate. ``conflicts`` counts the rows that were refused."""

    record: Certificate
    conflicts: int = 0


class Flushed(msgspec.Struct, frozen=True):
    """All rows that came before a Flush are on disk."""


class ArchiveDayEnded(msgspec.Struct, frozen=True):
    """The archive's day is stored, with ``record`` as its certificate, or there is none, for the reason ``refusal``."""

    day: date
    record: Certificate | None = None
    refusal: str | None = None


class ArchivePaused(msgspec.Struct, frozen=True):
    """The archive lacks a day beside one of these, whose ends are not proven for it. They wait to be taken again."""

    days: tuple[date, ...]


class DaysAltered(msgspec.Struct, frozen=True):
    """Another program has changed, added or deleted the files of these days."""

    days: frozenset[date]


class DayDeleted(msgspec.Struct, frozen=True):
    """The day was older than KEEP_DAYS; its file was deleted."""

    day: date


class SpecReplaced(msgspec.Struct, frozen=True):
    """Go on with this spec. If it does not name the instrument, the sync ends."""

    spec: RunSpec


class ClockHeard(msgspec.Struct, frozen=True):
    """The exchange's time has become known, or a doubt about it is settled."""


class RoundDue(msgspec.Struct, frozen=True):
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
    | ArchivePaused
    | DaysAltered
    | DayDeleted
    | SpecReplaced
    | ClockHeard
    | RoundDue
)


# -- actions


class LoadDays(msgspec.Struct, frozen=True):
    """Read and check the files of these days; DaysLoaded answers."""

    days: tuple[date, ...]


class Describe(msgspec.Struct, frozen=True):
    """Ask exchangeInfo about the symbol; Described or Undescribed answers."""


class LookAtFiles(msgspec.Struct, frozen=True):
    """See whether another program has changed the day files; DaysAltered answers if so."""


class Distrust(msgspec.Struct, frozen=True):
    """Move the file of a day aside."""

    day: date
    reason: str


class Prove(msgspec.Struct, frozen=True):
    """Write these day starts with everything that is saved from now on."""

    day_starts: frozenset[DayStart]


class Flush(msgspec.Struct, frozen=True):
    """Save all rows that came, note the ``absences`` of days, and write the files of the days in ``renew``; Flushed
    answers. With ``forgets``, first drop the rows that answers to questions brought and that are not yet on their way
    to the disk."""

    renew: frozenset[date] = frozenset()
    absences: Mapping[date, AbsentIds] = msgspec.field(default_factory=dict)
    forgets: bool = False


class TakeArchive(msgspec.Struct, frozen=True):
    """Take these days from the archive; ArchiveDayEnded answers for each, or ArchivePaused for those that are left.
    ``day_starts`` are those known so far."""

    days: tuple[date, ...]
    day_starts: frozenset[DayStart] = frozenset()


class Remember(msgspec.Struct, frozen=True):
    """Write the newest trade that the exchange has shown to disk, for the next process."""

    shown: ShownEnd


class Offer(msgspec.Struct, frozen=True):
    """All trades up to the newest one, ``last``, are stored: the live side may go on from ``next_id``."""

    next_id: int
    last: Neighbour | None = None


class EndRound(msgspec.Struct, frozen=True):
    """A round is over: report the outcome."""


class Leave(msgspec.Struct, frozen=True):
    """The spec no longer names the instrument, and all its trades are saved."""


class Log(msgspec.Struct, frozen=True):
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
