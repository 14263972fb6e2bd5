"""What the metrics and the page are made of: everything that the daemon knows of itself, at one instant.

Owns the value only. :mod:`backfilld.serving.monitor.watch` makes it, pure functions make text of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from backfilld.actors.disk import Written
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.markets import Pool
from backfilld.core.model import Instrument
from backfilld.core.monitor.freshness import Freshness
from backfilld.core.monitor.history import History
from backfilld.core.monitor.today import Today
from backfilld.core.monitor.warned import Warned
from backfilld.core.sync.standing import Statistics
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.services.stored_days import DayStatus
from backfilld.serving.monitor.counts import EndpointCounts


@dataclass(frozen=True, slots=True)
class View:
    """The daemon at ``now_ms`` (the host's, since the epoch). ``chosen`` is the instrument that the page draws;
    ``coverage`` and ``today`` are None until the day files have been looked at, ``remote`` without a bucket."""

    now_ms: float
    version: str
    instruments: tuple[Instrument, ...]
    chosen: Instrument
    statistics: Statistics = field(default_factory=Statistics)
    live: LiveStatistics = field(default_factory=LiveStatistics)
    freshness: Mapping[Instrument, Freshness] = field(default_factory=dict)
    weight: Mapping[Pool, BudgetStatistics] = field(default_factory=dict)
    trouble: str | None = None
    written: Written = field(default_factory=Written)
    remote: Mapping[str, int] | None = None
    history: History = field(default_factory=History)
    coverage: Mapping[Instrument, Mapping[date, DayStatus]] | None = None
    today: Today | None = None
    endpoint: EndpointCounts = field(default_factory=EndpointCounts)
    subscribers: int = 0
    warnings: Sequence[Warned] = ()
