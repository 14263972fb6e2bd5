"""The stored part of a time window, from the certificates of its days."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

from backfilld.core.day.certificate import Certificate, Suspicion
from backfilld.core.ids import IdSet
from backfilld.core.model import MS_PER_DAY, day_of, day_start_ms, day_stop_ms
from backfilld.core.timespan import StoredSpan, TimeSpan


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """What is stored of a window: spans by id, whether the lowest and the highest id of them are proven to be the
    window's first and last, and which ids are absent or only suspected to be."""

    spans: tuple[StoredSpan, ...] = ()
    first_is_proven: bool = False
    last_is_proven: bool = False
    absent: IdSet = field(default_factory=IdSet)
    suspected: tuple[Suspicion, ...] = ()


def stored_in(window: TimeSpan, records: Iterable[Certificate]) -> StoredWindow:
    """The part of the window that these days have."""
    by_day = {record.day: record for record in records}
    spans = [span for record in by_day.values() for span in record.spans if _reaches_into(window, record.day, span)]
    spans.sort(key=lambda span: span.ids)
    if not spans:
        return StoredWindow()
    first, last = by_day.get(day_of(window.start_ms)), None
    if window.stop_ms is not None and window.stop_ms % MS_PER_DAY == 0:
        last = by_day.get(day_of(window.stop_ms - 1))
    return StoredWindow(
        spans=tuple(spans),
        first_is_proven=first is not None and first.opened and spans[0].ids.first_id == first.first_id,
        last_is_proven=last is not None and last.closed and spans[-1].ids.last_id == last.last_id,
        absent=IdSet.of(ids for record in by_day.values() for ids in record.absent),
        suspected=tuple(each for record in by_day.values() for each in record.suspected),
    )


def _reaches_into(window: TimeSpan, day: date, span: StoredSpan) -> bool:
    """Whether the span is of the window. Every id of a day inside the window is, whatever its time."""
    stop_ms = window.stop_ms
    if window.start_ms <= day_start_ms(day) and (stop_ms is None or day_stop_ms(day) <= stop_ms):
        return True
    return span.last_ms >= window.start_ms and (window.stop_ms is None or span.first_ms < window.stop_ms)
