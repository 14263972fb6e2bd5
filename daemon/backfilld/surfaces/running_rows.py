"""What a running pipeline shows of itself on a terminal. Owns the words, and the rate of each row."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from backfilld.core.live.reports import LiveInstrument
from backfilld.core.markets import RULES
from backfilld.core.model import Instrument
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.sync.standing import Standing
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.surfaces.rows import Row, State, duration
from backfilld.surfaces.words import counted

RATE_OVER_S = 10.0
"""How many seconds a rate is computed over: long enough to be steady despite a request's latency."""
LEAST_RATE_OVER_S = 1.0


class Meter:
    """The rate of one count."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, now: float, count: int) -> float:
        """Per second, over the last RATE_OVER_S seconds; 0 while less than LEAST_RATE_OVER_S of them were seen."""
        self._seen.append((now, count))
        while now - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        began, first = self._seen[0]
        return max(0.0, (count - first) / (now - began)) if now - began >= LEAST_RATE_OVER_S else 0.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What bears on an instrument from outside: the time in ms since the epoch and by trio's clock, its budget, its
    live side, and for how long its market's host has been out of reach, and its stream lost."""

    wall_ms: float
    now: float
    budget: BudgetStatistics | None = None
    live: LiveInstrument | None = None
    lost_s: float | None = None
    streamless_s: float | None = None


def row_of(instrument: Instrument, seen: Standing, around: Surroundings, rate: float) -> Row:
    """The row of an instrument."""
    words = tuple(_words(seen, around))
    return Row(str(instrument), _state(seen, around), seen.fetched, seen.wanted, rate, words)


def _state(seen: Standing, around: Surroundings) -> State:
    if around.lost_s is not None or seen.error is not None:
        return "failing"
    if around.live is not None and around.live.is_attached and seen.is_complete:
        return "live"
    if seen.is_complete:
        return "complete"
    return "fetching" if seen.wanted else "starting"


def _words(seen: Standing, around: Surroundings) -> Iterator[str]:
    live = around.live if around.live is not None and around.live.is_attached else None
    if around.lost_s is not None:
        yield f"out of reach for {duration(around.lost_s)}"
    elif seen.error is not None:
        yield seen.error
    else:
        yield from _waits(seen, around.budget)
        if seen.is_complete and live is not None:
            yield "live" if live.lag_ms is None else f"live, lag {live.lag_ms:,.0f} ms"
        elif seen.is_complete and seen.wanted <= seen.fetched:
            yield "complete"
        elif not seen.wanted and not seen.is_complete and not seen.archive_days:
            yield "looks where the day begins"
    if seen.archive_days:
        yield f"{counted(seen.archive_days, 'day')} from the archive"
    if live is None and around.lost_s is None and around.streamless_s is not None:
        yield f"no stream for {duration(around.streamless_s)}"
    elif around.live is not None and around.live.is_silent:
        yield "polled: the stream does not bring its trades"
    if live is None or around.lost_s is not None:
        yield from _ages(seen, around)


def _ages(seen: Standing, around: Surroundings) -> Iterator[str]:
    if seen.newest_ms is not None and seen.is_complete:
        yield f"newest trade {duration((around.wall_ms - seen.newest_ms) / 1000)} ago"
    if seen.rests_until is not None and around.now < seen.rests_until < float("inf"):
        yield f"next check in {duration(seen.rests_until - around.now)}"


def _waits(seen: Standing, budget: BudgetStatistics | None) -> Iterator[str]:
    if budget is None or seen.wanted <= seen.fetched:
        return
    if budget.paused_ms:
        yield f"{budget.reason} for {duration(budget.paused_ms / 1000)}"
    elif budget.waiting and budget.wait_ms >= 1000:  # noqa: PLR2004 - a second; less is not worth a word
        yield f"{duration(budget.wait_ms / 1000)} for weight"


class RowMaker:
    """The rows of a daemon, made anew of each snapshot. ``lost`` says for how long each market's host has been out of
    reach, ``streamless`` for how long its stream has been lost."""

    def __init__(self, lost: Callable[[], Mapping[str, float]], streamless: Callable[[], Mapping[str, float]]) -> None:
        self._lost = lost
        self._streamless = streamless
        self._meters: defaultdict[Instrument, Meter] = defaultdict(Meter)

    def rows(self, seen: Snapshot) -> list[Row]:
        """What is known of the instruments."""
        lost, streamless = self._lost(), self._streamless()
        rows = []
        for instrument in seen.instruments:
            standing = seen.statistics.standings.get(instrument, Standing())
            market = str(instrument.market)
            around = Surroundings(
                seen.wall_ms,
                seen.now_s,
                seen.budgets.get(RULES[instrument.market].pool),
                seen.live.instruments.get(instrument),
                lost.get(market),
                streamless.get(market),
            )
            rate = self._meters[instrument].rate(seen.now_s, standing.fetched)
            rows.append(row_of(instrument, standing, around, rate))
        return rows


def notes_of(seen: Snapshot) -> list[str]:
    """The request weight of each pool, and the disk's trouble."""
    notes = [_weight(str(pool), budget) for pool, budget in seen.budgets.items()]
    return notes + ([f"the disk fails, and is tried again: {seen.trouble.reason}"] if seen.trouble else [])


def _weight(pool: str, budget: BudgetStatistics) -> str:
    text = f"{pool} weight {budget.used:,} of {budget.allowed:,} per {budget.interval}"
    others = f", others {budget.others:,}" if budget.others else ""
    return text + others + (f", {budget.reason} for {duration(budget.paused_ms / 1000)}" if budget.paused_ms else "")
