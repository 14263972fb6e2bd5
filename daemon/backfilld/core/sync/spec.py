"""What a pipeline does: the settings in force, as the core needs them."""

from collections.abc import Mapping
from dataclasses import dataclass

from backfilld.core.live.patience import Times
from backfilld.core.model import Instrument, Market
from backfilld.core.timespan import TimeSpan


@dataclass(frozen=True, slots=True)
class LiveSpec:
    """How to follow the exchange's streams: their addresses by market, in order of preference, and the patience."""

    urls: Mapping[Market, tuple[str, ...]]
    times: Times


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What the pipeline does.

    At most ``max_concurrent`` requests are in flight at a time; ``spare_fetchers`` send the next ones while the others
    decode their answers. A crash loses at most ``checkpoint_s`` of download. ``grace_s`` after a stop, everything that
    still runs is cancelled. ``weight_share`` of the exchange's limits may be used, and ``client_share`` of that by
    other programs. With ``uses_archive`` past days may come from the archive; with ``pulls`` a bucket is asked before
    it. ``window`` fixes the span for all instruments; without it, the window is today and ``days`` whole days before,
    with an open end. With ``once`` the first complete round ends the pipeline, else rounds follow every ``poll_s``.
    ``uncached`` only changes the words of the log. Day files older than ``keep_days`` are deleted, none if it is 0.
    With ``live`` streams replace polling.
    """

    instruments: tuple[Instrument, ...]
    max_concurrent: int
    window: TimeSpan | None = None
    days: int = 0
    keep_days: int = 0
    once: bool = False
    poll_s: float = 30.0
    uncached: bool = False
    spare_fetchers: int = 0
    checkpoint_s: float = 10.0
    grace_s: float = 10.0
    weight_share: float = 0.8
    client_share: float = 0.5
    uses_archive: bool = False
    pulls: bool = False
    live: LiveSpec | None = None

    @property
    def fetchers(self) -> int:
        """How many fetchers there are, and so how many questions are dealt at a time."""
        return self.max_concurrent + self.spare_fetchers


@dataclass(frozen=True, slots=True, eq=False)
class Reload:
    """A request to continue with this spec; each one counts, also with the same spec as before."""

    spec: RunSpec
