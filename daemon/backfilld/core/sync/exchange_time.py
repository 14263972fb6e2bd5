"""The exchange's time and day, by its answers, and whether the host's clock agrees.

Owns the trust in a clock. One answer proves little: a proxy or a broken server may stamp any date on it.

    unheard   no answer has named a time; the host's clock stands in
    heard     the clock runs from the exchange's answers; an answer within STEP_MS of it corrects it
    doubted   an answer named a time more than STEP_MS away; it counts only if the next answer agrees with it

A confirmed step that changes the day of a clock that was heard before needs more: the host's clock must name the new
day too, or the answers must have insisted for INSISTENCE_MS. Times outside EARLIEST_MS to LATEST_MS never count.
"""

from dataclasses import dataclass
from datetime import date

from backfilld.core.model import EARLIEST_MS, LATEST_MS, day_of
from backfilld.core.weight.server_clock import ServerClock

STEP_MS = 60_000
"""How far one answer alone may move the clock, in ms: more than any delay of an answer, less than matters to a day."""

INSISTENCE_MS = 600_000
"""How long, in ms, answers must insist on another day than the host's before a running clock follows them."""

AGREEING = 2
"""How many answers must agree before a time or a day is believed: one may come from a single broken server."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The time that one answer named, and the local instants, in ms, when it was asked for and received."""

    sent_ms: float
    received_ms: float
    server_ms: int
    precision_ms: int = 1000


class ExchangeTime:
    """The exchange's clock. ``local_ms`` are instants of a monotonic clock, ``wall_ms`` those of the host's clock."""

    def __init__(self, local_ms: float, wall_ms: float) -> None:
        self._clock = ServerClock.assumed(local_ms, min(max(wall_ms, EARLIEST_MS), LATEST_MS))
        self._doubt: list[Stamp] = []
        self._agreed: tuple[date, int] | None = None
        self.is_heard = False

    def heard(self, stamp: Stamp, wall_ms: float) -> None:
        """Take the time of one answer into account; ``wall_ms`` is the host's clock when it came."""
        if not EARLIEST_MS <= stamp.server_ms < LATEST_MS:
            return
        if abs(stamp.server_ms - self.now_ms(stamp.received_ms)) <= STEP_MS:
            self._doubt.clear()
            self._follow(stamp)
        else:
            self._heard_of_a_step(stamp, wall_ms)
        self._compare(wall_ms, stamp.received_ms)

    def now_ms(self, local_ms: float) -> int:
        """The best guess of the exchange's time at the local instant."""
        return self._clock.now_ms(local_ms)

    def day_at(self, local_ms: float) -> date:
        """The exchange's day at the local instant."""
        return day_of(self.now_ms(local_ms))

    @property
    def is_doubted(self) -> bool:
        """Whether the last answer named another time than the clock's, and no second one has come yet."""
        return len(self._doubt) == 1

    def agreed_day(self, local_ms: float) -> date | None:
        """The day on which the exchange and the host agree, by AGREEING answers and now; None while they do not."""
        if self._agreed is None or self._doubt:
            return None
        day, answers = self._agreed
        return day if answers >= AGREEING and day == self.day_at(local_ms) else None

    def _heard_of_a_step(self, stamp: Stamp, wall_ms: float) -> None:
        if self._doubt and _contradict(self._doubt[0], stamp):
            self._doubt.clear()
        self._doubt.append(stamp)
        if len(self._doubt) >= AGREEING and self._may_step(wall_ms):
            self._doubt.clear()
            self._follow(stamp)

    def _may_step(self, wall_ms: float) -> bool:
        first, last = self._doubt[0], self._doubt[-1]
        day = day_of(last.server_ms)
        if not self.is_heard or day in {self.day_at(last.received_ms), _day(wall_ms)}:
            return True
        return last.received_ms - first.received_ms >= INSISTENCE_MS

    def _follow(self, stamp: Stamp) -> None:
        self.is_heard = True
        self._clock = self._clock.observed(stamp.sent_ms, stamp.received_ms, stamp.server_ms, stamp.precision_ms)

    def _compare(self, wall_ms: float, local_ms: float) -> None:
        today = self.day_at(local_ms)
        if self._doubt or today != _day(wall_ms):
            self._agreed = None
        elif self._agreed is not None and self._agreed[0] == today:
            self._agreed = today, self._agreed[1] + 1
        else:
            self._agreed = today, 1


def _contradict(earlier: Stamp, later: Stamp) -> bool:
    """Whether no single clock can have named both times."""
    passed_ms = later.received_ms - earlier.received_ms
    return abs(later.server_ms - earlier.server_ms - passed_ms) > STEP_MS


def _day(wall_ms: float) -> date:
    return day_of(int(min(max(wall_ms, EARLIEST_MS), LATEST_MS)))
