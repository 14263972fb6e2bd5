"""What a running pipeline shows of itself on a terminal. Owns the words, and the rate of each row."""

from collections import deque

import trio

from backfilld.actors.governor import GovernorStatistics
from backfilld.core.weight.budget import BudgetStatistics
from backfilld.supervisor import Pipeline
from backfilld.surfaces.rows import Row, State, duration

RATE_OVER_S = 10.0
"""A rate is that of so many seconds: long enough to be steady over an edge of the budget's windows."""


class Meter:
    """The rate of one count."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, now: float, count: int) -> float:
        """Per second, of the last RATE_OVER_S seconds."""
        self._seen.append((now, count))
        while now - self._seen[0][0] > RATE_OVER_S:
            self._seen.popleft()
        began, first = self._seen[0]
        return (count - first) / (now - began) if now > began else 0.0


class RowMaker:
    """The rows of a pipeline, made anew at each look."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._meter = Meter()

    def rows(self) -> list[Row]:
        """What is known of the instruments."""
        pipeline, seen = self._pipeline, self._pipeline.statistics.value
        instruments = ", ".join(map(str, pipeline.spec_now.instruments))
        rate = self._meter.rate(trio.current_time(), seen.fetched)
        state: State = (
            "complete" if 0 < seen.instruments == seen.complete else "fetching" if seen.wanted else "starting"
        )
        words = [*self._waits()]
        if state == "complete":
            words += ["complete"]
            rest_s = seen.rests_until - trio.current_time()
            words += [f"next check in {duration(rest_s)}"] if 0 < rest_s < float("inf") else []
        if seen.archive_days:
            words.append(f"{seen.archive_days:,} days from the archive")
        return [Row(instruments, state, seen.fetched, seen.wanted, rate, tuple(words))]

    def _waits(self) -> list[str]:
        return [
            f"{pool}: {duration(budget.wait_ms / 1000)} for weight"
            for pool, budget in self._pipeline.governor.value.items()
            if budget.waiting and budget.wait_ms > 0 and not budget.paused_ms
        ]

    def notes(self) -> list[str]:
        """The request weight of each pool, and the disk's trouble."""
        trouble = self._pipeline.disk.trouble.value
        pools: GovernorStatistics = self._pipeline.governor.value
        notes = [_weight(str(pool), budget) for pool, budget in pools.items()]
        return notes + ([f"the disk fails, and is tried again: {trouble.reason}"] if trouble else [])


def _weight(pool: str, budget: BudgetStatistics) -> str:
    text = f"{pool} weight {budget.used:,} of {budget.allowed:,} per {budget.interval}"
    others = f", others {budget.others:,}" if budget.others else ""
    return text + others + (f", {budget.reason} for {duration(budget.paused_ms / 1000)}" if budget.paused_ms else "")
