"""The grid of candles: where the candle that contains an instant opens, and where the next one does.

Owns the intervals of spot. Weeks open on Mondays, months on their first day, and three days count from the epoch; a
time zone moves the midnight.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from backfilld.core.model import MS_PER_DAY

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY_MS = 4 * MS_PER_DAY
MONTH = "1M"
_LONGEST_MONTH_DAYS = 32

_SPANS_MS = {
    "1s": 1000,
    **{f"{count}m": count * _MINUTE_MS for count in (1, 3, 5, 15, 30)},
    **{f"{count}h": count * _HOUR_MS for count in (1, 2, 4, 6, 8, 12)},
    "1d": MS_PER_DAY,
    "3d": 3 * MS_PER_DAY,
    "1w": 7 * MS_PER_DAY,
}

_ZONE = re.compile(r"([+-]?)(\d{1,2})(?::([0-5]\d))?")
_EARLIEST_ZONE, _LATEST_ZONE = -12 * 60, 14 * 60


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval by its name, and how far its time zone is ahead of UTC."""

    name: str
    offset_ms: int = 0

    @property
    def span_ms(self) -> int:
        """How long a candle is; of months the longest."""
        return _SPANS_MS.get(self.name, _LONGEST_MONTH_DAYS * MS_PER_DAY)

    @property
    def is_below_minutes(self) -> bool:
        """Whether candles of a minute are too coarse for it."""
        return self.span_ms < _MINUTE_MS

    def open_ms(self, time_ms: int) -> int:
        """When the candle that contains the instant opens."""
        local_ms = time_ms + self.offset_ms
        if self.name == MONTH:
            month = (_EPOCH + timedelta(milliseconds=local_ms)).replace(
                day=1, hour=0, minute=0, second=0, microsecond=0
            )
            return (month - _EPOCH) // timedelta(milliseconds=1) - self.offset_ms
        phase_ms = _MONDAY_MS if self.name == "1w" else 0
        return local_ms - (local_ms - phase_ms) % self.span_ms - self.offset_ms

    def next_ms(self, open_ms: int) -> int:
        """When the candle after the one that opens then opens."""
        return self.open_ms(open_ms + self.span_ms) if self.name == MONTH else open_ms + self.span_ms

    def after_ms(self, open_ms: int, candles: int) -> int:
        """When the candle opens that comes so many later; a negative number: earlier."""
        if self.name != MONTH:
            return open_ms + candles * self.span_ms
        for _ in range(abs(candles)):
            open_ms = self.next_ms(open_ms) if candles > 0 else self.open_ms(open_ms - 1)
        return open_ms


def interval_named(name: str, zone: str = "0") -> Interval | None:
    """The interval, None if there is no such one, or no such time zone."""
    match = _ZONE.fullmatch(zone)
    if (name not in _SPANS_MS and name != MONTH) or match is None or not zone.isascii():
        return None
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    minutes = -minutes if match[1] == "-" else minutes
    return Interval(name, minutes * _MINUTE_MS) if _EARLIEST_ZONE <= minutes <= _LATEST_ZONE else None
