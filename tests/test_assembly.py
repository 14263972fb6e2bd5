"""From settings to a pipeline: what the parts share."""

import json
import os
import sys
import time
from pathlib import Path
from shutil import rmtree

import pytest
import trio

from backfilld.assembly import assembled
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Market
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.errors import CacheLocked
from backfilld.services.status import cache_status
from backfilld.settings import Settings
from backfilld.store.layout import state_directory


async def test_usd_m_and_coin_m_share_one_budget_and_spot_has_its_own(tmp_path: Path) -> None:
    with assembled(Settings(cache_dir=tmp_path), once=True) as assembly:
        assert set(assembly.pipeline.governor.budgets) == set(Pool)
        assert RULES[Market.UM].pool is RULES[Market.CM].pool is Pool.FUTURES


BANNED = BudgetStatistics(6000, "1m", 4800, 0, paused_ms=600_000, reason=Reason.BANNED)

BANNED_NOW = Snapshot(time.time() * 1000, 0.0, budgets={Pool.SPOT: BANNED})


async def test_a_ban_is_remembered_in_the_state_directory_for_the_next_cache(tmp_path: Path) -> None:
    """The first cache goes; a machine with another one and the same STATE_DIR sends nothing while the ban lasts."""
    first, second, other = (Settings(cache_dir=tmp_path / name, state_dir=tmp_path / "state") for name in "abc")
    with assembled(first, once=True) as assembly:
        assert assembly.pipeline.memory is not None
        await assembly.pipeline.memory.save(BANNED_NOW)
    assert (tmp_path / "state" / "governor.json").exists()
    assert not (state_directory(first.cache_dir) / "governor.json").exists()
    rmtree(first.cache_dir)
    with assembled(second, once=True) as assembly:
        assert assembly.pipeline.governor.budgets[Pool.SPOT].pauses.reason is Reason.BANNED
    with assembled(other.model_copy(update={"state_dir": None}), once=True) as assembly:
        assert assembly.pipeline.governor.budgets[Pool.SPOT].pauses.reason is None


async def test_a_pipeline_locks_its_state_directory_and_sweeps_it(tmp_path: Path) -> None:
    """Two daemons on one machine would each spend the whole budget of its address."""
    one, other = (Settings(cache_dir=tmp_path / name, state_dir=tmp_path / "state") for name in "ab")
    with assembled(one, once=True) as assembly:
        left = tmp_path / "state" / "governor.json.tmp-999999999-0123abcd"
        left.touch()
        await assembly.store.open()
        assert not left.exists()
        with pytest.raises(CacheLocked, match="the state directory"):
            assembled(other, once=True).__enter__()


async def test_by_default_the_state_directory_is_that_of_the_cache(tmp_path: Path) -> None:
    with assembled(Settings(cache_dir=tmp_path), once=True) as assembly:
        assert assembly.pipeline.memory is not None
        await assembly.pipeline.memory.save(BANNED_NOW)
    named = cache_status(tmp_path, state_directory(tmp_path), None)
    assert named.budgets[Pool.SPOT].reason is Reason.BANNED


async def test_status_reads_the_budgets_of_the_state_directory(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path / "a", state_dir=tmp_path / "state")
    with assembled(settings, once=True) as assembly:
        assert assembly.pipeline.memory is not None
        await assembly.pipeline.memory.save(BANNED_NOW)
    shown = await trio.run_process(
        [sys.executable, "-m", "backfilld", "status", "--json"],
        env=os.environ | {"BACKFILL_CACHE_DIR": str(settings.cache_dir), "BACKFILL_STATE_DIR": str(settings.state_dir)},
        capture_stdout=True,
    )
    assert json.loads(shown.stdout)["budgets"]["spot"]["reason"] == "banned"
