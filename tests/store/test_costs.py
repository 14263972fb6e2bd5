"""What saving costs, in counts that are the same on every machine: bytes written, rows encoded, syncs.

The bounds are wide. What they would notice is cost that grows with what is there instead of with what is new.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from backfilld.core.day.addition import Addition
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.effort import effort
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame

SAVE_S = 300.0


@dataclass
class Costs:
    """What was spent from ``begin`` on."""

    syncs: int = 0
    _began_bytes: int = 0

    def begin(self) -> None:
        self.syncs, self._began_bytes = 0, _written()

    @property
    def bytes(self) -> int:
        return _written() - self._began_bytes


def _written() -> int:
    """The bytes that this process has handed to the kernel."""
    return _counted("wchar")


def _read() -> int:
    """The bytes that this process has got from the kernel."""
    return _counted("rchar")


def _counted(name: str) -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields[name])


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    found, sync = Costs(), os.fsync

    def counted(descriptor: int) -> None:
        found.syncs += 1
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    found.begin()
    return found


class Daemon:
    """The saves of one day by the clock of a test."""

    def __init__(self, cache: Path, save_s: float = SAVE_S) -> None:
        self.manager = BackfillCacheManager(instrument_directory(cache, SPOT), SPOT)
        self.days = WaitingDays(save_s)
        self.rewrites: list[int] = []
        self.now_s = 0.0

    def save(self, trades: pl.DataFrame) -> bool:
        """Save what came; return whether it went into the journal. The writer rewrites what is due."""
        starts = starts_at(DAY, 1000)
        done = self.days.append(self.manager, Addition(SPOT, DAY, trades, starts), self.now_s)
        if done.is_in_journal and any(at <= self.now_s for at in self.days.due_at().values()):
            done = self.days.rewrite(self.manager, Addition(SPOT, DAY, trades[:0], starts))
        if not done.is_in_journal:
            self.rewrites.append(done.record.rows)
        return done.is_in_journal


@pytest.mark.parametrize("stored", [20_000, 200_000])
def test_a_top_up_costs_what_is_new_however_much_is_stored(tmp_path: Path, costs: Costs, stored: int) -> None:
    daemon = Daemon(tmp_path)
    daemon.save(day_frame(range(1000, 1000 + stored)))
    for number in range(5):
        first = 1000 + stored + 300 * number
        trades = day_frame(range(first, first + 300))
        costs.begin()
        assert daemon.save(trades)
        # A row has 58 bytes in memory; the first append makes the journal and syncs its directory.
        assert costs.bytes < 300 * 100
        assert costs.syncs <= (2 if number == 0 else 1)
    assert daemon.rewrites == [stored]


def test_a_live_day_writes_a_small_part_of_what_a_rewrite_at_each_poll_would(tmp_path: Path, costs: Costs) -> None:
    """Polls of 7 trades: a tenth of the rows that are encoded by writing the day anew with each poll; the file is
    never older than SAVE_SECONDS; syncs are one an append and a few a rewrite."""
    daemon, polls, rows = Daemon(tmp_path), effort(quick=720, thorough=2880), 7
    every = day_frame(range(1000, 1000 + polls * rows))
    oldest_s, file_at = 0.0, 0.0
    costs.begin()
    for number in range(polls):
        daemon.now_s = 30.0 * number
        before = len(daemon.rewrites)
        daemon.save(every[number * rows : (number + 1) * rows])
        oldest_s = max(oldest_s, daemon.now_s - file_at)
        if len(daemon.rewrites) > before:
            file_at = daemon.now_s
    encoded = sum(daemon.rewrites) + rows * polls
    assert encoded <= 0.11 * rows * polls * (polls + 1) / 2
    # A poll after the rewrite its first row is in the journal, and may be there for so long.
    assert oldest_s <= SAVE_S + 30
    assert costs.syncs <= polls + 4 * len(daemon.rewrites)
    assert daemon.manager.facts(DAY).rows == polls * rows


@pytest.mark.parametrize("pages", [64, 640])
def test_a_backfill_encodes_each_row_a_few_times_however_long_the_day(tmp_path: Path, pages: int) -> None:
    """Checkpoints of a page each, nobody being in a hurry: 2.5 rows are encoded a trade at most."""
    daemon = Daemon(tmp_path, save_s=math.inf if pages < 100 else 1e9)
    for number in range(pages):
        daemon.save(day_frame(range(1000 + 100 * number, 1100 + 100 * number)))
    daemon.days.rewrite(daemon.manager, Addition(SPOT, DAY, day_frame([]), starts_at(DAY, 1000)))
    assert sum(daemon.rewrites) + 100 * pages <= 2.6 * 100 * pages


def test_a_rewrite_reads_the_journal_twice(tmp_path: Path) -> None:
    """Once to see what is in it, and once to pass the rows on: they are not kept in memory in between."""
    daemon = Daemon(tmp_path, math.inf)
    for first_id in range(1000, 41_000, 10_000):
        daemon.save(day_frame(range(first_id, first_id + 10_000)))
    size, before = daemon.manager.journal_path(DAY).stat().st_size, _read()
    daemon.days.rewrite(daemon.manager, Addition(SPOT, DAY, day_frame([])))
    assert _read() - before < 2.1 * size
