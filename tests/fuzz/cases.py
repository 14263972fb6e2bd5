"""Cases of the fuzz: a history, an exchange that misbehaves in some mixture, a command. Each follows from its seed.

Owns the dice. A case that failed is repeated by its seed alone.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import polars as pl

from binance_simulator import (
    HOSTILE_DEFECTS,
    HOSTILE_FAULTS,
    ORDINARY_FAULTS,
    ArchiveDefect,
    ExchangeOptions,
    Fault,
    FaultPlan,
    Interval,
    Pool,
    Tape,
)
from binance_simulator.faults import ARCHIVE_FAULTS
from binance_simulator.oddities import with_inversion, with_jumps
from tests.e2e.world import START_MS, TODAY, at_hour

COMMANDS = ("once", "daemon", "fill")
_SLOW = {Fault.SILENCE, Fault.DRIP}
"""They cost a client its whole timeout, so a case has few of them."""

_REST_FAULTS = [fault for fault in (*ORDINARY_FAULTS, *HOSTILE_FAULTS) if fault not in _SLOW]
_ENDPOINTS = (frozenset({"aggTrades"}), frozenset({"aggTrades", "exchangeInfo"}), frozenset({"exchangeInfo"}))


@dataclass(frozen=True)
class Case:
    """One run: what the exchange has, how it misbehaves for how long, and what it is asked."""

    seed: str
    command: str
    days: int
    frame: pl.DataFrame = field(repr=False)
    live_rate_per_s: float
    options: ExchangeOptions
    oddities: tuple[str, ...]

    def tape(self) -> Tape:
        """The history, and the trades that follow from now on."""
        return Tape.from_frame(
            self.frame, live_rate_per_s=self.live_rate_per_s, live_start_ms=at_hour(12), seed=len(self.seed)
        )

    def honest_options(self) -> ExchangeOptions:
        """The same exchange without its faults; what it has, and its limits, stay."""
        defaults = ExchangeOptions()
        honest = ("faults", "archive_faults", "archive_defects", "replica_lags_s", "page_cap", "announced_limits")
        return replace(self.options, **{name: getattr(defaults, name) for name in honest})

    def summary(self) -> str:
        """The case in one line."""
        options = self.options
        plan = options.faults
        kinds = ",".join(plan.kinds)
        parts = [
            f"{self.command} of {self.days} days, {self.frame.height} trades",
            f"faults {plan.share:.2f} of {'+'.join(sorted(plan.endpoints))}: {kinds}" if plan.share else "no faults",
            f"archive {options.archive_faults.share:.2f}: {','.join(options.archive_defects.get('*', ())) or 'whole'}",
            f"cap {options.page_cap}, lags {list(options.replica_lags_s)}{' sticky' * options.sticky_replicas}",
            f"limit {options.weight_limit(Pool.SPOT)} of {options.announced_limit(Pool.SPOT)} per {options.interval}",
            *self.oddities,
        ]
        return "; ".join(parts)


def make_case(seed: str) -> Case:
    """The case of a seed."""
    dice = random.Random(seed)
    command = dice.choice(COMMANDS)
    days = dice.choice((0, 0, 1, 2)) if command != "fill" else dice.choice((1, 2))
    frame, oddities = _history(dice, days)
    return Case(seed, command, days, frame, dice.choice((0.0, 5.0)), _options(dice), oddities)


def _history(dice: random.Random, days: int) -> tuple[pl.DataFrame, tuple[str, ...]]:
    start_ms = START_MS - days * 86_400_000 - 7_200_000
    tape = Tape.generate(
        start_ms=start_ms,
        stop_ms=at_hour(12),
        trades=dice.randint(20, 4000),
        seed=dice.randrange(10**6),
        first_id=dice.choice((0, 5, 1_000_000, 3_800_397_495)),
        markers=dice.choice((0, 0, 3)),
    )
    frame = tape.frame
    oddities: list[str] = []
    changes: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
        "jumps of ids": lambda rows: with_jumps(
            rows, dice.randint(1, 8), dice.choice((1, 5, 3000, 1_000_000)), dice.randrange(99)
        ),
        "time goes back at midnight": lambda rows: with_inversion(rows, START_MS, dice.randint(1, 3)),
    }
    for name, change in changes.items():
        if dice.random() < 0.3:
            frame, oddities = change(frame), [*oddities, name]
    return frame, tuple(oddities)


def _options(dice: random.Random) -> ExchangeOptions:
    limit = dice.choice((6000, 6000, 400, 120))
    kinds = tuple(dice.sample(_REST_FAULTS, dice.randint(1, 5)))
    values: dict[str, Any] = {
        "limits": {Pool.SPOT: limit},
        "announced_limits": {Pool.SPOT: dice.choice((limit, limit, 6000))},
        "interval": Interval.parse("10S" if limit < 6000 else "1M"),
        "latency_s": dice.choice((0.0, 0.02)),
        "gzip": dice.random() < 0.5,
        "page_cap": dice.choice((None, None, None, 500, 100)),
        "replica_lags_s": dice.choice(((0.0,), (0.0,), (0.0, 5.0), (0.0, 21_600.0), (0.0, 72_000.0))),
        "sticky_replicas": dice.random() < 0.3,
        "faults": FaultPlan(
            share=dice.choice((0.0, 0.05, 0.2, 0.5)),
            kinds=kinds + tuple(dice.sample(sorted(_SLOW), 1) if dice.random() < 0.1 else ()),
            seed=dice.randrange(10**6),
            endpoints=dice.choice(_ENDPOINTS),
        ),
        "archive_faults": FaultPlan(
            share=dice.choice((0.0, 0.0, 0.3)),
            kinds=(*(fault for fault in ARCHIVE_FAULTS if fault not in _SLOW), Fault.STATUS_302),
            seed=dice.randrange(10**6),
        ),
        "archive_defects": {"*": _defects(dice)},
    }
    return ExchangeOptions(**values)


def _defects(dice: random.Random) -> tuple[ArchiveDefect, ...]:
    chance = dice.random()
    if chance < 0.3:
        return ()
    if chance < 0.6:
        return (dice.choice(HOSTILE_DEFECTS),)
    return tuple(dice.sample(tuple(ArchiveDefect), dice.randint(1, 3)))


def first_day_of(case: Case) -> date:
    """The first day of the window."""
    return TODAY - timedelta(days=case.days)
