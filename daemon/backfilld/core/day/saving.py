"""When a day file is rewritten, and when a save only appends to the journal of the day.

A rewrite costs what the day has, or the end of a day that goes on; an append costs what is new. Owns the balance
between the two:

* A day that is over is rewritten once it is sealed, or at the end of its round: it is then encoded once. So is every
  day of a run that ends after its first round (``save_s`` is infinite): nobody waits for its files. With a ``save_s``
  of 0 nothing waits in a journal.
* Today's file is written with its first rows, because other programs read only files.
* It is written again once the journal has ``GROWTH`` times its rows, and ``LEAST_GROWTH_ROWS``, so that it grows by a
  constant factor: that alone encodes at most ``1 + (GROWTH + 1) / GROWTH`` times the rows of a day of any length; and
  before the oldest row of the journal is ``save_s`` old, at the turn of its instrument: hundreds of instruments that
  began together take turns. An append never waits for these rewrites: a crash would lose what it has.
* The end of a first round leaves nothing in the journal, and a shutdown as little as its grace allows: the callers ask
  for those rewrites.
"""

import math
from zlib import crc32

GROWTH = 2.0
"""How many times the rows of the file the journal may have. At 2 a day is encoded at most 2.5 times; a smaller factor
encodes more, a larger one lets other programs see less of a long backfill."""

LEAST_GROWTH_ROWS = 10_000
"""A shorter journal makes no rewrite urgent: those of hundreds of live instruments would be, again and again, while the
day is young."""

REWRITE_SHARE = 0.1
"""While appends wait, rewrites whose turn has come take this part of the time: a busy disk does not delay them for
ever."""

LEAST_SPREAD_S = 1.0
"""A shorter ``save_s`` is not spread."""


def is_rewrite_due(file_rows: int, save_s: float, *, is_over: bool = False) -> bool:
    """Whether the day file is to be rewritten with this save."""
    if save_s and (is_over or math.isinf(save_s)):
        return False
    return save_s == 0 or file_rows == 0


def has_grown(journal_rows: int, file_rows: int) -> bool:
    """Whether the journal has grown so long that the file is due."""
    return journal_rows >= max(GROWTH * file_rows, LEAST_GROWTH_ROWS)


def turn_of(name: str, since_s: float, save_s: float) -> float:
    """When the file of the instrument ``name`` is to be rewritten whose journal has rows since then: at its last turn
    that is not later than ``save_s``. Turns come twice in ``save_s``; each name has a place of its own between them."""
    latest_s = since_s + save_s
    if save_s < LEAST_SPREAD_S or math.isinf(save_s):
        return latest_s
    between_s = save_s / 2
    place_s = crc32(name.encode()) / 2**32 * between_s
    return latest_s - (latest_s - place_s) % between_s


def next_rewrite_at(began_s: float, ended_s: float) -> float:
    """The earliest time of the next rewrite that appends must wait for, after one from ``began_s`` to ``ended_s``."""
    return ended_s + (ended_s - began_s) * (1 / REWRITE_SHARE - 1)
