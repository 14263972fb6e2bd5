"""What time is wanted, and which stretches of it are stored."""

from collections.abc import Iterable
from dataclasses import dataclass

from backfilld.core.model import IdRange


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """Contiguous ids that are stored, with the times of the first and the last row in ms."""

    ids: IdRange
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The time that is wanted: ``start_ms`` up to, not including, ``stop_ms``; None is open: up to now."""

    start_ms: int
    stop_ms: int | None = None


def joined(spans: Iterable[StoredSpan]) -> list[StoredSpan]:
    """Spans in id order, with neighbours joined where their ids adjoin."""
    result: list[StoredSpan] = []
    for span in sorted(spans, key=lambda each: each.ids):
        if result and result[-1].ids.last_id + 1 == span.ids.first_id:
            first = result.pop()
            result.append(StoredSpan(IdRange(first.ids.first_id, span.ids.last_id), first.first_ms, span.last_ms))
        else:
            result.append(span)
    return result
