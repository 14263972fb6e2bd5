"""When a day file is rewritten, and when a save only appends to the journal of the day.

A rewrite costs what the day has; an append costs what is new. Owns the balance between the two:

* The day file is rewritten once the journal has ``GROWTH`` times its rows, so that it grows by a constant factor. The
  rewrites of a day of any length then encode at most ``1 + (GROWTH + 1) / GROWTH`` times its rows.
* It is rewritten when the oldest row of the journal is ``save_s`` old, because other programs read only the file.
* A day that is over and proven, the end of a round of ``--once`` and ``fill``, and a shutdown leave nothing in the
  journal: the callers ask for those rewrites.
"""

from dataclasses import dataclass

GROWTH = 2.0
"""How many times the rows of the file the journal may have. At 2 a day is encoded at most 2.5 times; a smaller factor
encodes more, a larger one lets other programs see less of a long backfill."""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What stands in the journal and not in the file of a day. ``oldest_age_s`` is the age of its first entry."""

    rows: int
    oldest_age_s: float


def is_rewrite_due(unsaved: Unsaved, file_rows: int, save_s: float) -> bool:
    """Whether the day file is to be rewritten now, with what the journal has. A day without a file is written at once:
    other programs do not see it before."""
    return file_rows == 0 or unsaved.rows >= GROWTH * file_rows or unsaved.oldest_age_s >= save_s
