"""Instants as people write them: dates, aware datetimes, ISO 8601 text.

Owns the one rule for all of them. A date is the midnight (UTC) at which it begins; a time of day needs its zone.
"""

from datetime import date, datetime

from backfilld.core.model import day_start_ms, instant_ms
from backfilld.core.text import plain
from backfilld.errors import SettingsError

Moment = date | datetime | str


def moment_ms(moment: Moment) -> int:
    """The instant in ms since the epoch, rounded down. Raises SettingsError for a time without a zone, and for text
    that is not ISO 8601."""
    if isinstance(moment, str):
        moment = _parsed(moment)
    return instant_ms(moment) if isinstance(moment, datetime) else day_start_ms(moment)


def _parsed(text: str) -> date:
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    raise SettingsError(f"{plain(text, 60)!r} is not a moment: write 2026-11-22, or 2026-11-22T10:00:00+00:00")
