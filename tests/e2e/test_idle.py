"""What it costs to have nothing to do: CPU of an idle daemon, and memory over days of top-ups."""

import gc
import logging
import math
import os
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import structlog
import trio
from trio.testing import MockClock

from backfilld.actors import merger
from backfilld.adapters.ram_store import RamStore
from backfilld.core.backfill.questions import At, Before, Newest, Page, Query, Since, Tail
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import Certificate, Source
from backfilld.core.day.figures import Figures
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.merge import Merged
from backfilld.core.model import Instrument, Market
from backfilld.core.timespan import joined
from backfilld.core.weight.limits import Limit
from backfilld.ports import Forwarded, MarketInfo, Reply, RestClient, Saved, TradeStore, Usage
from backfilld.store.format.dayfile import spans_of
from backfilld.supervisor import run_pipeline
from tests.e2e.world import Daemon, ended, exchange_at, generated
from tests.effort import effort
from tests.fakes import DAY_MS, FakeExchange
from tests.pipelines import World

# -- CPU

SYMBOLS = ["BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "TRX", "LINK", "LTC"]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process so far, user and system, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def at_rest(pid: int) -> None:
    """Wait, at most 30 s, for the end of the start: a second and a half in which the process does nearly nothing."""
    with trio.fail_after(30):
        spent_s = 0.0
        while cpu_seconds(pid) - spent_s > 0.02:
            spent_s = cpu_seconds(pid)
            await trio.sleep(1.5)


async def test_an_idle_daemon_with_ten_instruments_uses_less_than_a_hundredth_of_a_core(tmp_path: Path) -> None:
    """It polls every 5 s instead of every 30, so that the test sees some rounds; measured: 1.4 % at 5 s, so 0.23 %."""
    instruments = [Instrument(Market.SPOT, f"{symbol}USDT") for symbol in SYMBOLS]
    tapes = {each: generated(1_000, seed=n) for n, each in enumerate(instruments)}
    async with exchange_at(16, tapes) as exchange:
        settings = {"INSTRUMENTS": " ".join(map(str, instruments)), "POLL_SECONDS": "5"}
        daemon = Daemon(exchange, tmp_path / "cache", settings)
        process = daemon.start("run")
        try:
            with trio.fail_after(30):
                while len(list((tmp_path / "cache").rglob("*.parquet"))) < len(instruments):
                    await trio.sleep(0.1)
            await at_rest(process.pid)
            asked, spent_s, began = len(exchange.requests), cpu_seconds(process.pid), time.monotonic()
            await trio.sleep(11)
            spent_s, passed_s = cpu_seconds(process.pid) - spent_s, time.monotonic() - began
            asked = len(exchange.requests) - asked
            process.terminate()
            assert await ended(process) == 0
        finally:
            process.kill()
    # Quiet instruments are polled ever more rarely.
    assert asked >= len(instruments), "it did poll"
    # All of it is laid to the polling, which is six times as frequent as by default.
    assert spent_s / passed_s * 5 / 30 < 0.01


# -- memory


class Endless(FakeExchange):
    """A trade every 33 ms for ever, made when it is asked for; it keeps no book of what it answered."""

    start_ms = DAY_MS + 43_000_000
    step_ms = 33
    rows_in_all = 0

    async def trades(self, _: Instrument, query: Query) -> Reply[pl.DataFrame]:
        """Rows by the exchange's rules."""
        await trio.sleep(self.latency_s)
        now_ms, end = self.now_ms, self._id_at(self.now_ms + 1)
        first, stop = 0, 0
        match query:
            case Page() | Tail():
                first, stop = query.first_id, query.first_id + query.rows
            case Since(start_ms, rows):
                first = self._id_at(start_ms)
                stop = min(first + rows, end)
            case At(first_id):
                first, stop = first_id, first_id + query.rows
            case Before(stop_ms, rows):
                stop = self._id_at(stop_ms)
                first = max(0, stop - rows)
            case Newest(stop_ms=upto_ms, rows=rows):
                stop = end if upto_ms is None else min(end, self._id_at(upto_ms))
                first = max(0, stop - rows)
        stop = max(first, min(stop, end))
        self.rows_in_all += stop - first
        return Reply(Usage({}, now_ms // 1000 * 1000), self._rows(first, stop))

    async def forward(self, market: Market, target: str, headers: Mapping[str, str]) -> Reply[Forwarded]:
        """Nobody asks for it."""
        raise NotImplementedError

    async def market_info(self, _: Market, symbols: Sequence[str], *, whole: bool = False) -> Reply[MarketInfo]:  # noqa: ARG002
        """As ever."""
        await trio.sleep(self.latency_s)
        return Reply(Usage(), MarketInfo((Limit(6000, 1, "MINUTE"),), dict.fromkeys(symbols, 0.01)))

    def _id_at(self, at_ms: int) -> int:
        return max(0, math.ceil((at_ms - self.start_ms) / self.step_ms))

    def _rows(self, first: int, stop: int) -> pl.DataFrame:
        ids = pl.int_range(first, stop, dtype=pl.Int64)
        columns: dict[str, Any] = {
            "T": self.start_ms + ids * self.step_ms,
            "a": ids,
            "p": pl.lit(100.0),
            "q": pl.lit(1.0),
            "f": ids,
            "l": ids,
            "m": pl.lit(value=True),
            "M": pl.lit(value=True),
        }
        return pl.select(**columns).cast(dict(SCHEMA)) if stop > first else empty_trades()

    @asynccontextmanager
    async def open_client(self) -> AsyncIterator[RestClient]:
        """One connection."""
        yield self


class RecordsOnly(RamStore):
    """A store that keeps of each day what a scheduler learns, and no trade."""

    async def save(self, addition: Addition) -> Saved:
        """Note what there is."""
        instrument, day, day_starts = addition.instrument, addition.day, addition.day_starts
        await trio.lowlevel.checkpoint()
        old = self._records.get((instrument, day))
        spans = tuple(joined([*(old.spans if old else ()), *spans_of(addition.trades)]))
        record = Certificate(
            day,
            spans,
            opened=DayStart(day, spans[0].ids.first_id) in day_starts or bool(old and old.opened),
            closed=DayStart(day + ONE_DAY, spans[-1].ids.last_id + 1) in day_starts,
        )
        self._records[instrument, day] = record
        return Saved(record, None, 0, 0, 0, empty_trades())

    async def context(self, _: Instrument, __: int, ___: int, bin_size: float) -> Figures:
        """Of nothing."""
        await trio.lowlevel.checkpoint()
        return Figures(bin_size)


PAGE_BYTES = 50_000
"""What leaking one page of a thousand trades a top-up would cost, at the least."""


POLL_S = 30.0
TOP_UPS_A_DAY = round(86_400 / (POLL_S + Endless.latency_s))
DAYS = effort(quick=1, thorough=3)


@dataclass(frozen=True)
class Growth:
    """By how much a process grew a top-up: blocks of Python's allocator, bytes in Python's objects (0 unless traced),
    and bytes in RAM."""

    blocks: float
    traced: float
    resident: float


async def growth_of(store: TradeStore, top_ups: int, *, traced: bool, warm_up: int = 100) -> Growth:
    """Run so many top-ups after ``warm_up`` of them."""
    exchange = Endless({})
    world = World(exchange, store, once=False, workers=2)  # type: ignore[arg-type]
    pipeline = world.pipeline()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_pipeline, pipeline)
        await trio.sleep(warm_up * (POLL_S + exchange.latency_s))
        begun = pipeline.statistics.value
        if traced:
            tracemalloc.start(1)
        sent = exchange.rows_in_all
        before = _memory()
        await trio.sleep(top_ups * (POLL_S + exchange.latency_s))
        after = _memory()
        tracemalloc.stop()
        ended_with = pipeline.statistics.value
        assert ended_with.requests - begun.requests >= 0.99 * top_ups
        assert exchange.rows_in_all - sent >= 0.99 * top_ups * POLL_S * 1000 / exchange.step_ms
        pipeline.stop.set()
    blocks, in_python, resident = (b - a for a, b in zip(before, after, strict=True))
    return Growth(blocks / top_ups, in_python / top_ups, resident / top_ups)


def _memory() -> tuple[int, int, int]:
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0], resident


@pytest.fixture
def _no_logs() -> Iterator[None]:
    """Lines are neither written nor kept."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


MOST_BLOCKS = 0.5
"""Half an object a top-up. The interpreter's own free lists fill to some two thousand blocks in all, and stay so."""
MOST_RESIDENT = PAGE_BYTES / 25


@pytest.mark.usefixtures("_no_logs")
async def test_days_of_top_ups_leave_nothing_behind(autojump_clock: MockClock) -> None:
    """A page of nine hundred trades each time. Whole days: what is kept of a day goes at its midnight."""
    growth = await growth_of(RecordsOnly(), DAYS * TOP_UPS_A_DAY, traced=False, warm_up=1_500)
    assert growth.blocks < MOST_BLOCKS, growth
    assert growth.resident < MOST_RESIDENT, growth


@pytest.mark.usefixtures("_no_logs")
async def test_a_page_kept_by_every_top_up_would_be_seen(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measure can fail: the same with a merger that keeps what it has handed over."""
    kept: list[pl.DataFrame] = []
    by_day = merger._by_day

    def leaking(pages: list[tuple[Source, pl.DataFrame]], starts: set[DayStart]) -> dict[tuple[date, Source], Merged]:
        kept.extend(trades for _, trades in pages)
        return by_day(pages, starts)

    monkeypatch.setattr(merger, "_by_day", leaking)
    growth = await growth_of(RecordsOnly(), 400, traced=True)
    assert len(kept) > 400
    assert growth.resident > 0.5 * PAGE_BYTES
    assert growth.blocks > 2 * MOST_BLOCKS
    assert growth.traced > 100
