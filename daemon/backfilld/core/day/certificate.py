"""The certificate of one day: which trades are stored, what proves where the day begins and ends, where they came from.

Owns the rule: a day is complete when its ids run without a hole from the first id of the day to the last, and the
next id lies in a later day. Both ends are proven by a *day start*: that of the day itself, and that of a later one. Ids
that the exchange itself does not have are not holes, and a neighbour is looked for beyond them.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby, pairwise

from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from backfilld.core.timespan import StoredSpan


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows came from: ``rest``, ``stream``, ``archive`` (``sha256`` is then the zip's, as published) or
    ``adopted``."""

    name: str
    sha256: str | None = None


REST = Source("rest")
STREAM = Source("stream")
"""The live side: the exchange's stream, and what REST filled its holes with."""
ADOPTED = Source("adopted")


@dataclass(frozen=True, slots=True)
class Sourced:
    """Ids that came from one source."""

    source: Source
    ids: IdRange


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Ids that the exchange did not have when it was asked for them, once, at ``asked_ms``."""

    ids: IdRange
    asked_ms: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is known of a day besides its rows.

    ``absent`` are ids that the exchange does not have (asked twice, hours apart), ``conflicting`` ids of which two
    versions came, ``sources`` where ids came from: the first that names an id counts, and ids that none names came from
    ``source``.
    """

    day_starts: Collection[DayStart] = ()
    source: Source = REST
    sources: tuple[Sourced, ...] = ()
    absent: tuple[IdRange, ...] = ()
    suspected: tuple[Suspicion, ...] = ()
    conflicting: tuple[IdRange, ...] = ()

    def with_news(
        self, day_starts: Iterable[DayStart], absent: Iterable[IdRange], suspected: Iterable[Suspicion]
    ) -> "Provenance":
        """This, and what has become known besides."""
        return replace(
            self,
            day_starts={*self.day_starts, *day_starts},
            absent=(*self.absent, *absent),
            suspected=(*self.suspected, *suspected),
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    """The trades stored of one day. ``spans`` ascend and are never empty; ``opened`` and ``closed`` say whether the
    first and the last id are proven to be the day's. ``absent``, ``suspected``, ``sources`` and ``conflicting`` are as
    in :class:`Provenance`; ``findings`` count what is odd in the rows without being an error. ``digest`` is that of the
    rows, of a sealed day; ``market`` and ``symbol`` are None in a file of no particular instrument."""

    day: date
    spans: tuple[StoredSpan, ...]
    opened: bool = False
    closed: bool = False
    absent: tuple[IdRange, ...] = ()
    suspected: tuple[Suspicion, ...] = ()
    sources: tuple[Sourced, ...] = ()
    conflicting: tuple[IdRange, ...] = ()
    findings: dict[str, int] = field(default_factory=dict)
    market: str | None = None
    symbol: str | None = None
    digest: str | None = None

    @property
    def coverage(self) -> IdSet:
        """The ids stored."""
        return IdSet.of(span.ids for span in self.spans)

    @property
    def rows(self) -> int:
        """How many trades are stored."""
        return sum([len(span.ids) for span in self.spans])

    @property
    def first_id(self) -> int:
        """The lowest id stored."""
        return self.spans[0].ids.first_id

    @property
    def last_id(self) -> int:
        """The highest id stored."""
        return self.spans[-1].ids.last_id

    @property
    def last_ms(self) -> int:
        """The time of the newest trade stored."""
        return self.spans[-1].last_ms

    @property
    def holes(self) -> tuple[IdRange, ...]:
        """The ids missing between the first and the last, without those absent upstream."""
        if len(self.spans) == 1:
            return ()
        known = self.coverage | IdSet.of(self.absent)
        return known.missing(IdRange(self.first_id, self.last_id))

    @property
    def sealed(self) -> bool:
        """Whether the day is complete and over."""
        return self.opened and self.closed and not self.holes

    @property
    def conflicts(self) -> int:
        """Of how many ids two versions came."""
        return sum(map(len, self.conflicting))

    @property
    def previous_last_id(self) -> int | None:
        """The last id of an earlier day: the one before the first, or before those absent; None while unproven."""
        return self.lowest_start - 1 if self.opened else None

    @property
    def next_first_id(self) -> int | None:
        """The first id of a later day: the one after the last, or after those absent; None while unproven."""
        return self.highest_start if self.closed else None

    def proven_starts(self) -> set[DayStart]:
        """The day starts that this certificate knows of: its own, and that of the day after."""
        own = {DayStart(self.day, self.first_id)} if self.opened else set()
        return own | ({DayStart(self.day + ONE_DAY, self.highest_start)} if self.closed else set())

    def provenance(self) -> Provenance:
        """What is known of the day besides its rows."""
        return Provenance(
            day_starts=self.proven_starts(),
            sources=self.sources,
            absent=self.absent,
            suspected=self.suspected,
            conflicting=self.conflicting,
        )

    def proven_by(self, day_starts: Collection[DayStart]) -> "Certificate":
        """A copy with what the day starts prove of its ends. The start of another day does not open this one, also if
        it has the same id."""
        lowest, highest = self.lowest_start, self.highest_start
        own = (each.first_id for each in day_starts if each.day == self.day)
        later = (each.first_id for each in day_starts if each.day > self.day)
        opened = self.opened or any(lowest <= first_id <= self.first_id for first_id in own)
        closed = self.closed or any(self.last_id < first_id <= highest for first_id in later)
        if (opened, closed) == (self.opened, self.closed):
            return self
        return replace(self, opened=opened, closed=closed)

    def proven_beside(self, earlier: "Certificate | None", later: "Certificate | None") -> "Certificate":
        """A copy with what the nearest stored days prove of its ends: ids that adjoin leave no room for a trade."""
        beside = [each for each in (earlier, self, later) if each is not None]
        return self.proven_by(day_starts(beside))

    def with_provenance(self, known: Provenance) -> "Certificate":
        """A copy with this provenance. Ids that are stored leave ``absent`` and ``suspected``; every stored id gets a
        source."""
        stored = self.coverage
        absent = IdSet.of(known.absent) - stored
        copy = replace(
            self,
            absent=absent.ranges,
            suspected=_suspected(known.suspected, stored | absent),
            sources=_sources(known.sources, stored, known.source),
            conflicting=(IdSet.of(known.conflicting) & stored).ranges,
        )
        return copy.proven_by(known.day_starts)

    @property
    def lowest_start(self) -> int:
        """The lowest id that the start of this day can be: below the first one lie only ids that are absent."""
        return min((gap.first_id for gap in self.absent if gap.last_id + 1 == self.first_id), default=self.first_id)

    @property
    def highest_start(self) -> int:
        """The highest id that the start of a later day can be with no trade before it: up to it all ids are absent."""
        after = self.last_id + 1
        return max((gap.last_id + 1 for gap in self.absent if gap.first_id == after), default=after)


def _suspected(suspicions: Iterable[Suspicion], settled: IdSet) -> tuple[Suspicion, ...]:
    """Each id once, as first suspected."""
    found: list[Suspicion] = []
    by_time = sorted(suspicions, key=lambda each: each.asked_ms)
    for asked_ms, group in groupby(by_time, key=lambda each: each.asked_ms):
        raised = IdSet.of(each.ids for each in group)
        found += [Suspicion(ids, asked_ms) for ids in (raised - settled).ranges]
        settled |= raised
    return tuple(sorted(found, key=lambda each: each.ids))


def _sources(known: Sequence[Sourced], stored: IdSet, source: Source) -> tuple[Sourced, ...]:
    """The source of every id stored: the first that is known of it, otherwise ``source``."""
    found: list[Sourced] = []
    left = stored
    for batch in (*_ascending(known), [Sourced(source, ids) for ids in stored.ranges]):
        ids = [each.ids for each in batch]
        found += [Sourced(batch[number].source, part) for number, part in left.within(ids)]
        left -= IdSet.of(ids)
    return tuple(_joined(sorted(found, key=lambda each: each.ids)))


def _ascending(known: Sequence[Sourced]) -> Iterator[list[Sourced]]:
    """The same in the same sequence, cut where the ids do not ascend: each batch is then walked once."""
    batch: list[Sourced] = []
    for each in known:
        if batch and each.ids.first_id <= batch[-1].ids.last_id:
            yield batch
            batch = []
        batch.append(each)
    if batch:
        yield batch


def _joined(ascending: Iterable[Sourced]) -> list[Sourced]:
    result: list[Sourced] = []
    for each in ascending:
        last = result[-1] if result else None
        if last is not None and last.source == each.source and last.ids.last_id + 1 == each.ids.first_id:
            result[-1] = Sourced(each.source, IdRange(last.ids.first_id, each.ids.last_id))
        else:
            result.append(each)
    return result


def day_starts(records: Iterable[Certificate]) -> set[DayStart]:
    """The day starts that stored days prove: nothing lies between them but ids that the exchange lacks."""
    ordered = sorted(records, key=lambda record: record.day)
    return {DayStart(later.day, later.first_id) for earlier, later in pairwise(ordered) if _adjoin(earlier, later)}


def _adjoin(earlier: Certificate, later: Certificate) -> bool:
    if earlier.last_id + 1 >= later.first_id or not (earlier.absent or later.absent):
        return earlier.last_id + 1 == later.first_id
    absent = IdSet.of((*earlier.absent, *later.absent))
    return not absent.missing(IdRange(earlier.last_id + 1, later.first_id - 1))
