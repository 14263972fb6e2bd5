"""How one instrument stands, for those who show it: terminal, page, status."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """What came and what is missing: ``fetched`` of ``wanted`` trades since the start, beside ``cached`` ones.

    ``archive_days`` are still to come from the archive. ``error`` is why it was given up for this round.
    ``rests_until`` is when it is looked at again, in trio's time; None while something is asked. ``newest_ms`` is the
    time of the newest trade, by the exchange's clock; None before there is one.
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
