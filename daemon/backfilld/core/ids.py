"""Which aggregate trade ids are held, and which are missing.

Owns the arithmetic of id ranges. Completeness is judged by ids alone: a silence in time is no hole
(reference: ids grow by one per aggregate trade, per symbol and market).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from backfilld.core.model import IdRange


@dataclass(frozen=True, slots=True)
class IdSet:
    """A set of ids as ranges: ascending, disjoint and never adjacent. Build it with :meth:`of`."""

    ranges: tuple[IdRange, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[IdRange]) -> "IdSet":
        """The union of any ranges, in any order, overlapping or not."""
        return cls(tuple(_joined(sorted(ranges))))

    @classmethod
    def of_ids(cls, ids: pl.Series) -> "IdSet":
        """The ids of a strictly ascending int64 series."""
        if ids.is_empty():
            return cls()
        after_hole = (ids.diff() > 1).arg_true()
        firsts = [ids[0], *ids.gather(after_hole)]
        lasts = [*ids.gather(after_hole.cast(pl.Int64) - 1), ids[-1]]
        return cls(tuple(IdRange(first, last) for first, last in zip(firsts, lasts, strict=True)))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __or__(self, other: "IdSet") -> "IdSet":
        return IdSet.of((*self.ranges, *other.ranges))

    @property
    def rows(self) -> int:
        """How many ids are held."""
        return sum(map(len, self.ranges))

    @property
    def first_id(self) -> int:
        """The lowest id held. The coverage must not be empty."""
        return self.ranges[0].first_id

    @property
    def last_id(self) -> int:
        """The highest id held. The coverage must not be empty."""
        return self.ranges[-1].last_id

    @property
    def holes(self) -> tuple[IdRange, ...]:
        """The ids missing between the lowest and the highest id held."""
        return self.missing(IdRange(self.first_id, self.last_id)) if self else ()

    def holds(self, trade_id: int) -> bool:
        """Whether the id is held."""
        return any(span.first_id <= trade_id <= span.last_id for span in self.ranges)

    def missing(self, wanted: IdRange) -> tuple[IdRange, ...]:
        """The ids of ``wanted`` that are not held, as ascending ranges."""
        return tuple(self._missing(wanted))

    def _missing(self, wanted: IdRange) -> Iterator[IdRange]:
        next_id = wanted.first_id
        for span in self.ranges:
            if span.last_id < next_id:
                continue
            if span.first_id > wanted.last_id:
                break
            if span.first_id > next_id:
                yield IdRange(next_id, span.first_id - 1)
            next_id = span.last_id + 1
        if next_id <= wanted.last_id:
            yield IdRange(next_id, wanted.last_id)


def _joined(ranges: Iterable[IdRange]) -> Iterator[IdRange]:
    current: IdRange | None = None
    for span in ranges:
        if current is None:
            current = span
        elif span.first_id <= current.last_id + 1:
            current = IdRange(current.first_id, max(current.last_id, span.last_id))
        else:
            yield current
            current = span
    if current is not None:
        yield current
