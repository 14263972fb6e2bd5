"""The file format: round trips, laws over any order of pieces, and metadata that tells the truth."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.day.certificate import REST, Provenance
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.ids import IdSet
from backfilld.core.model import MAX_ID, IdRange
from backfilld.store.format import dayfile
from backfilld.store.format.dayfile import DayWriter, Encoding
from backfilld.store.format.footer import METADATA_KEY, SCHEMA_VERSION
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame

NUMERIC = ["T", "a", "f", "l"]


@contextmanager
def fresh_manager(row_group_rows: int = 7) -> Iterator[BackfillCacheManager]:
    """An empty cache with tiny row groups, for an example of a law."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dayfile, "ROW_GROUP_ROWS", row_group_rows)
        yield BackfillCacheManager(instrument_directory(Path(directory), SPOT))


def loaded(manager: BackfillCacheManager) -> pl.DataFrame:
    trades = manager.load_cached_trades(DAY)
    assert trades is not None
    return trades


ids = st.sets(st.integers(1000, 1060), min_size=1).map(sorted)


@st.composite
def pieces(draw: st.DrawFn) -> list[list[int]]:
    """Some ids, dealt to up to five pieces, some of them to two, in any order."""
    stored = draw(ids)
    dealt = [draw(st.sets(st.integers(0, 4), min_size=1, max_size=2)) for _ in stored]
    parts = [[trade_id for trade_id, to in zip(stored, dealt, strict=True) if part in to] for part in range(5)]
    return draw(st.permutations([part for part in parts if part]))


# -- round trips


@pytest.mark.parametrize(
    ("compression", "level"),
    [("zstd", None), ("zstd", 1), ("zstd", 19), ("snappy", None), ("lz4", None), ("gzip", 9), ("none", None)],
)
@pytest.mark.parametrize("rows", [1, 39, 40, 41, 333])
def test_every_compression_gives_the_rows_back(
    tmp_path: Path, small_row_groups: int, compression: Any, level: int | None, rows: int
) -> None:
    manager = BackfillCacheManager(tmp_path, SPOT, Encoding(compression, level))
    trades = day_frame(range(1000, 1000 + rows))
    manager.append(DAY, trades)
    assert_frame_equal(loaded(manager), trades)
    expected = {"none": "UNCOMPRESSED"}.get(compression, compression.upper())
    column = pq.ParquetFile(manager.get_cache_path(DAY)).metadata.row_group(0).column(1)
    assert column.compression == expected


def test_extreme_values_survive(manager: BackfillCacheManager) -> None:
    """Ids up to the highest, the smallest and the largest prices, floats that no decimal hits."""
    trades = day_frame([1000, 1001, 1002]).with_columns(
        a=pl.Series([0, 1, MAX_ID]),
        T=pl.Series([1_762_473_600_000, 1_762_473_600_000, 1_762_559_999_999]),
        p=pl.Series([5e-324, 0.1 + 0.2, 1.7976931348623157e308]),
        f=pl.Series([-1, 0, 2**63 - 1]),
        l=pl.Series([-1, 2**63 - 1, 2**63 - 1]),
    )
    manager.append(DAY, trades)
    assert_frame_equal(loaded(manager), trades, check_exact=True)


def test_ids_and_times_are_delta_coded_and_prices_in_dictionaries(manager: BackfillCacheManager) -> None:
    """The encoding that makes a day a fifth of the default's bytes is really in the file."""
    manager.append(DAY, day_frame(range(1000, 2000)))
    group = pq.ParquetFile(manager.get_cache_path(DAY)).metadata.row_group(0)
    encodings = {group.column(n).path_in_schema: set(group.column(n).encodings) for n in range(group.num_columns)}
    assert all("DELTA_BINARY_PACKED" in encodings[name] for name in NUMERIC)
    assert all("RLE_DICTIONARY" in encodings[name] for name in ("p", "q"))


# -- laws


@settings(max_examples=60, deadline=None)
@given(pieces())
def test_any_pieces_in_any_order_give_the_same_rows_and_the_same_proof(parts: list[list[int]]) -> None:
    every = sorted({trade_id for part in parts for trade_id in part})
    with fresh_manager() as piecewise, fresh_manager() as at_once:
        appended = [piecewise.append(DAY, day_frame(part)) for part in parts]
        at_once.append(DAY, day_frame(every))
        assert_frame_equal(loaded(piecewise), day_frame(every))
        assert piecewise.facts(DAY) == at_once.facts(DAY)
        assert appended[-1].record == piecewise.record(DAY) == at_once.record(DAY)
        assert sum(each.duplicates for each in appended) == sum(map(len, parts)) - len(every)
        assert not any(each.conflicts.height for each in appended)


@settings(max_examples=60, deadline=None)
@given(ids, st.integers(1, 20))
def test_the_metadata_is_true_of_the_rows(stored: list[int], row_group_rows: int) -> None:
    """First, last, rows and holes are those of the ids; sources are the ids that are stored."""
    with fresh_manager(row_group_rows) as manager:
        manager.append(DAY, day_frame(stored))
        facts = manager.facts(DAY)
        holes = {trade_id for each in facts.holes for trade_id in range(each.first_id, each.last_id + 1)}
        assert holes == set(range(stored[0], stored[-1])) - set(stored)
        assert (facts.first_id, facts.last_id, facts.rows) == (stored[0], stored[-1], len(stored))
        assert (facts.market, facts.symbol, facts.day) == ("spot", "BTCUSDT", DAY)
        sources = IdSet.of(each.ids for each in facts.sources)
        assert sources == IdSet.of_ids(day_frame(stored)["a"])
        assert {each.source for each in facts.sources} == {REST}
        groups = pq.ParquetFile(manager.get_cache_path(DAY)).metadata
        sizes = [groups.row_group(n).num_rows for n in range(groups.num_row_groups)]
        assert all(size == row_group_rows for size in sizes[:-1])
        assert 0 < sizes[-1] <= row_group_rows


@settings(max_examples=30, deadline=None)
@given(ids)
def test_appending_twice_changes_nothing(stored: list[int]) -> None:
    """Append is idempotent: the same rows again are all duplicates, the file's content stays."""
    with fresh_manager() as manager:
        first = manager.append(DAY, day_frame(stored))
        before = manager.facts(DAY)
        again = manager.append(DAY, day_frame(stored))
        assert (again.cached, again.duplicates, again.record) == (len(stored), len(stored), first.record)
        assert manager.facts(DAY) == before
        assert_frame_equal(loaded(manager), day_frame(stored))


@settings(max_examples=30, deadline=None)
@given(ids, st.data())
def test_a_conflict_keeps_the_stored_row_and_returns_the_other(stored: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.sampled_from(stored), min_size=1))
    other = day_frame(sorted({*stored, 1061})).with_columns(
        q=pl.when(pl.col("a").is_in(chosen)).then(5.0).otherwise("q")
    )
    with fresh_manager() as manager:
        manager.append(DAY, day_frame(stored))
        appended = manager.append(DAY, other)
        assert_frame_equal(appended.conflicts, other.filter(pl.col("a").is_in(chosen)))
        assert appended.duplicates == len(stored) - len(chosen)
        assert_frame_equal(loaded(manager), day_frame([*stored, 1061]))


@pytest.mark.parametrize(
    "piece",
    [range(900, 1000), range(1050, 1060), range(1075, 1085), range(995, 1005), range(1500, 1600), [999, 1041, 1600]],
    ids=["before", "inside a group", "over two groups", "over the start", "after", "all over"],
)
def test_a_piece_anywhere_in_a_day_of_many_row_groups(
    manager: BackfillCacheManager, small_row_groups: int, piece: Any
) -> None:
    """Groups are merged only where the piece reaches, and regrouped: none is larger than the bound."""
    stored = [trade_id for trade_id in range(1000, 1500) if not 1050 <= trade_id < 1090]
    manager.append(DAY, day_frame(stored))
    appended = manager.append(DAY, day_frame(piece))
    every = sorted({*stored, *piece})
    assert_frame_equal(loaded(manager), day_frame(every))
    assert (appended.cached, appended.duplicates) == (len(stored), len(stored) + len(piece) - len(every))
    file = pq.ParquetFile(manager.get_cache_path(DAY))
    sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert max(sizes) == small_row_groups
    assert sum(sizes) == len(every)
    assert [group.height for group in manager.row_groups(DAY)] == sizes


# -- proof


def test_a_day_is_opened_closed_and_sealed_by_day_starts_and_stays_so(manager: BackfillCacheManager) -> None:
    """1000 begins this day and 1100 the next; what was proven once is kept over rewrites that name nothing."""
    manager.append(DAY, day_frame(range(1000, 1050)), starts_at(DAY, 1000))
    assert (manager.facts(DAY).opened, manager.facts(DAY).closed) == (True, False)
    manager.append(DAY, day_frame(range(1060, 1100)), starts_at(DAY, 1100))
    assert (manager.facts(DAY).opened, manager.facts(DAY).closed, manager.facts(DAY).sealed) == (True, True, False)
    manager.append(DAY, day_frame(range(1050, 1060)))
    assert manager.facts(DAY).sealed
    record = manager.record(DAY)
    assert record is not None
    assert record.sealed
    assert record.proven_starts() == {DayStart(DAY, 1000), DayStart(DAY + ONE_DAY, 1100)}


def test_a_start_that_is_not_an_end_of_the_day_proves_nothing(manager: BackfillCacheManager) -> None:
    record = manager.append(DAY, day_frame(range(1000, 1050)), starts_at(DAY, 1001, 1049, 999)).record
    assert (record.opened, record.closed, record.sealed) == (False, False, False)


def test_an_end_that_grows_is_proven_no_more(manager: BackfillCacheManager) -> None:
    """Rows before the proven first id, and after the proven last: a contradiction takes the proof away."""
    manager.append(DAY, day_frame(range(1000, 1050)), starts_at(DAY, 1000, 1050))
    assert manager.append(DAY, day_frame([1050])).record.closed is False
    assert manager.append(DAY, day_frame([999])).record.opened is False


def test_without_trades_only_the_proof_is_renewed(manager: BackfillCacheManager) -> None:
    trades = day_frame(range(1000, 1050))
    manager.append(DAY, trades)
    appended = manager.append(DAY, trades.clear(), starts_at(DAY, 1000, 1050))
    assert appended.record.sealed
    assert (appended.cached, appended.duplicates) == (50, 0)
    assert manager.facts(DAY).sealed
    assert_frame_equal(loaded(manager), trades)


def test_what_append_returns_is_what_a_fresh_look_finds(manager: BackfillCacheManager) -> None:
    appended = manager.append(DAY, day_frame([*range(1000, 1010), *range(1020, 1030)]), starts_at(DAY, 1000))
    assert appended.record == manager.record(DAY)
    assert appended.bytes == manager.get_cache_path(DAY).stat().st_size
    assert appended.record.holes == (IdRange(1010, 1019),)


def test_the_metadata_stands_in_the_file_as_json_for_other_readers(manager: BackfillCacheManager) -> None:
    trades = day_frame([1000, 1002])
    manager.append(DAY, trades, starts_at(DAY, 1000))
    first_ms, last_ms = trades["T"]
    metadata = pq.ParquetFile(manager.get_cache_path(DAY)).metadata.metadata or {}
    assert msgspec.json.decode(metadata[METADATA_KEY.encode()]) == {
        "schema": SCHEMA_VERSION,
        "market": "spot",
        "symbol": "BTCUSDT",
        "day": "2025-11-07",
        "spans": [
            {"ids": [1000, 1000], "first_ms": first_ms, "last_ms": first_ms},
            {"ids": [1002, 1002], "first_ms": last_ms, "last_ms": last_ms},
        ],
        "first_id": 1000,
        "last_id": 1002,
        "rows": 2,
        "holes": [[1001, 1001]],
        "opened": True,
        "closed": False,
        "sealed": False,
        "previous_last_id": 999,
        "next_first_id": None,
        "sources": [
            {"source": {"name": "rest", "sha256": None}, "ids": [1000, 1000]},
            {"source": {"name": "rest", "sha256": None}, "ids": [1002, 1002]},
        ],
        "absent": [],
        "suspected": [],
        "conflicts": 0,
        "conflicting": [],
        "findings": {},
        "digest": None,
    }


def test_days_are_files_of_their_own(manager: BackfillCacheManager) -> None:
    later = DAY + timedelta(days=1)
    manager.append(DAY, day_frame([1000]))
    manager.append(later, day_frame([1001], later))
    assert manager.days() == [DAY, later]
    assert_frame_equal(loaded(manager), day_frame([1000]))
    manager.delete(DAY)
    manager.delete(DAY)
    assert manager.days() == [later]
    assert list(manager.row_groups(DAY)) == []


def test_a_thread_that_encodes_ahead_writes_the_same_file(tmp_path: Path, small_row_groups: int) -> None:
    known = Provenance(starts_at(DAY, 1000, 1300))
    for name, ahead in (("plain", False), ("ahead", True)):
        with DayWriter(tmp_path / name, DAY, SPOT, ahead=ahead) as writer:
            for first in range(1000, 1300, 7):
                writer.add(day_frame(range(first, min(first + 7, 1300))))
            assert writer.finish(known).sealed
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "ahead").read_bytes()


def test_what_the_disk_refuses_to_the_thread_is_raised(small_row_groups: int) -> None:
    late = DayWriter(pa.BufferOutputStream(), DAY, SPOT, ahead=True)
    late._file.close()
    late.add(day_frame(range(1000, 1040)))
    with pytest.raises((OSError, ValueError, AssertionError)), late:
        late.finish(Provenance())
