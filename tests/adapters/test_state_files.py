"""What a daemon remembers costs a sync when it changes, and what it shows costs none."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from backfilld.adapters.state_files import StateFiles
from backfilld.core.markets import Pool
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.sync.standing import Statistics
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.store.daemon_state import peek_activity
from backfilld.store.governor_state import peek_remembered

IDLE = BudgetStatistics(6000, "1m", 4800, 72)
HEARTBEATS_AN_HOUR = 240


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every fsync of this process from now on."""
    found: list[int] = []
    sync = os.fsync

    def counted(descriptor: int) -> None:
        found.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    return found


async def test_an_hour_of_nothing_new_is_one_save_of_what_is_remembered(tmp_path: Path, syncs: list[int]) -> None:
    """At most one sync a minute was promised: it is two in all, of the file and of its directory."""
    files = StateFiles(tmp_path, tmp_path / ".backfilld")
    for number in range(HEARTBEATS_AN_HOUR):
        budgets = {Pool.SPOT: replace(IDLE, used=number, granted=number)}
        await files.save(Snapshot(15_000.0 * number, 0.0, statistics=Statistics(fetched=number), budgets=budgets))
    assert len(syncs) == 2
    shown = peek_activity(tmp_path)
    assert shown is not None
    assert (shown.downloaded, shown.budgets["spot"].used) == (239, 239)


async def test_whatever_a_restart_needs_is_saved_at_once(tmp_path: Path, syncs: list[int]) -> None:
    """A pause, its end that moved, a ban, a learned weight, a limit that was met: each is on disk when save is back."""
    files, state_dir = StateFiles(tmp_path, tmp_path / ".backfilld"), tmp_path / ".backfilld"
    now = IDLE
    await files.save(Snapshot(0.0, 0.0, budgets={Pool.SPOT: now}))
    changes = (
        {"paused_ms": 60_000.0, "reason": Reason.BANNED},
        {"paused_ms": 90_000.0},
        {"bans_ms_ago": (60_000.0,)},
        {"learned": {"aggTrades": 8}},
        {"met": {"1m": (1000, 60_000.0)}},
        {"paused_ms": 0.0, "reason": None},
    )
    for change in changes:
        before = len(syncs)
        now = replace(now, **change)
        await files.save(Snapshot(0.0, 0.0, budgets={Pool.SPOT: now}))
        assert len(syncs) == before + 2, change
    kept = peek_remembered(state_dir, 0)[Pool.SPOT]
    assert (kept.paused_until_ms, kept.learned, len(kept.bans_ms), set(kept.met)) == (None, {"aggTrades": 8}, 1, {"1m"})
