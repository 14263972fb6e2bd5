"""When a day file is rewritten, and when a save only appends to the journal of the day.

A rewrite costs what the day holds; an append costs what is new. Owns the balance between the two:

* A backfill rewrites once the journal has ``GROWTH`` times the rows of the file, so that the file grows by a constant
  factor. The rewrites of a day of any length then encode at most ``1 + (GROWTH + 1) / GROWTH`` times its rows.
* A day that is topped up or followed live is rewritten when the oldest row of the journal is ``save_s`` old, because
  other programs read only the file.
* The end of a round of ``--once`` and ``fill``, a shutdown and a sealed day leave nothing in the journal.
"""

from dataclasses import dataclass
from enum import Enum, auto

GROWTH = 2.0
"""How many times the rows of the file the journal may have in a backfill. At 2 a day is encoded at most 2.5 times; a
smaller factor encodes more, a larger one lets other programs see less of a long backfill."""


class Stage(Enum):
    """What the rows of a day are part of."""

    BACKFILL = auto()
    """More of the day is on its way: saves follow each other at every checkpoint."""
    STEADY = auto()
    """The day is complete up to now and grows with the exchange."""
    LAST = auto()
    """Nothing more will come: the run ends, or the day is over and proven."""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What stands in the journal and not in the file of a day. ``oldest_age_s`` is the age of its first entry."""

    entries: int
    rows: int
    oldest_age_s: float


def is_rewrite_due(unsaved: Unsaved, file_rows: int, stage: Stage, save_s: float) -> bool:
    """Whether the day file is to be rewritten now, with what the journal has."""
    if not unsaved.entries:
        return False
    match stage:
        case Stage.BACKFILL:
            # A first rewrite at once: a day without a file is invisible to other programs.
            return unsaved.rows >= GROWTH * file_rows
        case Stage.STEADY:
            return unsaved.oldest_age_s >= save_s
        case Stage.LAST:
            return True
