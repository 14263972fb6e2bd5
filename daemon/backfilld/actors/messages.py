"""Everything the actors say to each other. Commands are imperatives, events past participles; all are values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import polars as pl

from backfilld.actors.reader_messages import DayDeleted, DaysAltered, DaysRead, FiguresRead
from backfilld.core.backfill.questions import Found, Query
from backfilld.core.day.absences import AbsentIds
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import REST, Certificate, Source
from backfilld.core.day.start import DayStart
from backfilld.core.frame import empty_trades
from backfilld.core.model import IdRange, Instrument, Market
from backfilld.core.sync.spec import RunSpec
from backfilld.core.weight.fair_queue import Rank
from backfilld.errors import ExchangeError
from backfilld.ports import Cost, MarketInfo, Published, Usage
from backfilld.ports.remote import StagedDay

# -- scheduler -> fetcher


@dataclass(frozen=True, slots=True)
class FetchJob:
    """Ask one question about an instrument; rows at or after ``stop_ms`` are not wanted. ``rank`` is its urgency."""

    instrument: Instrument
    query: Query
    stop_ms: int | None = None
    rank: Rank = Rank.TODAY

    @property
    def market(self) -> Market:
        """The market that is asked."""
        return self.instrument.market


@dataclass(frozen=True, slots=True)
class DescribeMarket:
    """Read the limits and the tick sizes of a market's symbols; ``whole`` asks for all symbols that it lists."""

    market: Market
    symbols: tuple[str, ...]
    whole: bool = False


Job = FetchJob | DescribeMarket


@dataclass(frozen=True, slots=True)
class Spent:
    """What a job cost, retries included, and what its last answer told of the server's clock."""

    requests: int = 0
    weight: int = 0
    usage: Usage = field(default_factory=Usage)
    sent_ms: float = 0.0
    received_ms: float = 0.0

    def plus(self, cost: Cost, usage: Usage) -> "Spent":
        """With one more reply counted; one for which nothing was sent changes nothing."""
        if not cost.requests:
            return self
        requests, weight = self.requests + cost.requests, self.weight + cost.weight
        return Spent(requests, weight, usage, cost.sent_ms, cost.received_ms)


# -- fetcher -> scheduler


@dataclass(frozen=True, slots=True)
class JobAnswered:
    """The question was answered; the rows, if any, were handed to the merger before this was sent."""

    job: FetchJob
    found: Found
    spent: Spent


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The job was given up, for the reason that ``error`` says."""

    job: Job
    error: ExchangeError
    spent: Spent


@dataclass(frozen=True, slots=True)
class JobDropped:
    """The job was not done because the pipeline is stopping."""

    job: Job


@dataclass(frozen=True, slots=True)
class MarketDescribed:
    """exchangeInfo was read."""

    job: DescribeMarket
    info: MarketInfo
    spent: Spent


# -- fetcher, scheduler -> merger


@dataclass(frozen=True, slots=True)
class PageFetched:
    """A checked page: contiguous ids, strictly ascending, from one source."""

    instrument: Instrument
    trades: pl.DataFrame
    source: Source = REST


@dataclass(frozen=True, slots=True)
class PagesStreamed:
    """Rows of any number of instruments that came by streams, contiguous in each page."""

    pages: tuple[PageFetched, ...]


@dataclass(frozen=True, slots=True)
class StartsProven:
    """Where days of the instrument begin."""

    instrument: Instrument
    day_starts: frozenset[DayStart]


@dataclass(frozen=True, slots=True)
class FlushDays:
    """Hand everything over that is held of the instrument. Note the ``absences`` of days, and have the files written of
    the days in ``renew``, with what is proven of them and what waits in their journals."""

    instrument: Instrument
    renew: frozenset[date] = frozenset()
    absences: Mapping[date, AbsentIds] = field(default_factory=dict)


# -- scheduler -> archivist


@dataclass(frozen=True, slots=True)
class TakeFromArchive:
    """Take these days of an instrument, ascending, from the archive."""

    instrument: Instrument
    days: tuple[date, ...]


# -- archivist -> writer


@dataclass(frozen=True, slots=True)
class DayPublished:
    """A published day is on disk; so is the day ``following`` it, if it was published and is wanted too. ``is_first``
    if the day before was not asked for."""

    instrument: Instrument
    day: date
    published: Published
    following: Published | None = None
    is_first: bool = False


# -- puller -> writer


@dataclass(frozen=True, slots=True)
class DayPulled:
    """A day out of the bucket is on disk, checked, beside its place."""

    instrument: Instrument
    day: date
    staged: StagedDay


# -- writer -> replicator


@dataclass(frozen=True, slots=True)
class DaySealed:
    """A sealed day stands on disk."""

    instrument: Instrument
    day: date


# -- archivist, writer -> scheduler


@dataclass(frozen=True, slots=True)
class ArchiveDayEnded:
    """All that the archive or the bucket has of the day is stored, as ``record`` describes it; or neither has anything
    that can be used, as ``refusal`` explains."""

    instrument: Instrument
    day: date
    refusal: str | None = None
    record: Certificate | None = None


# -- merger -> writer


@dataclass(frozen=True, slots=True)
class DayMerged:
    """An addition to one day. Before it was one, ``duplicates`` of its trades fell away, and the ``conflicts`` were
    refused. ``writes_file``: the journal of the day will not do."""

    addition: Addition
    duplicates: int = 0
    conflicts: pl.DataFrame = field(default_factory=empty_trades)
    writes_file: bool = False

    @property
    def instrument(self) -> Instrument:
        """Whose trades they are."""
        return self.addition.instrument

    @property
    def day(self) -> date:
        """The day that they are added to."""
        return self.addition.day


@dataclass(frozen=True, slots=True)
class DaysFlushed:
    """All that a FlushDays asked for stands before this in the channel."""

    instrument: Instrument


# -- writer -> scheduler


@dataclass(frozen=True, slots=True)
class DaySaved:
    """A day stands on disk as ``record`` says. ``conflicts`` counts the rows that were refused."""

    instrument: Instrument
    record: Certificate
    downloaded: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class RoundSaved:
    """Everything flushed before is on disk."""

    instrument: Instrument


# -- scheduler -> sequencer


@dataclass(frozen=True, slots=True)
class FollowFrom:
    """All up to the newest trade is on its way to the disk: give out the instrument's trades from ``next_id`` on."""

    instrument: Instrument
    next_id: int


# -- sequencer -> scheduler


@dataclass(frozen=True, slots=True)
class Followed:
    """The sequencer looks after the newest end of the instrument: it must not be polled."""

    instrument: Instrument


@dataclass(frozen=True, slots=True)
class RowsArrived:
    """Rows that nobody asked for were handed to the merger before this was sent."""

    instrument: Instrument
    found: Found


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The live side went on without these ids. ``is_passed_over``: the exchange answered with later rows only."""

    instrument: Instrument
    ids: IdRange
    is_passed_over: bool


# -- supervisor -> scheduler, governor


@dataclass(frozen=True, slots=True)
class SpecChanged:
    """Continue with this spec, and look whether another program has changed the day files."""

    spec: RunSpec


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Finish what is in hand and begin nothing new."""


SchedulerMessage = (
    JobAnswered
    | JobFailed
    | JobDropped
    | MarketDescribed
    | ArchiveDayEnded
    | DaySaved
    | DaysRead
    | DaysAltered
    | DayDeleted
    | FiguresRead
    | RoundSaved
    | SpecChanged
    | StopRequested
    | Followed
    | RowsArrived
    | GivenUp
)
MergerMessage = PageFetched | PagesStreamed | StartsProven | FlushDays
WriterMessage = DayMerged | DaysFlushed | DayPublished | DayPulled
