"""When a day file is rewritten, and when a save only appends to the journal of the day.

A rewrite costs what the day has; an append costs what is new. Owns the balance between the two:

* A day that is over is rewritten once it is sealed, or at the end of its round: it is then encoded once. So is every
  day of a run that ends after its first round (``save_s`` is infinite): nobody waits for its files. With a ``save_s``
  of 0 nothing waits in a journal.
* Today's file is written with its first rows, because other programs read only files; again once the journal has
  ``GROWTH`` times its rows, so that it grows by a constant factor; and when the oldest row of the journal is ``save_s``
  old. The growth alone encodes at most ``1 + (GROWTH + 1) / GROWTH`` times the rows of a day of any length.
* The end of a first round leaves nothing in the journal, and a shutdown as little as its grace allows: the callers ask
  for those rewrites.
"""

import math
from dataclasses import dataclass

GROWTH = 2.0
"""How many times the rows of the file the journal may have. At 2 a day is encoded at most 2.5 times; a smaller factor
encodes more, a larger one lets other programs see less of a long backfill."""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What stands in the journal and not in the file of a day. ``oldest_age_s`` is the age of its first entry."""

    rows: int
    oldest_age_s: float


def is_rewrite_due(unsaved: Unsaved, file_rows: int, save_s: float, *, is_over: bool = False) -> bool:
    """Whether the day file is to be rewritten now, with what the journal has."""
    if save_s and (is_over or math.isinf(save_s)):
        return False
    return file_rows == 0 or unsaved.rows >= GROWTH * file_rows or unsaved.oldest_age_s >= save_s
