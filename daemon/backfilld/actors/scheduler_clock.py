"""The clock of the scheduler: the exchange's time by its answers, on trio's clock, beside the host's."""

from collections.abc import Callable
from datetime import date

import structlog
import trio

from backfilld.actors.messages import Spent
from backfilld.core.model import day_of
from backfilld.core.sync.events import Instant
from backfilld.core.sync.exchange_time import ExchangeTime, Stamp

log = structlog.get_logger()


def _local_ms() -> float:
    return trio.current_time() * 1000


class SchedulerClock:
    """What time and day it is. ``wall_ms`` is the host's clock; it counts until an answer has named the time."""

    def __init__(self, wall_ms: Callable[[], float]) -> None:
        self._wall_ms = wall_ms
        self._time = ExchangeTime(_local_ms(), wall_ms())
        self._was_heard = self._was_doubted = False
        self._agreed: date | None = None
        self._today = self.day()

    def heard(self, spent: Spent) -> None:
        """Take the time that an answer named into account."""
        server_ms, precision_ms = spent.usage.server_ms, spent.usage.precision_ms
        if server_ms is not None:
            self._time.heard(Stamp(spent.sent_ms, spent.received_ms, server_ms, precision_ms), self._wall_ms())

    @property
    def is_doubted(self) -> bool:
        """Whether a second answer must confirm the last one's time, or refute it."""
        return self._time.is_doubted

    def now_ms(self) -> int:
        """The best guess of the exchange's time."""
        return self._time.now_ms(_local_ms())

    def latest_ms(self) -> int:
        """The later time of the exchange's clock and the host's."""
        return max(self.now_ms(), int(self._wall_ms()))

    def day(self) -> date:
        """The exchange's day."""
        return day_of(self.now_ms())

    def instant(self) -> Instant:
        """Now, by all clocks."""
        now_ms = self.now_ms()
        server_ms = now_ms if self._time.is_heard else None
        return Instant(now_ms, server_ms, trio.current_time(), self._time.is_doubted)

    def newly_agreed_day(self) -> date | None:
        """The day on which the host and the exchange agree, once for each."""
        agreed = self._time.agreed_day(_local_ms())
        if agreed is None or agreed == self._agreed:
            return None
        self._agreed = agreed
        return agreed

    def forget_agreement(self) -> None:
        """Name the agreed day once more."""
        self._agreed = None

    def has_news(self, *, warns: bool) -> bool:
        """Whether the exchange's time has become known, or a doubt about it was settled, since this was last asked.
        ``warns`` of a host whose clock names another day."""
        is_first = self._time.is_heard and not self._was_heard
        is_settled = self._was_doubted and not self._time.is_doubted
        self._was_heard, self._was_doubted = self._time.is_heard, self._time.is_doubted
        if is_first and self.day() != self._today:
            host_day, self._today = self._today, self.day()
            if warns:
                log.warning("host_clock_wrong", host_day=host_day.isoformat(), server_day=self._today.isoformat())
        return is_first or is_settled

    def turn_day(self) -> None:
        """Say once that a day has begun."""
        if self.day() != self._today:
            self._today = self.day()
            log.info("day_turned", day=self._today.isoformat())
