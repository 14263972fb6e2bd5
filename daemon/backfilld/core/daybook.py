"""What the cache knows of one day, and when that day is complete.

Owns the rule: a day is complete when its ids run without a hole from the first id of the day to the last, and the
next id lies in a later day. Both ends are proven by a *day start*: an id whose predecessor is known to lie in an
earlier day.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

from backfilld.core.ledger import Coverage
from backfilld.core.model import IdRange, day_of
from backfilld.core.window import Span, Window


@dataclass(frozen=True, slots=True)
class DayRecord:
    """The trades held of one day. ``spans`` ascend and are never empty; ``opened`` and ``closed`` say whether the first
    and the last id are proven to be the day's."""

    day: date
    spans: tuple[Span, ...]
    opened: bool = False
    closed: bool = False

    @property
    def coverage(self) -> Coverage:
        """The ids held."""
        return Coverage.of(span.ids for span in self.spans)

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
        """The ids missing between the first and the last."""
        return self.coverage.holes

    @property
    def sealed(self) -> bool:
        """Whether the day is complete and over."""
        return self.opened and self.closed and not self.holes

    def proven_starts(self) -> set[int]:
        """The day starts that this record knows of: its first id, and the one after its last."""
        return ({self.first_id} if self.opened else set()) | ({self.last_id + 1} if self.closed else set())

    def proven_by(self, day_starts: Collection[int]) -> "DayRecord":
        """The record with what the day starts prove of its ends."""
        opened = self.opened or self.first_id in day_starts
        return replace(self, opened=opened, closed=self.closed or self.last_id + 1 in day_starts)


def day_starts(records: Iterable[DayRecord]) -> set[int]:
    """The ids that adjoining days prove to be day starts."""
    ordered = sorted(records, key=lambda record: record.day)
    return {later.first_id for earlier, later in pairwise(ordered) if earlier.last_id + 1 == later.first_id}


def held_in(window: Window, records: Iterable[DayRecord]) -> tuple[list[Span], bool]:
    """The spans that reach into the window, and whether the lowest id of them is proven to be the window's first."""
    start_day = day_of(window.start_ms)
    spans: list[Span] = []
    opened_at: int | None = None
    for record in records:
        spans += [span for span in record.spans if _reaches_into(window, span)]
        if record.opened and record.day == start_day:
            opened_at = record.first_id
    spans.sort(key=lambda span: span.ids)
    return spans, bool(spans) and spans[0].ids.first_id == opened_at


def _reaches_into(window: Window, span: Span) -> bool:
    return span.last_ms >= window.start_ms and (window.stop_ms is None or span.first_ms < window.stop_ms)
