"""Instants as people write them: dates, aware datetimes, numpy's datetime64, ISO 8601 text.

Owns the one rule for all of them. A date is the midnight (UTC) at which it begins; a time of day needs its zone, but
for a datetime64, which has none and is taken as UTC, as numpy itself does.
"""

from datetime import UTC, date, datetime
from typing import Any, Protocol

from backfilld.core.model import day_start_ms, instant_ms
from backfilld.core.text import plain
from backfilld.errors import SettingsError


class Datetime64(Protocol):
    """numpy's datetime64, as far as it is asked: numpy need not be there."""

    def astype(self, dtype: Any, /) -> Any:
        """The same instant in another unit."""


Moment = date | datetime | str | Datetime64


def moment_ms(moment: Moment) -> int:
    """The instant in ms since the epoch, rounded down. Raises SettingsError for a time without a zone, for text that is
    not ISO 8601, for what is neither a date nor a time, and for what lies before 1970."""
    read = _read(moment)
    time_ms = instant_ms(read) if isinstance(read, datetime) else day_start_ms(read)
    if time_ms < 0:
        raise SettingsError(f"{read} is before 1970, and before any trade")
    return time_ms


def _read(moment: Any) -> date:
    if isinstance(moment, str):
        return _parsed(moment)
    if type(moment).__name__ == "datetime64":
        moment = moment.astype("datetime64[ms]").item()
        moment = moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else None
    # NaT of pandas is a datetime without a value.
    if not isinstance(moment, date) or str(moment) == "NaT":
        given = plain(repr(moment), 60)
        raise SettingsError(f"{given} is not a moment: give a date, an aware datetime, or ISO 8601 text")
    return moment


def _parsed(text: str) -> date:
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            parsed = read(text)
        except ValueError:
            continue
        if isinstance(parsed, datetime) and parsed.tzinfo is None:
            raise SettingsError(f"{plain(text, 60)!r} has no time zone: write {parsed.isoformat()}Z for UTC")
        return parsed
    raise SettingsError(f"{plain(text, 60)!r} is not a moment: write 2026-11-22, or 2026-11-22T10:00:00+00:00")
