"""The day start: where a day begins, as all modules name it."""

from datetime import date, timedelta
from typing import Protocol

import msgspec

ONE_DAY = timedelta(days=1)


class DayStart(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Ids from ``first_id`` on belong to ``day`` or a later one, and those below it to an earlier day."""

    day: date
    first_id: int


class DayEnds(Protocol):
    """The ends of a stored day: its first and last id, the lowest id at which it can begin, and the highest at which a
    later day can begin with no trade between. None where an end is not known."""

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
