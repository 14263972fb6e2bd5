"""Where a day begins: the word for it that all others share."""

from datetime import date, timedelta

import msgspec

ONE_DAY = timedelta(days=1)


class DayStart(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Ids from ``first_id`` on belong to ``day`` or a later one, and those below it to an earlier day."""

    day: date
    first_id: int
