"""Sets of aggregate trade ids.

Owns the arithmetic of id ranges. Ids alone decide what is complete: a pause in time is not a hole
(reference: ids grow by one per aggregate trade, per symbol and market).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backfilld.core.model import IdRange

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class IdSet:
    """A set of ids as ranges: ascending, disjoint and never adjacent. Build it with :meth:`of`."""

    ranges: tuple[IdRange, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[IdRange]) -> "IdSet":
        """The union of any ranges, in any order, overlapping or not."""
        return cls(tuple(_joined(sorted(ranges))))

    @classmethod
    def of_ids(cls, ids: "pl.Series") -> "IdSet":
        """The ids of a strictly ascending int64 series."""
        if ids.is_empty():
            return cls()
        if ids[-1] - ids[0] + 1 == ids.len():
            return cls((IdRange(ids[0], ids[-1]),))
        import polars as pl  # noqa: PLC0415 - a command that reads certificates alone starts without it

        after_hole = (ids.diff() > 1).arg_true()
        firsts = [ids[0], *ids.gather(after_hole)]
        lasts = [*ids.gather(after_hole.cast(pl.Int64) - 1), ids[-1]]
        return cls(tuple(IdRange(first, last) for first, last in zip(firsts, lasts, strict=True)))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, trade_id: int) -> bool:
        at = bisect_left(self.ranges, trade_id, key=_last_id)
        return at < len(self.ranges) and self.ranges[at].first_id <= trade_id

    def __or__(self, other: "IdSet") -> "IdSet":
        return IdSet.of((*self.ranges, *other.ranges)) if self and other else self or other

    def __and__(self, other: "IdSet") -> "IdSet":
        return IdSet(tuple(part for _, part in self.within(other.ranges)))

    def __sub__(self, other: "IdSet") -> "IdSet":
        return IdSet(tuple(part for each in self.ranges for part in other.missing(each)))

    @property
    def rows(self) -> int:
        """How many ids are in the set."""
        return sum(map(len, self.ranges))

    @property
    def first_id(self) -> int:
        """The lowest id. The set must not be empty."""
        return self.ranges[0].first_id

    @property
    def last_id(self) -> int:
        """The highest id. The set must not be empty."""
        return self.ranges[-1].last_id

    @property
    def holes(self) -> tuple[IdRange, ...]:
        """The ids missing between the lowest and the highest."""
        return self.missing(IdRange(self.first_id, self.last_id)) if self else ()

    def missing(self, wanted: IdRange) -> tuple[IdRange, ...]:
        """The ids of ``wanted`` that are not in the set, as ascending ranges."""
        return tuple(self._missing(wanted))

    def within(self, ranges: Sequence[IdRange]) -> Iterator[tuple[int, IdRange]]:
        """The ids of the set that lie in ``ranges``, which ascend and are disjoint: each part with the number of its
        range. Both are walked once."""
        at = 0
        for number, each in enumerate(ranges):
            while at < len(self.ranges) and self.ranges[at].first_id <= each.last_id:
                part = self.ranges[at]
                if part.last_id >= each.first_id:
                    yield number, IdRange(max(part.first_id, each.first_id), min(part.last_id, each.last_id))
                if part.last_id > each.last_id:
                    break
                at += 1

    def marked(self, ids: "pl.Series") -> "pl.Series":
        """Which of the ids of an int64 series are in the set."""
        import polars as pl  # noqa: PLC0415 - as above

        firsts = pl.Series([-1, *(each.first_id for each in self.ranges)], dtype=pl.Int64)
        lasts = pl.Series([-1, *(each.last_id for each in self.ranges)], dtype=pl.Int64)
        before = firsts.search_sorted(ids, side="right").cast(pl.Int64) - 1
        return ids <= lasts.gather(before)

    def _missing(self, wanted: IdRange) -> Iterator[IdRange]:
        next_id = wanted.first_id
        for at in range(bisect_left(self.ranges, next_id, key=_last_id), len(self.ranges)):
            present = self.ranges[at]
            if present.first_id > wanted.last_id:
                break
            if present.first_id > next_id:
                yield IdRange(next_id, present.first_id - 1)
            next_id = present.last_id + 1
        if next_id <= wanted.last_id:
            yield IdRange(next_id, wanted.last_id)


def _last_id(ids: IdRange) -> int:
    return ids.last_id


def _joined(ranges: Iterable[IdRange]) -> Iterator[IdRange]:
    current: IdRange | None = None
    for each in ranges:
        if current is None:
            current = each
        elif each.first_id <= current.last_id + 1:
            current = IdRange(current.first_id, max(current.last_id, each.last_id))
        else:
            yield current
            current = each
    if current is not None:
        yield current
