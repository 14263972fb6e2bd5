"""Other programs on the same files: they see markets and symbols as columns, and never half a file."""

from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from backfilld import BackfillCacheManager, Instrument
from backfilld.core.frame import SCHEMA
from backfilld.store.layout import instrument_directory
from backfilld.store.lock import locked
from tests.store.frames import DAY, day_frame

HELD = [("spot:BTCUSDT", 0, 30), ("spot:BTCUSDT", 1, 20), ("spot:ETHUSDT", 0, 10), ("cm:BTCUSD_PERP", 0, 5)]
BY_INSTRUMENT = [("cm", "BTCUSD_PERP", 5), ("spot", "BTCUSDT", 50), ("spot", "ETHUSDT", 10)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A cache of three instruments and two days, with the lock's directory in it."""
    with locked(tmp_path):
        for name, later_days, rows in HELD:
            day = DAY + timedelta(days=later_days)
            manager = BackfillCacheManager(instrument_directory(tmp_path, Instrument.parse(name)))
            manager.append(day, day_frame(range(1000 + later_days * 1000, 1000 + later_days * 1000 + rows), day))
    return tmp_path


def test_duckdb_reads_the_hive_tree_with_market_and_symbol(tree: Path) -> None:
    query = "SELECT market, symbol, count(*) FROM read_parquet(?, hive_partitioning = true) GROUP BY ALL ORDER BY ALL"
    with duckdb.connect() as connection:
        assert connection.execute(query, [f"{tree}/**/*.parquet"]).fetchall() == BY_INSTRUMENT


def test_polars_reads_the_hive_tree_with_market_and_symbol(tree: Path) -> None:
    """And skips every file of an instrument that is not asked for."""
    scan = pl.scan_parquet(tree / "**/*.parquet", hive_partitioning=True)
    assert list(scan.collect_schema()) == [*SCHEMA, "market", "symbol"]
    assert scan.group_by("market", "symbol").len().sort("market", "symbol").collect().rows() == BY_INSTRUMENT
    one = scan.filter((pl.col("market") == "spot") & (pl.col("symbol") == "ETHUSDT")).select(list(SCHEMA)).collect()
    assert_frame_equal(one, day_frame(range(1000, 1010)))


def test_polars_reads_a_single_file_by_itself(tree: Path) -> None:
    path = tree / "market=spot" / "symbol=BTCUSDT" / "backfill_2025-11-07.parquet"
    assert_frame_equal(pl.read_parquet(path, hive_partitioning=False), day_frame(range(1000, 1030)))


def test_a_reader_keeps_the_old_file_while_it_is_replaced(manager: BackfillCacheManager) -> None:
    """One that began before the replacement ends on the old rows, one that begins after sees the new ones."""
    manager.append(DAY, day_frame(range(1000, 1100)))
    with manager.get_cache_path(DAY).open("rb") as handle:
        reader = pq.ParquetFile(handle)
        manager.append(DAY, day_frame(range(1100, 1200)))
        assert pl.DataFrame(reader.read()).equals(day_frame(range(1000, 1100)))
    assert pl.read_parquet(manager.get_cache_path(DAY), hive_partitioning=False).height == 200


def test_iterating_over_a_day_survives_its_replacement(manager: BackfillCacheManager, small_row_groups: int) -> None:
    manager.append(DAY, day_frame(range(1000, 1100)))
    groups = manager.row_groups(DAY)
    first = next(groups)
    manager.append(DAY, day_frame(range(1100, 1200)))
    assert pl.concat([first, *groups]).equals(day_frame(range(1000, 1100)))
