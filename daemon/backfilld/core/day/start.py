"""Where a day begins: the word for it that all others share."""

from datetime import date, timedelta
from typing import Protocol

import msgspec

ONE_DAY = timedelta(days=1)


class DayStart(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Ids from ``first_id`` on belong to ``day`` or a later one, and those below it to an earlier day."""

    day: date
    first_id: int


class DayEnds(Protocol):
    """The first and the last id stored of a day, the lowest id that its start can be, and the highest that the start of
    a later day can be with no trade between; None where that is not known."""

    @property
    def first_id(self) -> int | None: ...  # noqa: D102
    @property
    def last_id(self) -> int | None: ...  # noqa: D102
    @property
    def lowest_start(self) -> int | None: ...  # noqa: D102
    @property
    def highest_start(self) -> int | None: ...  # noqa: D102


def has_no_room(earlier: DayEnds, later: DayEnds) -> bool:
    """Whether nothing can have been traded between two days: their ids adjoin, or lack only ids that are absent."""
    ends = earlier.last_id, earlier.highest_start, later.lowest_start, later.first_id
    if any(each is None for each in ends):
        return False
    last_id, highest, lowest, first_id = (int(each or 0) for each in ends)
    return last_id < first_id and lowest <= highest
