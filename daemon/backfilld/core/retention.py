"""Which day files have outlived their time."""

from collections.abc import Iterable
from datetime import date


def expired_days(days: Iterable[date], today: date, keep_days: int) -> list[date]:
    """The days more than ``keep_days`` days before ``today``, ascending; none for 0, which keeps everything."""
    if keep_days == 0:
        return []
    return sorted(day for day in days if (today - day).days > keep_days)
