"""The whole pipeline on recorded trades of the exchange, with two dozen gaps of ids in 150,000 rows of a past day."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import polars as pl
import pytest
import trio
from trio.testing import MockClock

from backfilld.core.backfill.outcome import Outcome
from backfilld.core.frame import SCHEMA
from backfilld.core.ids import IdSet
from backfilld.core.model import MS_PER_DAY, IdRange
from tests.fakes import BTC, DAY, DAY_MS, FakeExchange, FakeStore, Tape
from tests.pipelines import World

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "spot" / "BTCUSDT-aggTrades-2026-01-01.first5000.csv"
COPIES = 30
GAPS = 26
YESTERDAY = DAY - timedelta(days=1)
LOOK_S = 2.5 * 3600
"""A second look counts two hours after the first one."""


def recorded_day() -> tuple[Tape, IdSet]:
    """The recording 30 times in a row, over the day before DAY, with a few trades after it, and the ids it lacks."""
    names = ["a", "p", "q", "f", "l", "T", "m", "M"]
    rows = pl.read_csv(RECORDED, has_header=False, new_columns=names).cast({"p": pl.Float64, "q": pl.Float64})
    step_ms = MS_PER_DAY // COPIES
    times = pl.col("T") // 1000 - rows["T"][0] // 1000
    copies = [
        rows.with_columns(
            a=pl.col("a") + n * rows.height,
            f=pl.col("f") + n * (rows["l"][-1] - rows["f"][0] + 1),
            l=pl.col("l") + n * (rows["l"][-1] - rows["f"][0] + 1),
            T=times + DAY_MS - MS_PER_DAY + n * step_ms,
        )
        for n in range(COPIES)
    ]
    after = copies[-1].tail(10).with_columns(a=pl.col("a") + 10, T=pl.int_range(10, dtype=pl.Int64) * 1000 + DAY_MS)
    whole = pl.concat([*copies, after])
    dice = Random(3)
    gaps = IdSet.of(
        IdRange(start, start + dice.choice([0, 0, 0, 2, 40]))
        for start in dice.sample(range(whole["a"][500], whole["a"][-500]), GAPS)
    )
    lost = [trade_id for gap in gaps.ranges for trade_id in range(gap.first_id, gap.last_id + 1)]
    kept = whole.filter(~pl.col("a").is_in(lost)).select(list(SCHEMA))
    return Tape(kept.cast(dict(SCHEMA))), gaps  # type: ignore[arg-type]


async def test_every_recorded_row_is_stored_after_one_run_and_the_day_is_sealed_two_looks_later(
    autojump_clock: MockClock,
) -> None:
    if not RECORDED.exists():
        pytest.skip(f"no recording at {RECORDED}")
    tape, gaps = recorded_day()
    assert all(later > earlier for earlier, later in pairwise(tape.ids))
    exchange, store = FakeExchange({BTC: tape}, epoch_ms=DAY_MS + 3_600_000), FakeStore()

    async def run() -> Outcome:
        exchange.asked.clear()
        (outcome,) = await World(exchange, store, days=1).run()
        return outcome

    outcome = await run()
    assert store.ids(BTC) == tape.ids
    assert outcome.exit_code == 1
    assert IdSet.of(outcome.missing) == gaps
    assert len(exchange.asked) <= 1.3 * (len(tape) / 1000 + 2)
    await trio.sleep(LOOK_S)
    outcome = await run()
    assert outcome.exit_code == 0
    assert store.record(BTC, YESTERDAY).sealed
    assert IdSet.of(store.record(BTC, YESTERDAY).absent) == gaps
    assert len(exchange.asked) <= 3 * len(gaps.ranges)
    await run()
    assert len(exchange.asked) <= 3
