"""What the metrics and the page are made of: everything that the daemon knows of itself, at one instant.

Owns the value only. :mod:`backfilld.serving.monitor.watch` makes it, pure functions make text of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from backfilld.core.model import Instrument
from backfilld.core.monitor.history import History
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.monitor.today import Today
from backfilld.core.monitor.warned import Warned
from backfilld.services.stored_days import DayStatus
from backfilld.serving.monitor.counts import EndpointCounts


@dataclass(frozen=True, slots=True)
class View:
    """The ``daemon`` now, and what is remembered and counted beside it. The page draws the ``chosen`` instrument.
    ``coverage`` and ``today`` are None until the day files have been looked at, ``remote`` without a bucket."""

    daemon: Snapshot
    version: str
    chosen: Instrument
    remote: Mapping[str, int] | None = None
    history: History = field(default_factory=History)
    coverage: Mapping[Instrument, Mapping[date, DayStatus]] | None = None
    today: Today | None = None
    endpoint: EndpointCounts = field(default_factory=EndpointCounts)
    subscribers: int = 0
    warnings: Sequence[Warned] = ()
