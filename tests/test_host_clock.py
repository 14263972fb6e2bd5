"""A host whose clock is days off keeps the exchange's days, and nothing else: the whole pipeline on real day files."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from backfilld.adapters.parquet_store import ParquetStore
from backfilld.core.model import MS_PER_DAY
from backfilld.core.timespan import TimeSpan
from backfilld.services.verify import day_files, verify_files
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.fakes import BTC, DAY, DAY_MS, FakeExchange, Tape
from tests.pipelines import World

DAYS = 6
ROWS_A_DAY = 8640
HEAD_QUESTIONS, WARM_QUESTIONS = 6, 3
PLANNED_TWICE = 3


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk work is done without threads: the clock must not run ahead of it."""

    async def run_sync(work: Any, *args: object, **_: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


def world_of(root: Path, days: int, days_off: float) -> World:
    """Trades on five whole days and on half of today, every ten seconds."""
    start_ms = DAY_MS - (DAYS - 1) * MS_PER_DAY
    tape = Tape.even(DAYS * ROWS_A_DAY, start_ms=start_ms, step_ms=MS_PER_DAY // ROWS_A_DAY, first_id=7)
    exchange = FakeExchange({BTC: tape}, epoch_ms=DAY_MS + MS_PER_DAY // 2, latency_s=0.1)
    exchange.grows = True
    store = ParquetStore(root, Encoding())
    return World(exchange, store, days=days, wall_error_ms=days_off * MS_PER_DAY)  # type: ignore[arg-type]


@pytest.mark.parametrize("days", [0, 1])
@pytest.mark.parametrize("days_off", [-3, -2, -0.6, 0, 0.3, 2])
async def test_one_run_leaves_the_days_of_the_window_alone(
    days: int, days_off: float, tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = world_of(tmp_path, days, days_off)
    (outcome,) = await world.run()
    assert outcome.complete
    manager = BackfillCacheManager(instrument_directory(tmp_path, BTC), BTC)
    assert manager.days() == [DAY - timedelta(days=n) for n in range(days, -1, -1)]
    window = TimeSpan(DAY_MS - days * MS_PER_DAY, world.exchange.now_ms)
    wanted = len(world.exchange.tapes[BTC].ids_in(window))
    stored = sum(map(manager.rows_in_file, manager.days()))
    assert wanted - 1 <= stored <= wanted
    verified = verify_files(day_files(tmp_path, None))
    assert [str(finding) for finding in verified.findings] == []
    is_other_day = abs(days_off) > 0.5
    assert outcome.requests <= -(-wanted // 1000) + HEAD_QUESTIONS + PLANNED_TWICE * is_other_day
    (again,) = await world.run()
    assert again.complete
    assert again.requests <= WARM_QUESTIONS + PLANNED_TWICE * is_other_day
