"""Each past day is encoded once: the whole pipeline on fakes and real day files, on a virtual clock."""

import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import trio
from trio.testing import MockClock

from backfilld.adapters.parquet_store import SAVE_S, ParquetStore
from backfilld.core.backfill.questions import Before, Newest, Query, Since
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import MS_PER_DAY, Instrument
from backfilld.core.timespan import TimeSpan
from backfilld.errors import RequestRejected
from backfilld.ports import Published
from backfilld.store.format import dayfile
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.supervisor import run_pipeline
from tests.fakes import BTC, DAY, DAY_MS, FakeExchange, Misbehaviour, Tape, refuse
from tests.pipelines import World, stopped
from tests.store.archives import published

ROWS = [20_000, 400_000, 333_333]
"""All within one checkpoint; pages that end at midnight, over several checkpoints; pages that reach over midnight."""

PAST_DAYS = [DAY - timedelta(days=n) for n in (3, 2, 1)]


@pytest.fixture
def rewrites(monkeypatch: pytest.MonkeyPatch) -> Counter[date]:
    """How often each day file was written. Disk work is done without threads: the clock must not run ahead of it."""
    counted = Counter[date]()
    rewriting = dayfile.rewriting

    @contextmanager
    def counting(path: Path, day: date, *args: Any, **more: Any) -> Iterator[object]:
        with rewriting(path, day, *args, **more) as writer:
            yield writer
        counted[day] += 1

    async def inline(work: Any, *args: object, **_: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr("backfilld.store.manager.rewriting", counting)
    monkeypatch.setattr(trio.to_thread, "run_sync", inline)
    return counted


@pytest.fixture
def files(rewrites: Counter[date], monkeypatch: pytest.MonkeyPatch) -> Counter[date]:
    """How often each day was written, from the archive or not."""
    finish, counted = dayfile.DayWriter.finish, Counter[date]()

    def finished(writer: dayfile.DayWriter, *args: Any) -> Certificate:
        counted[writer._day] += 1
        return finish(writer, *args)

    monkeypatch.setattr(dayfile.DayWriter, "finish", finished)
    return counted


def world_of(rows: int, root: Path, *, save_s: float = SAVE_S, **more: Any) -> World:
    """Three days and a half, until now, and an hour before them; about 55,000 trades come between two checkpoints."""
    start_ms, now_ms = DAY_MS - 3 * MS_PER_DAY - 3_600_000, DAY_MS + 43_200_000
    tape = Tape.even(rows, start_ms=start_ms, step_ms=(now_ms - start_ms) // rows, first_id=7)
    exchange = FakeExchange({BTC: tape}, epoch_ms=DAY_MS + 43_200_000, latency_s=0.5)
    return World(exchange, ParquetStore(root, Encoding(), save_s), checkpoint_s=10, **more)  # type: ignore[arg-type]


def manager_of(root: Path) -> BackfillCacheManager:
    return BackfillCacheManager(instrument_directory(root, BTC), BTC)


def check_whole(world: World, root: Path, days: list[date]) -> None:
    """Every trade of the days is in its file, which is sealed, and no journal is left."""
    manager = manager_of(root)
    tape = world.exchange.tapes[BTC]
    for day in days:
        assert manager.facts(day).sealed
        start_ms = DAY_MS - (DAY - day).days * MS_PER_DAY
        assert manager.rows_in_file(day) == len(tape.ids_in(TimeSpan(start_ms, start_ms + MS_PER_DAY)))
    assert not list(root.rglob("*.journal"))


@pytest.mark.parametrize("rows", ROWS)
async def test_a_daemon_writes_each_past_day_once(
    rows: int, tmp_path: Path, rewrites: Counter[date], autojump_clock: MockClock
) -> None:
    world = world_of(rows, tmp_path, days=3, once=False)
    await world.run(stopped, 200)
    assert {day: rewrites[day] for day in PAST_DAYS} == dict.fromkeys(PAST_DAYS, 1)
    check_whole(world, tmp_path, PAST_DAYS)


@pytest.mark.parametrize("rows", ROWS)
async def test_a_single_run_writes_every_day_once(
    rows: int, tmp_path: Path, rewrites: Counter[date], autojump_clock: MockClock
) -> None:
    world = world_of(rows, tmp_path, save_s=math.inf, days=3)
    await world.run()
    assert rewrites == dict.fromkeys([*PAST_DAYS, DAY], 1)
    check_whole(world, tmp_path, PAST_DAYS)


@pytest.mark.parametrize("rows", ROWS)
async def test_a_window_of_past_days_is_written_once(
    rows: int, tmp_path: Path, rewrites: Counter[date], autojump_clock: MockClock
) -> None:
    world = world_of(rows, tmp_path, save_s=math.inf, window=TimeSpan(DAY_MS - 3 * MS_PER_DAY, DAY_MS))
    await world.run()
    assert rewrites == dict.fromkeys(PAST_DAYS, 1)
    check_whole(world, tmp_path, PAST_DAYS)


async def test_what_waits_in_a_journal_is_stored_for_every_reader_and_outlives_a_crash(
    tmp_path: Path, rewrites: Counter[date], autojump_clock: MockClock
) -> None:
    world = world_of(400_000, tmp_path, days=3, once=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_pipeline, world.pipeline())
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    manager = manager_of(tmp_path)
    journaled = [day for day in manager.days() if not manager.get_cache_path(day).exists()]
    assert journaled, "a past day is in its journal alone"
    stored = 0
    for day in manager.days():
        trades = manager.load_cached_trades(day)
        assert trades is not None
        assert trades.height == manager.facts(day).rows
        stored += trades.height
    sent = sum(sent.total() for sent in world.exchange.sent.values())
    assert stored >= sent - 60_000, "all but the newest checkpoint"

    await world.run(stopped, 200)
    check_whole(world, tmp_path, PAST_DAYS)
    assert sum(sent.total() for sent in world.exchange.sent.values()) <= world.exchange.tapes[BTC].frame.height + 60_000
    assert max(rewrites[day] for day in PAST_DAYS) <= 1


ARCHIVED = [DAY - timedelta(days=n) for n in range(8, 0, -1)]


@dataclass
class ZippedDays:
    """The archive of a tape: a zip for each past day with trades that is not ``late``. It was asked in vain for those
    it ``lacked``."""

    tape: Tape
    root: Path
    late: tuple[date, ...] = ()
    lacked: list[date] = field(default_factory=list)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["ZippedDays"]:
        yield self

    async def fetch(self, _: Instrument, day: date) -> Published | None:
        await trio.sleep(0.2)
        path = self.root / f"{day}.zip"
        rows = self.tape.frame.filter(pl.col("T") // MS_PER_DAY == (day - date(1970, 1, 1)).days)
        if rows.is_empty() or day in self.late:
            self.lacked.append(day)
            return None
        published(path, rows)
        return Published(str(path), "0" * 64, path.stat().st_size)

    async def size(self, _: Instrument, day: date) -> int | None:
        raise NotImplementedError


@pytest.mark.parametrize(("once", "days"), [(True, 8), (False, 8), (False, 5)], ids=["once", "daemon", "listed"])
async def test_each_of_eight_archive_days_is_written_once_and_read_never_again(
    once: bool,
    days: int,
    tmp_path: Path,
    files: Counter[date],
    autojump_clock: MockClock,
) -> None:
    """The oldest too, also where the symbol was listed in the window: where it begins is asked before it is written.
    Most of the requests are of today's trades."""
    start_ms = DAY_MS - 8 * MS_PER_DAY - 3_600_000 if days == 8 else DAY_MS - 5 * MS_PER_DAY + 3_600_000
    tape = Tape.even(200_000, start_ms=start_ms, step_ms=(DAY_MS + MS_PER_DAY - start_ms) // 200_000, first_id=7)
    exchange = FakeExchange({BTC: tape}, epoch_ms=DAY_MS + 3_600_000, latency_s=0.5)
    store = ParquetStore(tmp_path / "cache", Encoding(), SAVE_S)
    archive = ZippedDays(tape, tmp_path)
    world = World(exchange, store, checkpoint_s=10, days=8, once=once, open_archive=archive.open)  # type: ignore[arg-type]
    await (world.run() if once else world.run(stopped, 200))
    assert {day: files[day] for day in ARCHIVED if files[day]} == dict.fromkeys(ARCHIVED[-days:], 1)
    check_whole(world, tmp_path / "cache", ARCHIVED[-days:])
    assert archive.lacked == []


HOUR_MS = 3_600_000


def hours(*spans: tuple[float, float]) -> Tape:
    """A tape with a trade every 20 s in these spans, in hours from the beginning of DAY."""
    times = [at for a, b in spans for at in range(int(DAY_MS + a * HOUR_MS), int(DAY_MS + b * HOUR_MS), 20_000)]
    return Tape.of(1_007, times)


def too_old(tape: Tape, bound_ms: int) -> Misbehaviour:
    """Questions about times before this one are refused, as on the futures."""

    def is_too_old(_: Instrument, query: Query | None) -> bool:
        match query:
            case Since(at_ms) | Before(at_ms):
                return at_ms < bound_ms
            case None | Newest():
                return False
            case _:
                row = tape.answer(query).head(1)
                return bool(row.height and row["T"][0] < bound_ms)

    return Misbehaviour(refuse(RequestRejected("-4166 too old", status=400, code=-4166)), is_too_old, math.inf)


@pytest.mark.parametrize("once", [True, False], ids=["once", "daemon"])
@pytest.mark.parametrize(
    ("name", "tape", "late", "days"),
    [
        ("spot:BTCUSDT", hours((-200, -74), (-36, 12)), (), (2, 1)),
        ("spot:BTCUSDT", hours((-200, -60), (-24, 12)), (), (3, 1)),
        ("spot:BTCUSDT", hours((-200, 12)), (1,), (3, 2, 1)),
        ("spot:BTCUSDT", hours((-200, 12)), (2, 1), (3, 2, 1)),
        ("um:BTCUSDT", hours((-200, -150), (-12, 12)), (), (1,)),
        ("um:BTCUSDT", hours((-200, -60), (-24, 12)), (), (3, 1)),
        ("um:BTCUSDT", hours((-200, 12)), (1,), (3, 2, 1)),
    ],
    ids=["halt", "empty day", "late day", "two late days", "reach in a halt", "empty day out of reach", "late futures"],
)
async def test_a_day_beside_one_that_the_archive_lacks_is_written_once(
    once: bool,
    name: str,
    tape: Tape,
    late: tuple[int, ...],
    days: tuple[int, ...],
    tmp_path: Path,
    files: Counter[date],
    autojump_clock: MockClock,
) -> None:
    """REST is asked where it begins and ends before it is written; two days beyond the lookback may adjoin by id."""
    instrument, now_ms = Instrument.parse(name), DAY_MS + 12 * HOUR_MS
    old = [too_old(tape, now_ms - 2 * MS_PER_DAY)] if name.startswith("um") else []
    exchange = FakeExchange({instrument: tape}, epoch_ms=now_ms, latency_s=0.5, misbehaves=old)
    archive = ZippedDays(tape, tmp_path, tuple(DAY - timedelta(days=each) for each in late))
    store = ParquetStore(tmp_path / "cache", Encoding(), math.inf if once else SAVE_S)
    world = World(exchange, store, instruments=(instrument,), days=3, once=once, open_archive=archive.open)  # type: ignore[arg-type]
    await (world.run() if once else world.run(stopped, 200))
    past = [DAY - timedelta(days=each) for each in days]
    assert {day: count for day, count in files.items() if day in PAST_DAYS} == dict.fromkeys(past, 1)
    assert not once or files[DAY] == 1
    manager = BackfillCacheManager(instrument_directory(tmp_path / "cache", instrument), instrument)
    assert all(manager.facts(day).sealed for day in past)
