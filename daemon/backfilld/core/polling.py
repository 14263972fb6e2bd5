"""What polling costs: the request weight a minute that instruments take where no stream brings their trades."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from backfilld.core.markets import RULES, Pool, limits_of
from backfilld.core.model import Instrument
from backfilld.core.weight.limits import MINUTE_MS
from backfilld.core.weight.weights import Endpoint


@dataclass(frozen=True, slots=True)
class PollingWeight:
    """One pool: ``weight`` a minute is what its instruments take at most, one page per poll each; ``allowed`` is what
    WEIGHT_SHARE leaves us and everybody else on this IP address."""

    pool: Pool
    instruments: int
    weight: int
    allowed: int

    @property
    def is_too_much(self) -> bool:
        """Whether polls alone would use up the share. They come later then, and nothing is refused."""
        return self.weight > self.allowed

    def __str__(self) -> str:
        return f"{self.pool}: polls take at most {self.weight:,} of {self.allowed:,} weight a minute"


def polling_weights(instruments: Iterable[Instrument], poll_s: float, share: float) -> tuple[PollingWeight, ...]:
    """What each pool's instruments take if all of them are polled every ``poll_s``, under this WEIGHT_SHARE."""
    counts: Counter[Pool] = Counter()
    each_poll: Counter[Pool] = Counter()
    for instrument in instruments:
        rules = RULES[instrument.market]
        counts[rules.pool] += 1
        each_poll[rules.pool] += rules.weights[Endpoint.TRADES]
    return tuple(
        PollingWeight(pool, counts[pool], round(each_poll[pool] * 60 / poll_s), int(_a_minute(pool) * share))
        for pool in Pool
        if counts[pool]
    )


def _a_minute(pool: Pool) -> float:
    """The smallest weight that the documented limits of a pool allow in a minute."""
    return min(each.limit * MINUTE_MS / each.interval_ms for each in limits_of(pool) if each.by_weight)
