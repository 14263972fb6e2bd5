"""The log lines about a backfill. Each ``log`` is a :class:`Lines` or a real logger."""

from collections.abc import Sequence
from typing import Any

from backfilld.core.backfill.outcome import Outcome
from backfilld.core.markets import RULES
from backfilld.core.model import PAGE_ROWS, IdRange, day_of, iso
from backfilld.core.sync.events import Action, Log


class Lines:
    """A logger that writes nothing: each line becomes an action in ``actions``."""

    def __init__(self, actions: list[Action]) -> None:
        self._actions = actions

    def info(self, event: str, **fields: object) -> None:
        """Log what happens as it should."""
        self._actions.append(Log("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        """Log what somebody may want to look at."""
        self._actions.append(Log("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        """Log what leaves trades missing."""
        self._actions.append(Log("error", event, fields))


def log_start(log: Any, start_ms: int, stop_ms: int, strategy: str) -> None:
    """Log that a backfill begins."""
    log.info("backfill_started", start=iso(start_ms), stop=iso(stop_ms), strategy=strategy)


def log_gap(log: Any, held_until_ms: int, now_ms: int, trades: int, missing_ids: int) -> None:
    """Log how much is stored and how long ago that ends."""
    log.info(
        "gap_found",
        day=day_of(held_until_ms).isoformat(),
        trades=trades,
        gap_hours=round(max(0, now_ms - held_until_ms) / 3_600_000, 2),
        missing_ids=missing_ids,
    )


def log_plan(log: Any, missing: Sequence[IdRange], max_concurrent: int) -> None:
    """Log how much there is to fetch, once both ends are known."""
    chunks = sum(-(-len(ids) // PAGE_ROWS) for ids in missing)
    log.info("fetch_planned", chunks=chunks, trades=sum(map(len, missing)), max_concurrent=max_concurrent)


def log_outcome(log: Any, outcome: Outcome) -> None:
    """Log the outcome."""
    if not outcome.complete:
        missing = [[ids.first_id, ids.last_id] for ids in outcome.missing]
        log.error("backfill_incomplete", reasons=list(outcome.reasons), missing=missing)
        return
    context = outcome.context
    log.info(
        "backfill_completed",
        trades=outcome.trades,
        vwap=context and context.vwap,
        poc=context and context.poc,
        range_today=_rounded(context.price_range if context else None),
        cd_pre=_rounded(context.delta if context else None),
        quantities=RULES[outcome.instrument.market].quantities,
        seconds=round(outcome.seconds, 3),
        requests=outcome.requests,
        weight=outcome.weight,
    )


def _rounded(figure: float | None) -> float | None:
    """Without the last bits of binary arithmetic: 8.42 for 8.419999999998254."""
    return None if figure is None else round(figure, 8)
