"""Between syncs and messages: what a message is to a sync, what an action asks of the reader, and what the syncs have
come to in all.
"""

import math

from backfilld.actors.messages import (
    ArchiveDayEnded,
    DaySaved,
    Followed,
    GivenUp,
    RoundSaved,
    RowsArrived,
)
from backfilld.actors.reader_messages import (
    DayDeleted,
    DaysAltered,
    DaysRead,
    DistrustDay,
    LookForChanges,
    ReadDays,
    ReaderMessage,
    RememberShown,
)
from backfilld.core.model import Instrument
from backfilld.core.sync import events as happened
from backfilld.core.sync.events import Action, Event
from backfilld.core.sync.instruments import Instruments
from backfilld.core.sync.standing import Statistics

SyncMessage = (
    DaySaved | ArchiveDayEnded | RoundSaved | DaysRead | DaysAltered | DayDeleted | Followed | RowsArrived | GivenUp
)


def event_of(message: SyncMessage) -> Event | None:  # noqa: PLR0911 - a table
    """What a message is to the sync of its instrument; None if it is nothing to it."""
    match message:
        case DaySaved(record=record, conflicts=conflicts):
            return happened.DayStored(record, conflicts)
        case ArchiveDayEnded(_, day, refusal, record):
            return happened.ArchiveDayEnded(day, record, refusal)
        case RoundSaved():
            return happened.Flushed()
        case DaysRead(records=records, error=error, shown=shown):
            return happened.DaysLoaded(records, shown) if error is None else happened.DaysUnreadable(error)
        case DaysAltered(days=days):
            return happened.DaysAltered(days)
        case DayDeleted(day=day):
            return happened.DayDeleted(day)
        case Followed():
            return happened.IsFollowed()
        case RowsArrived(found=found):
            return happened.Arrived(found)
        case GivenUp(ids=ids, is_passed_over=is_passed_over):
            return happened.PassedOver(ids) if is_passed_over else None


def request_of(instrument: Instrument, action: Action) -> ReaderMessage | None:
    """What an action asks the reader for; None if it is for somebody else."""
    match action:
        case happened.LoadDays(days):
            return ReadDays(instrument, days)
        case happened.LookAtFiles():
            return LookForChanges(instrument)
        case happened.Distrust(day, reason):
            return DistrustDay(instrument, day, reason)
        case happened.Remember(shown):
            return RememberShown(instrument, shown)
        case _:
            return None


def statistics_of(instruments: Instruments, steps: int, last_error: str | None) -> Statistics:
    """How all instruments stand, after so many steps."""
    sums = instruments.sums
    is_all_resting = sums.resting == len(instruments)
    return Statistics(
        wanted=sums.fetched + sums.to_fetch,
        fetched=sums.fetched,
        cached=sums.cached,
        requests=sums.requests,
        weight=sums.weight,
        instruments=len(instruments),
        complete=sums.complete,
        unlisted=sums.unlisted,
        last_error=last_error,
        archive_days=sums.archive_days,
        steps=steps,
        rests_until=instruments.next_round_at() if is_all_resting else -math.inf,
        standings=dict(instruments.standings),
    )
