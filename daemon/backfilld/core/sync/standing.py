"""The progress of one instrument, and of all together, as terminal, page and status show it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from backfilld.core.model import Instrument


class Standing(msgspec.Struct, frozen=True):
    """The progress of one instrument: ``fetched`` of ``wanted`` trades since the start, in addition to ``cached`` ones.

    ``archive_days`` counts the days still to come from the archive. ``error`` is why this round was given up.
    ``rests_until`` is when the next round begins, in trio's time; None during a round. ``newest_ms`` is the time of the
    newest trade, by the exchange's clock; None if there is none. Up to ``complete_at``, in trio's time, all trades are
    known to be stored; None before the first complete round.
    """

    wanted: int = 0
    fetched: int = 0
    cached: int = 0
    is_complete: bool = False
    is_followed: bool = False
    archive_days: int = 0
    error: str | None = None
    rests_until: float | None = None
    newest_ms: int | None = None
    complete_at: float | None = None


@dataclass(frozen=True, slots=True)
class Statistics:
    """The progress of a running backfill: sums over all instruments, and the ``standings`` of each. Of the instruments,
    ``complete`` are complete, and ``unlisted`` are not listed by the exchange. ``archive_days`` counts the days still
    to come from the archive.

    ``steps`` counts the messages handled. ``rests_until`` is when there is something to do again, in trio's time; it
    lies in the past while there is.
    """

    wanted: int = 0
    fetched: int = 0
    cached: int = 0
    requests: int = 0
    weight: int = 0
    instruments: int = 0
    complete: int = 0
    unlisted: int = 0
    archive_days: int = 0
    steps: int = 0
    last_error: str | None = None
    rests_until: float = float("-inf")
    standings: Mapping[Instrument, Standing] = field(default_factory=dict)
