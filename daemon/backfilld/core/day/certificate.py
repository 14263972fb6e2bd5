"""What the cache knows of one day, and when that day is complete.

Owns the rule: a day is complete when its ids run without a hole from the first id of the day to the last, and the
next id lies in a later day. Both ends are proven by a *day start*: an id whose predecessor is known to lie in an
earlier day. Ids that the exchange itself does not have are no holes, and a neighbour is looked for beyond them.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby, pairwise

from backfilld.core.ids import IdSet
from backfilld.core.model import MS_PER_DAY, IdRange, day_of
from backfilld.core.timespan import StoredSpan, TimeSpan


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows came from: ``rest``, ``archive`` (``sha256`` is then the zip's, as published) or ``adopted``."""

    name: str
    sha256: str | None = None


REST = Source("rest")
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
    versions came, ``sources`` where ids came from: what they do not cover came from ``source``.
    """

    day_starts: Collection[int] = ()
    source: Source = REST
    sources: tuple[Sourced, ...] = ()
    absent: tuple[IdRange, ...] = ()
    suspected: tuple[Suspicion, ...] = ()
    conflicting: tuple[IdRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """The trades held of one day. ``spans`` ascend and are never empty; ``opened`` and ``closed`` say whether the first
    and the last id are proven to be the day's. The rest is as in :class:`Provenance`; ``findings`` count what is odd in
    the rows and no error."""

    day: date
    spans: tuple[StoredSpan, ...]
    opened: bool = False
    closed: bool = False
    absent: tuple[IdRange, ...] = ()
    suspected: tuple[Suspicion, ...] = ()
    sources: tuple[Sourced, ...] = ()
    conflicting: tuple[IdRange, ...] = ()
    findings: dict[str, int] = field(default_factory=dict)

    @property
    def coverage(self) -> IdSet:
        """The ids held."""
        return IdSet.of(span.ids for span in self.spans)

    @property
    def rows(self) -> int:
        """How many trades are held."""
        return sum(len(span.ids) for span in self.spans)

    @property
    def first_id(self) -> int:
        """The lowest id held."""
        return self.spans[0].ids.first_id

    @property
    def last_id(self) -> int:
        """The highest id held."""
        return self.spans[-1].ids.last_id

    @property
    def last_ms(self) -> int:
        """The time of the newest trade held."""
        return self.spans[-1].last_ms

    @property
    def holes(self) -> tuple[IdRange, ...]:
        """The ids missing between the first and the last, without those absent upstream."""
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
        return self._lowest_start - 1 if self.opened else None

    @property
    def next_first_id(self) -> int | None:
        """The first id of a later day: the one after the last, or after those absent; None while unproven."""
        return self._highest_start if self.closed else None

    def proven_starts(self) -> set[int]:
        """The day starts that this record knows of: its first id, and the one after its last."""
        return ({self.first_id} if self.opened else set()) | ({self._highest_start} if self.closed else set())

    def proven_by(self, day_starts: Collection[int]) -> "Certificate":
        """The record with what the day starts prove of its ends."""
        opened = self.opened or any(self._lowest_start <= start <= self.first_id for start in day_starts)
        closed = self.closed or any(self.last_id < start <= self._highest_start for start in day_starts)
        return replace(self, opened=opened, closed=closed)

    def told(self, testimony: Provenance) -> "Certificate":
        """The record of the same rows with what is testified of them: what is held is neither absent nor suspected,
        and every id held has a source."""
        held = self.coverage
        absent = tuple(_minus(IdSet.of(testimony.absent).ranges, held.ranges))
        known = replace(
            self,
            absent=absent,
            suspected=_suspected(testimony.suspected, held | IdSet.of(absent)),
            sources=_sources(testimony.sources, held, testimony.source),
            conflicting=_within(IdSet.of(testimony.conflicting).ranges, held.ranges),
        )
        return known.proven_by(testimony.day_starts)

    @property
    def _lowest_start(self) -> int:
        """The lowest id that a day start proving the first id can be."""
        return min((gap.first_id for gap in self.absent if gap.last_id + 1 == self.first_id), default=self.first_id)

    @property
    def _highest_start(self) -> int:
        """The highest id that a day start proving the last id can be."""
        after = self.last_id + 1
        return max((gap.last_id + 1 for gap in self.absent if gap.first_id == after), default=after)


def _minus(left: Sequence[IdRange], right: Sequence[IdRange]) -> Iterator[IdRange]:
    """The ids of ``left`` that ``right`` has not. Both ascend and are disjoint; each is gone through once."""
    at = 0
    for each in left:
        first_id = each.first_id
        while at < len(right) and right[at].first_id <= each.last_id:
            if right[at].first_id > first_id:
                yield IdRange(first_id, right[at].first_id - 1)
            first_id = max(first_id, right[at].last_id + 1)
            if right[at].last_id > each.last_id:
                break
            at += 1
        if first_id <= each.last_id:
            yield IdRange(first_id, each.last_id)


def _within(left: Sequence[IdRange], right: Sequence[IdRange]) -> tuple[IdRange, ...]:
    """The ids of both."""
    return tuple(_minus(left, tuple(_minus(left, right))))


def _suspected(suspicions: Iterable[Suspicion], settled: IdSet) -> tuple[Suspicion, ...]:
    """Each id once, as first suspected."""
    found: list[Suspicion] = []
    by_time = sorted(suspicions, key=lambda each: each.asked_ms)
    for asked_ms, group in groupby(by_time, key=lambda each: each.asked_ms):
        raised = IdSet.of(each.ids for each in group)
        found += [Suspicion(ids, asked_ms) for ids in _minus(raised.ranges, settled.ranges)]
        settled |= raised
    return tuple(sorted(found, key=lambda each: each.ids))


def _sources(known: Sequence[Sourced], held: IdSet, source: Source) -> tuple[Sourced, ...]:
    """The source of every id held: the first that is known of it, otherwise ``source``."""
    found: list[Sourced] = []
    left: Sequence[IdRange] = held.ranges
    for batch in (*_ascending(known), [Sourced(source, ids) for ids in held.ranges]):
        ids = [each.ids for each in batch]
        taken, at = _within(left, ids), 0
        for part in _cut(taken, ids):
            while ids[at].last_id < part.first_id:
                at += 1
            found.append(Sourced(batch[at].source, part))
        left = tuple(_minus(left, ids))
    return tuple(_joined(sorted(found, key=lambda each: each.ids)))


def _ascending(known: Sequence[Sourced]) -> Iterator[list[Sourced]]:
    """The same in the same order, cut where the ids do not ascend."""
    batch: list[Sourced] = []
    for each in known:
        if batch and each.ids.first_id <= batch[-1].ids.last_id:
            yield batch
            batch = []
        batch.append(each)
    if batch:
        yield batch


def _cut(ranges: Sequence[IdRange], at: Sequence[IdRange]) -> Iterator[IdRange]:
    """The ids of ``ranges``, all of which ``at`` has, cut where one range of ``at`` ends and the next begins."""
    place = 0
    for each in ranges:
        first_id = each.first_id
        while first_id <= each.last_id:
            while at[place].last_id < first_id:
                place += 1
            last_id = min(each.last_id, at[place].last_id)
            yield IdRange(first_id, last_id)
            first_id = last_id + 1


def _joined(ordered: Iterable[Sourced]) -> list[Sourced]:
    result: list[Sourced] = []
    for each in ordered:
        last = result[-1] if result else None
        if last is not None and last.source == each.source and last.ids.last_id + 1 == each.ids.first_id:
            result[-1] = Sourced(each.source, IdRange(last.ids.first_id, each.ids.last_id))
        else:
            result.append(each)
    return result


def day_starts(records: Iterable[Certificate]) -> set[int]:
    """The ids that days prove to be day starts by having nothing between them, but ids that the exchange has not."""
    ordered = sorted(records, key=lambda record: record.day)
    return {later.first_id for earlier, later in pairwise(ordered) if _adjoin(earlier, later)}


def _adjoin(earlier: Certificate, later: Certificate) -> bool:
    if earlier.last_id + 1 >= later.first_id or not (earlier.absent or later.absent):
        return earlier.last_id + 1 == later.first_id
    absent = IdSet.of((*earlier.absent, *later.absent))
    return not absent.missing(IdRange(earlier.last_id + 1, later.first_id - 1))


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of a window: spans by id, whether the lowest and the highest id of them are proven to be the
    window's first and last, and which ids are absent or only suspected to be."""

    spans: tuple[StoredSpan, ...] = ()
    first_is_proven: bool = False
    last_is_proven: bool = False
    absent: IdSet = field(default_factory=IdSet)
    suspected: tuple[Suspicion, ...] = ()


def held_in(window: TimeSpan, records: Iterable[Certificate]) -> Held:
    """What the day records hold of the window."""
    by_day = {record.day: record for record in records}
    spans = [span for record in by_day.values() for span in record.spans if _reaches_into(window, span)]
    spans.sort(key=lambda span: span.ids)
    if not spans:
        return Held()
    first, last = by_day.get(day_of(window.start_ms)), None
    if window.stop_ms is not None and window.stop_ms % MS_PER_DAY == 0:
        last = by_day.get(day_of(window.stop_ms - 1))
    return Held(
        spans=tuple(spans),
        first_is_proven=first is not None and first.opened and spans[0].ids.first_id == first.first_id,
        last_is_proven=last is not None and last.closed and spans[-1].ids.last_id == last.last_id,
        absent=IdSet.of(ids for record in by_day.values() for ids in record.absent),
        suspected=tuple(each for record in by_day.values() for each in record.suspected),
    )


def _reaches_into(window: TimeSpan, span: StoredSpan) -> bool:
    return span.last_ms >= window.start_ms and (window.stop_ms is None or span.first_ms < window.stop_ms)
