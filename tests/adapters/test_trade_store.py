"""What every TradeStore promises, tried with the one on disk and the one in memory."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from structlog.testing import capture_logs

from backfilld import Instrument, StoreError
from backfilld.adapters.parquet_store import ParquetStore
from backfilld.adapters.ram_store import RamStore
from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.day.addition import Addition
from backfilld.core.day.figures import Figures
from backfilld.core.frame import empty_trades
from backfilld.core.model import IdRange, day_start_ms, day_stop_ms
from backfilld.ports import TradeStore
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import instrument_directory
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame

ETH = Instrument.parse("um:ETHUSDT")
NEXT = DAY + timedelta(days=1)
START_MS, STOP_MS = day_start_ms(DAY), day_stop_ms(DAY)
EVER = (0, day_stop_ms(date(2100, 1, 1)))


@pytest.fixture(params=["disk", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> TradeStore:
    """An opened, empty store."""
    made: TradeStore = RamStore() if request.param == "memory" else ParquetStore(tmp_path / "cache", Encoding())
    with capture_logs() as logs:
        await made.open()
    assert [event["event"] for event in logs] == ["cache_disabled" if request.param == "memory" else "cache_opened"]
    return made


async def test_an_empty_store_holds_nothing(store: TradeStore) -> None:
    assert await store.days(SPOT) == []
    assert await store.load(SPOT, DAY) is None
    assert_frame_equal(await store.read(SPOT, *EVER), empty_trades())
    assert (await store.context(SPOT, *EVER, 0.1)).trades == 0
    await store.delete(SPOT, DAY)


async def test_what_the_exchange_has_shown_is_recalled(store: TradeStore) -> None:
    assert await store.recall(SPOT) is None
    shown = ShownEnd(5, START_MS + 7, 4, START_MS + 9, START_MS + 8)
    await store.remember(SPOT, shown)
    assert await store.recall(SPOT) == shown
    assert await store.recall(ETH) is None
    await store.remember(SPOT, ShownEnd(6, START_MS + 8))
    assert await store.recall(SPOT) == ShownEnd(6, START_MS + 8)


async def test_what_is_saved_is_loaded_and_read(store: TradeStore) -> None:
    saved = await store.save(Addition(SPOT, DAY, day_frame(range(1000, 1100)), starts_at(DAY, 1000)))
    assert (saved.cached, saved.duplicates, saved.conflicts.height) == (0, 0, 0)
    assert saved.record == await store.load(SPOT, DAY)
    assert (saved.record.first_id, saved.record.last_id, saved.record.rows) == (1000, 1099, 100)
    assert (saved.record.opened, saved.record.closed) == (True, False)
    assert_frame_equal(await store.read(SPOT, *EVER), day_frame(range(1000, 1100)))


async def test_saving_merges_and_counts_duplicates_and_conflicts(store: TradeStore) -> None:
    """The row that is stored stays; the one that differs is handed back, not stored and not dropped."""
    await store.save(Addition(SPOT, DAY, day_frame(range(1000, 1100))))
    other = day_frame(range(1090, 1150)).with_columns(p=pl.when(pl.col("a") == 1095).then(1.0).otherwise("p"))
    saved = await store.save(Addition(SPOT, DAY, other))
    assert (saved.cached, saved.duplicates) == (100, 9)
    assert_frame_equal(saved.conflicts, other.filter(pl.col("a") == 1095))
    assert_frame_equal(await store.read(SPOT, *EVER), day_frame(range(1000, 1150)))


async def test_holes_are_reported_until_they_are_filled(store: TradeStore) -> None:
    holed = day_frame([*range(1000, 1010), *range(1020, 1030), *range(1040, 1050)])
    assert (await store.save(Addition(SPOT, DAY, holed))).record.holes == (IdRange(1010, 1019), IdRange(1030, 1039))
    assert (await store.save(Addition(SPOT, DAY, day_frame(range(1010, 1020))))).record.holes == (IdRange(1030, 1039),)
    record = await store.load(SPOT, DAY)
    assert record is not None
    assert [span.ids for span in record.spans] == [IdRange(1000, 1029), IdRange(1040, 1049)]
    assert record.spans[0].first_ms == day_frame([1000])["T"][0]
    assert record.spans[0].last_ms == day_frame([1029])["T"][0]
    assert record.last_ms == day_frame([1049])["T"][0]


async def test_proof_is_kept_over_saves_and_renewed_without_rows(store: TradeStore) -> None:
    await store.save(Addition(SPOT, DAY, day_frame(range(1000, 1050)), starts_at(DAY, 1000)))
    await store.save(Addition(SPOT, DAY, day_frame(range(1050, 1100))))
    saved = await store.save(Addition(SPOT, DAY, day_starts=starts_at(DAY, 1100)))
    assert saved.record.sealed
    assert saved.cached == 100
    assert await store.load(SPOT, DAY) == saved.record
    assert (await store.save(Addition(SPOT, DAY, day_frame([1100])))).record.closed is False


async def test_reading_crosses_days_and_keeps_to_its_bounds(store: TradeStore) -> None:
    """From start on, up to but not including stop, by id."""
    edges = day_frame([1, 2, 3]).with_columns(T=pl.Series([START_MS, START_MS + 500, STOP_MS - 1]))
    after = day_frame([4, 5], NEXT).with_columns(T=pl.Series([STOP_MS, STOP_MS + 1]))
    await store.save(Addition(SPOT, NEXT, after))
    await store.save(Addition(SPOT, DAY, edges))
    both = pl.concat([edges, after])
    for start_ms, stop_ms, ids in [
        (START_MS, STOP_MS, [1, 2, 3]),
        (START_MS + 500, STOP_MS + 1, [2, 3, 4]),
        (START_MS + 501, STOP_MS, [3]),
        (STOP_MS, STOP_MS + 1, [4]),
        (STOP_MS + 1, STOP_MS + 2, [5]),
        (START_MS - 1, START_MS, []),
        (*EVER, [1, 2, 3, 4, 5]),
    ]:
        expected = both.filter(pl.col("a").is_in(ids))
        assert_frame_equal(await store.read(SPOT, start_ms, stop_ms), expected)
        context = await store.context(SPOT, start_ms, stop_ms, 0.1)
        assert context.trades == len(ids)
        assert context.volume == pytest.approx(expected["q"].sum())


async def test_the_context_is_that_of_the_rows(store: TradeStore) -> None:
    trades = day_frame(range(1000, 1200))
    await store.save(Addition(SPOT, DAY, trades))
    context, expected = await store.context(SPOT, START_MS, STOP_MS, 0.5), Figures.of(trades, 0.5)
    assert (context.trades, context.poc) == (200, expected.poc)
    assert (context.low, context.high) == (expected.low, expected.high)
    assert context.vwap == pytest.approx(expected.vwap)
    assert context.delta == pytest.approx(expected.delta)


async def test_instruments_and_days_do_not_mix(store: TradeStore) -> None:
    await store.save(Addition(SPOT, NEXT, day_frame([2000], NEXT)))
    await store.save(Addition(SPOT, DAY, day_frame([1000])))
    await store.save(Addition(ETH, DAY, day_frame([1000, 1001])))
    assert await store.days(SPOT) == [DAY, NEXT]
    assert await store.days(ETH) == [DAY]
    await store.delete(SPOT, DAY)
    await store.delete(SPOT, DAY)
    assert await store.days(SPOT) == [NEXT]
    assert await store.load(SPOT, DAY) is None
    assert (await store.read(ETH, *EVER)).height == 2


async def test_what_was_read_is_not_changed_by_later_saves(store: TradeStore) -> None:
    await store.save(Addition(SPOT, DAY, day_frame(range(1000, 1010))))
    read = await store.read(SPOT, *EVER)
    await store.save(Addition(SPOT, DAY, day_frame(range(1010, 1020))))
    assert_frame_equal(read, day_frame(range(1000, 1010)))


@given(drawn=st.lists(st.sets(st.integers(1000, 1030), min_size=1).map(sorted), min_size=1, max_size=4))
async def test_both_stores_come_to_the_same(tmp_path_factory: pytest.TempPathFactory, drawn: list[list[int]]) -> None:
    """Any pieces in any order: record, counts and rows agree, step by step."""
    disk = ParquetStore(tmp_path_factory.mktemp("store"), Encoding())
    memory = RamStore()
    for part in drawn:
        on_disk = await disk.save(Addition(SPOT, DAY, day_frame(part), starts_at(DAY, 1000)))
        in_memory = await memory.save(Addition(SPOT, DAY, day_frame(part), starts_at(DAY, 1000)))
        assert on_disk.record == in_memory.record
        assert (on_disk.cached, on_disk.duplicates) == (in_memory.cached, in_memory.duplicates)
    assert_frame_equal(await disk.read(SPOT, *EVER), await memory.read(SPOT, *EVER))


# -- of the disk alone


async def test_opening_sweeps_what_a_crash_left_and_says_so(tmp_path: Path) -> None:
    directory = instrument_directory(tmp_path, SPOT)
    directory.mkdir(parents=True)
    stale = directory / "backfill_2025-11-07.parquet.tmp-1-abababab"
    stale.write_text("half")
    with capture_logs() as logs:
        await ParquetStore(tmp_path, Encoding()).open()
    assert logs == [
        {"event": "cache_opened", "dir": str(tmp_path), "log_level": "info"},
        {"event": "temporary_file_swept", "file": str(stale), "log_level": "info"},
    ]
    assert list(directory.iterdir()) == []


async def test_saving_names_the_file_and_its_bytes(tmp_path: Path) -> None:
    saved = await ParquetStore(tmp_path, Encoding("gzip", 9)).save(Addition(SPOT, DAY, day_frame([1000])))
    path = tmp_path / "market=spot" / "symbol=BTCUSDT" / "backfill_2025-11-07.parquet"
    assert (saved.file, saved.bytes) == (str(path), path.stat().st_size)


async def test_a_store_that_cannot_be_used_raises_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ParquetStore(tmp_path / "file" / "cache", Encoding())
    with pytest.raises(StoreError, match="cannot use the cache directory"):
        await store.open()
    with pytest.raises(StoreError, match="cannot write"):
        await store.save(Addition(SPOT, DAY, day_frame([1000])))


async def test_a_day_that_was_damaged_is_none_and_can_be_saved_again(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, Encoding())
    file = (await store.save(Addition(SPOT, DAY, day_frame(range(1000, 1100))))).file
    assert file is not None
    Path(file).write_bytes(Path(file).read_bytes()[:-50])
    with capture_logs() as logs:
        assert await store.load(SPOT, DAY) is None
    assert [event["event"] for event in logs] == ["day_quarantined"]
    await store.save(Addition(SPOT, DAY, day_frame([1000])))
    assert_frame_equal(await store.read(SPOT, *EVER), day_frame([1000]))
