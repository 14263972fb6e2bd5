"""How one instrument stands, and all of them together, for those who show it: terminal, page, status."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backfilld.core.model import Instrument


@dataclass(frozen=True, slots=True)
class Standing:
    """What came and what is missing: ``fetched`` of ``wanted`` trades since the start, beside ``cached`` ones.

    ``archive_days`` are still to come from the archive. ``error`` is why it was given up for this round.
    ``rests_until`` is when it is looked at again, in trio's time; None while something is asked. ``newest_ms`` is the
    time of the newest trade, by the exchange's clock; None before there is one. ``complete_at`` is up to when its
    trades are known to be stored, in trio's time; None before that was ever so.
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
    """What is shown of a running backfill: sums over all instruments, of which ``complete`` are, and how each of them
    stands. The exchange does not list ``unlisted`` ones. ``archive_days`` are still to come from the archive.

    ``steps`` counts what was done, whatever it was; ``rests_until`` is when there is something to do again, in trio's
    time, and lies in the past while there is.
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
