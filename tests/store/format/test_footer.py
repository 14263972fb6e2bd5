"""The certificate in the file: older and newer versions, what survives merging, and the digests."""

import hashlib
import json
import re
import struct
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld import BackfillCacheManager, StoreError
from backfilld.core.day.certificate import REST, Source, Sourced, Suspicion
from backfilld.core.model import IdRange
from backfilld.store.format import digest
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.digest import FILE_DIGEST_KEY, RowsDigest
from backfilld.store.format.footer import METADATA_KEY, SCHEMA_VERSION
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame

ARCHIVE = Source("archive", "ab" * 32)
OLDER = {"schema": SCHEMA_VERSION - 1, "market": "spot", "symbol": "BTCUSDT", "day": DAY.isoformat()}
ROWS = [*range(1000, 1004), *range(1005, 1010)]


def write_file(path: Path, trades: pl.DataFrame, certificate: dict[str, Any], **metadata: str) -> None:
    """A file as some other version of the program would have written it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = trades.to_arrow()
    with pq.ParquetWriter(path, table.schema, store_schema=False, write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA_KEY: json.dumps(certificate), **metadata})


# -- versions


def test_a_file_of_an_older_version_is_moved_aside(manager: BackfillCacheManager) -> None:
    path = manager.get_cache_path(DAY)
    write_file(path, day_frame(ROWS), OLDER)
    before = path.read_bytes()
    assert manager.load_cached_trades(DAY) is None
    (moved,) = path.parent.iterdir()
    assert moved.name.startswith(f"{path.name}.bad-")
    assert moved.read_bytes() == before


def test_a_newer_version_is_refused_by_name_and_left_where_it_is(manager: BackfillCacheManager) -> None:
    """Whoever goes back to an older program must not lose what the newer one knew."""
    path = manager.get_cache_path(DAY)
    write_file(path, day_frame(ROWS), OLDER | {"schema": 7, "sources": "of another shape"})
    before = path.read_bytes()
    sentence = f"{re.escape(str(path))} is of schema version 7, and this backfilld knows none above {SCHEMA_VERSION}"
    for attempt in (
        lambda: manager.load_cached_trades(DAY),
        lambda: manager.record(DAY),
        lambda: manager.facts(DAY),
        lambda: list(manager.row_groups(DAY)),
        lambda: manager.append(DAY, day_frame([1004])),
        lambda: manager.save_trades_to_cache(day_frame([1004]), DAY),
    ):
        with pytest.raises(StoreError, match=sentence):
            attempt()
        assert path.read_bytes() == before
        assert [each.name for each in path.parent.iterdir()] == [path.name]


# -- what survives merging


def test_rows_that_stood_keep_their_source(manager: BackfillCacheManager) -> None:
    """An archive day with a hole; REST fills it and brings the tail, of which one row was stored already."""
    manager.append(DAY, day_frame([*range(1000, 1010), *range(1012, 1020)]), starts_at(DAY, 1000), source=ARCHIVE)
    manager.append(DAY, day_frame([1010, 1011, *range(1019, 1025)]), source=REST)
    assert manager.facts(DAY).sources == (
        Sourced(ARCHIVE, IdRange(1000, 1009)),
        Sourced(REST, IdRange(1010, 1011)),
        Sourced(ARCHIVE, IdRange(1012, 1019)),
        Sourced(REST, IdRange(1020, 1024)),
    )


def test_absent_ids_are_not_holes_and_survive(manager: BackfillCacheManager) -> None:
    """1005 is absent upstream: the day is sealed without it. The neighbour is looked for beyond absent ids."""
    absent = [IdRange(1005, 1005), IdRange(1010, 1011)]
    manager.append(DAY, day_frame([*range(1000, 1005), *range(1006, 1010)]), starts_at(DAY, 1000, 1012), absent=absent)
    manager.append(DAY, day_frame([]))
    facts = manager.facts(DAY)
    assert (facts.holes, facts.absent, facts.sealed) == ((), tuple(absent), True)
    assert (facts.previous_last_id, facts.next_first_id) == (999, 1012)


def test_an_id_that_turns_up_is_absent_and_suspected_no_more(manager: BackfillCacheManager) -> None:
    suspected = [Suspicion(IdRange(1003, 1006), 77)]
    manager.append(DAY, day_frame([1000, 1001, 1009]), absent=[IdRange(1002, 1002)], suspected=suspected)
    manager.append(DAY, day_frame([1002, 1004]), suspected=[Suspicion(IdRange(1006, 1007), 99)])
    facts = manager.facts(DAY)
    assert facts.absent == ()
    assert facts.suspected == (
        Suspicion(IdRange(1003, 1003), 77), Suspicion(IdRange(1005, 1006), 77), Suspicion(IdRange(1007, 1007), 99)
    )  # fmt: skip


def test_conflicts_are_counted_by_id_however_often_they_are_met(manager: BackfillCacheManager) -> None:
    manager.append(DAY, day_frame(range(1000, 1010)))
    for _ in range(2):
        manager.append(DAY, day_frame([1003, 1004, 1008]).with_columns(q=pl.lit(5.0)))
    assert manager.facts(DAY).conflicting == (IdRange(1003, 1004), IdRange(1008, 1008))
    record = manager.record(DAY)
    assert record is not None
    assert record.conflicts == 3


def test_what_is_odd_in_the_rows_is_counted_across_row_groups(
    manager: BackfillCacheManager, small_row_groups: int
) -> None:
    """A marker at 1050, a quantity of zero at 1010, times that go back at 1040 (a border) and 1060, a gap of f at 1080
    (a border); after a hole and around a marker f follows nothing."""
    odd = {"p": (1050, 0.0), "f": (1050, -1), "l": (1050, -1)}
    trades = day_frame([*range(1000, 1100), *range(1200, 1210)]).with_columns(
        pl.when(pl.col("a") == at).then(value).otherwise(name).alias(name) for name, (at, value) in odd.items()
    )
    trades = trades.with_columns(
        q=pl.when(pl.col("a").is_in([1010, 1050])).then(0.0).otherwise("q"),
        T=pl.when(pl.col("a").is_in([1040, 1060])).then(pl.col("T") - 8).otherwise("T"),
        f=pl.when(pl.col("a") == 1080).then(pl.col("f") + 1).otherwise("f"),
    )
    manager.append(DAY, trades)
    assert manager.facts(DAY).findings == {"markers": 1, "zero_quantities": 1, "time_inversions": 2, "fl_breaks": 1}


# -- digests


def canonical(trades: pl.DataFrame, block_rows: int) -> bytes:
    """The documented form, spelled out value by value."""
    parts = []
    for block in trades.iter_slices(block_rows):
        parts += [
            struct.pack(f"<{block.height}{code}", *block[name])
            for name, code in zip("TapqflmM", "qqddqq??", strict=True)
        ]
    return b"".join(parts)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.lists(st.integers(0, 40)), st.integers(1, 9))
def test_the_digest_is_that_of_the_canonical_form_however_the_rows_are_cut(
    rows: int, cuts: Iterable[int], block_rows: int
) -> None:
    trades = day_frame(range(1000, 1000 + rows))
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest, "BLOCK_ROWS", block_rows)
        found = RowsDigest()
        for start, stop in pairwise(edges):
            found.add(trades[start:stop])
        assert found.hexdigest() == hashlib.sha256(canonical(trades, block_rows)).hexdigest()


def test_a_sealed_day_has_the_digest_of_its_rows_and_an_open_one_none(
    manager: BackfillCacheManager, small_row_groups: int
) -> None:
    trades = day_frame(range(1000, 1500))
    manager.append(DAY, trades[:300], starts_at(DAY, 1000))
    assert manager.facts(DAY).digest is None
    manager.append(DAY, trades[300:], starts_at(DAY, 1500))
    assert manager.facts(DAY).digest == hashlib.sha256(canonical(trades, 131_072)).hexdigest()


def test_the_file_knows_every_byte_of_itself(manager: BackfillCacheManager) -> None:
    """The digest in the footer is that of the file with the digest's digits as zeros, as anybody can compute it."""
    manager.append(DAY, day_frame(range(1000, 1100)), starts_at(DAY, 1000, 1100))
    path = manager.get_cache_path(DAY)
    content = path.read_bytes()
    named = (pq.ParquetFile(path).metadata.metadata or {})[FILE_DIGEST_KEY.encode()]
    assert content.count(named) == 1
    assert hashlib.sha256(content.replace(named, b"0" * 64)).hexdigest().encode() == named
    with DayReader(path, DAY, SPOT) as reader:
        assert reader.is_as_written()
    path.write_bytes(content.replace(b"parquet-cpp", b"parquet-cpq"))
    with DayReader(path, DAY, SPOT) as reader:
        assert not reader.is_as_written()
