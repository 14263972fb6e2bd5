"""Everything the actors say to each other. Commands are imperatives, events past participles; all are values.

What concerns the sync of one instrument is an event or an action of :mod:`backfilld.core.sync.events`.
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Generic, TypeVar

import msgspec
import polars as pl

from backfilld.core.backfill.questions import Found, Query
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import REST, Source
from backfilld.core.day.figures import Figures
from backfilld.core.frame import empty_trades
from backfilld.core.model import Instrument, Market, day_of, day_start_ms, day_stop_ms
from backfilld.core.sync.events import (
    Action,
    Distrust,
    Event,
    Flush,
    Leave,
    LoadDays,
    LookAtFiles,
    Prove,
    Remember,
    TakeArchive,
)
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.symbols import DescribeMarket
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.fair_queue import Rank
from backfilld.errors import ExchangeError
from backfilld.ports import Cost, DayPublished, MarketInfo, Usage
from backfilld.ports.remote import StagedDay

A_co = TypeVar("A_co", bound=Action, covariant=True)


# -- syncs, which the scheduler runs, and everybody else


class SyncEvent(msgspec.Struct, frozen=True):
    """An event for the sync of an instrument."""

    instrument: Instrument
    event: Event


class SyncAction(msgspec.Struct, Generic[A_co], frozen=True):
    """An action of the sync of an instrument."""

    instrument: Instrument
    action: A_co


# -- scheduler -> fetcher


@dataclass(frozen=True, slots=True)
class FetchJob:
    """Ask one question about an instrument; rows at or after ``stop_ms`` are not wanted. ``rank`` is its urgency.
    ``latest_ms`` is the later time of the host's and the exchange's clock, in ms since the epoch. ``is_wary`` after
    answers that contradict each other."""

    instrument: Instrument
    query: Query
    stop_ms: int | None = None
    rank: Rank = Rank.TODAY
    latest_ms: int | None = field(default=None, compare=False, repr=False)
    is_wary: bool = False

    @property
    def market(self) -> Market:
        """The market that is asked."""
        return self.instrument.market


Job = FetchJob | DescribeMarket


class Spent(msgspec.Struct, frozen=True):
    """What a job cost, retries included, and what its last answer said of the server's clock."""

    requests: int = 0
    weight: int = 0
    usage: Usage = msgspec.field(default_factory=Usage)
    sent_ms: float = 0.0
    received_ms: float = 0.0

    def plus(self, cost: Cost, usage: Usage) -> "Spent":
        """With one more reply counted; one for which nothing was sent changes nothing."""
        if not cost.requests:
            return self
        requests, weight = self.requests + cost.requests, self.weight + cost.weight
        return Spent(requests, weight, usage, cost.sent_ms, cost.received_ms)


# -- fetcher -> scheduler


class JobAnswered(msgspec.Struct, frozen=True):
    """The question was answered; the rows, if any, were handed to the merger before this was sent."""

    job: FetchJob
    found: Found
    spent: Spent


class JobFailed(msgspec.Struct, frozen=True):
    """The job was given up, for the reason that ``error`` says."""

    job: Job
    error: ExchangeError
    spent: Spent


class JobDropped(msgspec.Struct, frozen=True):
    """The job was not done because the pipeline is stopping."""

    job: Job


class MarketDescribed(msgspec.Struct, frozen=True):
    """exchangeInfo was read."""

    job: DescribeMarket
    info: MarketInfo
    spent: Spent


# -- fetcher, scheduler -> merger


class PageFetched(msgspec.Struct, frozen=True):
    """A checked page: contiguous ids, strictly ascending, from one source."""

    instrument: Instrument
    trades: pl.DataFrame
    source: Source = REST


class PagesStreamed(msgspec.Struct, frozen=True):
    """Rows of any number of instruments that came by streams, contiguous in each page."""

    pages: tuple[PageFetched, ...]


# -- puller -> writer


class DayPulled(msgspec.Struct, frozen=True):
    """A day out of the bucket is on disk, checked, beside its place."""

    instrument: Instrument
    day: date
    staged: StagedDay


# -- writer -> replicator


class DaySealed(msgspec.Struct, frozen=True):
    """A sealed day stands on disk."""

    instrument: Instrument
    day: date


# -- merger -> writer


class DayMerged(msgspec.Struct, frozen=True):
    """An addition to one day. Before it was one, ``duplicates`` of its trades fell away, and the ``conflicts`` were
    refused. ``writes_file``: the journal of the day will not do."""

    addition: Addition
    duplicates: int = 0
    conflicts: pl.DataFrame = msgspec.field(default_factory=empty_trades)
    writes_file: bool = False

    @property
    def instrument(self) -> Instrument:
        """The instrument of the trades."""
        return self.addition.instrument

    @property
    def day(self) -> date:
        """The day that they are added to."""
        return self.addition.day


class DaysFlushed(msgspec.Struct, frozen=True):
    """Everything that a Flush asked for comes before this in the channel."""

    instrument: Instrument


# -- scheduler -> reader


class AddUp(msgspec.Struct, frozen=True):
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


class RetireDays(msgspec.Struct, frozen=True):
    """Delete the days that are more than ``keep_days`` older than ``today``."""

    instruments: tuple[Instrument, ...]
    today: date
    keep_days: int


# -- reader -> scheduler


class FiguresRead(msgspec.Struct, frozen=True):
    """The figures of a span; None if a file turned out to be damaged. ``is_whole`` as in :class:`AddUp`."""

    instrument: Instrument
    figures: Figures | None
    is_whole: bool = True
    is_damaged: bool = False


# -- supervisor -> scheduler, governor


class SpecChanged(msgspec.Struct, frozen=True):
    """Continue with this spec, and look whether another program has changed the day files."""

    spec: RunSpec


class StopRequested(msgspec.Struct, frozen=True):
    """Finish what is in hand and begin nothing new."""


SchedulerMessage = (
    SyncEvent | JobAnswered | JobFailed | JobDropped | MarketDescribed | FiguresRead | SpecChanged | StopRequested
)
ArchiveJob = SyncAction[TakeArchive]
MergerMessage = PageFetched | PagesStreamed | SyncAction[Flush | Prove]
ReaderMessage = SyncAction[LoadDays | LookAtFiles | Distrust | Remember | Leave] | AddUp | RetireDays
WriterMessage = DayMerged | DaysFlushed | DayPublished | DayPulled
