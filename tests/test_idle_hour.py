"""An hour without trades, and half an hour of few: what a daemon syncs to the disk, and what it asks of the exchange.

The whole pipeline on fakes and real files, on a virtual clock.
"""

import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from backfilld.adapters.parquet_store import ParquetStore
from backfilld.adapters.state_files import StateFiles
from backfilld.core.model import Instrument, Market
from backfilld.store import journal
from backfilld.store.format import dayfile
from backfilld.store.format.dayfile import Encoding
from backfilld.supervisor import run_pipeline
from tests.fakes import DAY_MS, FakeExchange, Tape
from tests.pipelines import World

NOON_MS = DAY_MS + 43_200_000
START_S, HOUR_S = 600.0, 3600.0


class Counts(Counter[str]):
    """``sync``, ``append`` (a checkpoint of one instrument that has rows) and ``rewrite``, from ``begin`` on."""


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """What happens from now on. Disk work is done without threads: the clock must not run ahead of it."""
    found = Counts()
    rewriting, append = dayfile.rewriting, journal.JournalWriter.append

    @contextmanager
    def rewritten(*args: Any, **more: Any) -> Any:
        with rewriting(*args, **more) as writer:
            yield writer
        found["rewrite"] += 1

    def appended(*args: Any) -> None:
        found["append"] += 1
        append(*args)

    def synced(sync: Any) -> Any:
        def counted(descriptor: int) -> None:
            found["sync"] += 1
            sync(descriptor)

        return counted

    async def inline(work: Any, *args: object, **_: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr("backfilld.store.manager.rewriting", rewritten)
    monkeypatch.setattr(journal.JournalWriter, "append", appended)
    monkeypatch.setattr(os, "fsync", synced(os.fsync))
    monkeypatch.setattr(os, "fdatasync", synced(os.fdatasync))
    monkeypatch.setattr(trio.to_thread, "run_sync", inline)
    return found


async def watched(cache: Path, exchange: FakeExchange, counts: Counts, seconds: float) -> float:
    """Count what a daemon does that has been there for ten minutes; return its weight a minute."""
    instruments = tuple(exchange.tapes)
    store = ParquetStore(cache, Encoding())
    world = World(exchange, store, once=False, workers=2, instruments=instruments)  # type: ignore[arg-type]
    pipeline = replace(world.pipeline(), memory=StateFiles(cache, cache / ".backfilld"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_pipeline, pipeline)
        await trio.sleep(START_S)
        counts.clear()
        spent = exchange.weight_by_minute.total()
        await trio.sleep(seconds)
        spent = exchange.weight_by_minute.total() - spent
        found = Counts(counts)
        pipeline.stop.set()
    counts.clear()
    counts.update(found)
    return spent / (seconds / 60)


def minutes_after(seconds: float) -> range:
    """The minutes of the hour that begins so long after noon."""
    first = (NOON_MS + int(seconds * 1000)) // 60_000
    return range(first, first + 60)


async def test_an_hour_without_trades_syncs_once_a_minute_at_most(
    tmp_path: Path, counts: Counts, autojump_clock: MockClock
) -> None:
    names = [Instrument(Market.SPOT, f"COIN{number}USDT") for number in range(4)]
    quiet = {each: Tape.even(50, start_ms=DAY_MS + 3_600_000, step_ms=60_000) for each in names}
    exchange = FakeExchange(quiet, epoch_ms=NOON_MS)
    weight = await watched(tmp_path, exchange, counts, HOUR_S)
    assert counts["append"] == counts["rewrite"] == 0
    assert counts["sync"] <= HOUR_S / 60
    # 500 of them may take 1,200 a minute; each is asked every five minutes at least, and not all in the same one.
    assert 0 < weight <= 1_200 / 500 * len(names)
    assert max(exchange.weight_by_minute[minute] for minute in minutes_after(START_S)) <= 2 * 4


async def test_few_trades_sync_once_a_checkpoint_and_three_times_a_rewrite(
    tmp_path: Path, counts: Counts, autojump_clock: MockClock
) -> None:
    """A trade every 20 s of each of two instruments, for half an hour."""
    names = [Instrument(Market.SPOT, f"COIN{number}USDT") for number in range(2)]
    times = range(NOON_MS - 600_000, NOON_MS + 2 * 3_600_000, 20_000)
    busy = {each: Tape.of(7, times) for each in names}
    await watched(tmp_path, FakeExchange(busy, epoch_ms=NOON_MS, grows=True), counts, HOUR_S / 2)
    assert 2 * 59 <= counts["append"] <= 2 * 61
    assert 2 * 5 <= counts["rewrite"] <= 2 * 7
    assert counts["sync"] <= counts["append"] + 3 * counts["rewrite"] + HOUR_S / 2 / 60
