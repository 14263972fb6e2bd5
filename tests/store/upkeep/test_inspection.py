"""Verification: whole files pass, and no damage passes."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld import BackfillCacheManager
from backfilld.core.day.certificate import Source
from backfilld.core.day.division import astray
from backfilld.core.frame import SCHEMA
from backfilld.core.model import MS_PER_DAY, IdRange, day_start_ms
from backfilld.store.format import dayfile
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.digest import BLANK, FILE_DIGEST_KEY, stamp_file
from backfilld.store.format.footer import METADATA_KEY
from backfilld.store.upkeep.inspection import Inspected, chain_findings, inspect_day
from tests.effort import effort
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame

NEXT = DAY + timedelta(days=1)
HELD = [*range(1000, 1047), *range(1048, 1110)]


def inspected(path: Path, day: date = DAY) -> Inspected:
    found = inspect_day(path, day, SPOT)
    assert found is not None
    return found


def kinds(path: Path, day: date = DAY) -> set[str]:
    return {finding.kind for finding in inspected(path, day).findings}


def rewrite(path: Path, trades: pl.DataFrame, certificate: dict[str, Any], *, stamped: bool = True) -> None:
    """A forger's file: other rows or another certificate, and a footer that fits."""
    table = trades.to_arrow()
    with pq.ParquetWriter(path, table.schema, store_schema=False, write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA_KEY: json.dumps(certificate), FILE_DIGEST_KEY: BLANK})
    if stamped:
        stamp_file(path)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A sealed day of three row groups, without 1047, which is absent upstream."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dayfile, "ROW_GROUP_ROWS", 40)
        manager = BackfillCacheManager(tmp_path_factory.mktemp("sealed"), SPOT, Encoding("none"))
        source = Source("archive", "ab" * 32)
        manager.append(DAY, day_frame(HELD), starts_at(DAY, 1000, 1110), source=source, absent=[IdRange(1047, 1047)])
    path = manager.get_cache_path(DAY)
    return path, path.read_bytes()


def certificate_of(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((pq.ParquetFile(path).metadata.metadata or {})[METADATA_KEY.encode()])
    return facts


# -- whole files


def test_a_sealed_day_has_no_finding(sealed: tuple[Path, bytes]) -> None:
    path, content = sealed
    path.write_bytes(content)
    found = inspected(path)
    assert (found.findings, found.rows, found.bytes) == ((), len(HELD), len(content))


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(1000, 1040), min_size=1), st.booleans(), st.booleans(), st.data())
def test_whatever_the_cache_writes_is_found_true(
    tmp_path_factory: pytest.TempPathFactory, stored: set[int], opened: bool, closed: bool, data: st.DataObject
) -> None:
    """Any ids in any two pieces, with absent ids and conflicts: nothing is found but the holes themselves."""
    manager = BackfillCacheManager(tmp_path_factory.mktemp("any"), SPOT)
    first = data.draw(st.sets(st.sampled_from(sorted(stored)), min_size=1))
    missing = sorted(set(range(min(stored), max(stored))) - stored)
    absent = data.draw(st.sets(st.sampled_from(missing))) if missing else set()
    starts = starts_at(DAY, *([min(stored)] if opened else []), *([max(stored) + 1] if closed else []))
    manager.append(DAY, day_frame(sorted(first)), starts, absent=[IdRange(each, each) for each in sorted(absent)])
    manager.append(DAY, day_frame(sorted(stored)).with_columns(q=pl.lit(5.0)), starts, source=Source("adopted"))
    found = inspected(manager.get_cache_path(DAY)).findings
    assert {finding.kind for finding in found} <= {"hole"}
    named = {trade_id for finding in found if finding.ids for trade_id in range(*_half_open(finding.ids))}
    assert named == set(missing) - absent


def _half_open(ids: IdRange) -> tuple[int, int]:
    return ids.first_id, ids.last_id + 1


def test_markers_of_another_time_are_not_findings(manager: BackfillCacheManager) -> None:
    marker = {"T": 0, "p": 0.0, "q": 0.0, "f": -1, "l": -1}
    trades = day_frame(range(1000, 1010)).with_columns(
        pl.when(pl.col("a") == 1005).then(value).otherwise(name).cast(SCHEMA[name]).alias(name)
        for name, value in marker.items()
    )
    manager.append(DAY, trades, starts_at(DAY, 1000, 1010))
    assert kinds(manager.get_cache_path(DAY)) == set()


def test_a_row_whose_time_lies_over_the_midnight_belongs_where_its_neighbours_are(
    manager: BackfillCacheManager,
) -> None:
    start_ms = day_start_ms(DAY)
    first, last = pl.col("a") == 1001, pl.col("a") == 1008
    time = pl.when(first).then(start_ms - 1).when(last).then(start_ms + MS_PER_DAY + 1).otherwise("T")
    manager.append(DAY, day_frame(range(1000, 1010)).with_columns(T=time), starts_at(DAY, 1000, 1010))
    assert kinds(manager.get_cache_path(DAY)) == set()


def test_rows_of_another_day_are_found_at_either_end(manager: BackfillCacheManager) -> None:
    hour_before = pl.when(pl.col("a") < 1003).then(pl.col("T") - MS_PER_DAY // 2).otherwise("T")
    trades = day_frame(range(1000, 1010)).with_columns(T=hour_before)
    assert astray(trades, DAY).to_list() == [True] * 3 + [False] * 7
    manager.append(DAY, trades, starts_at(DAY, 1000, 1010))
    assert kinds(manager.get_cache_path(DAY)) == {"time"}


def test_a_file_that_is_gone_is_not_a_finding(tmp_path: Path) -> None:
    """Retention may delete a file between the listing and the look."""
    assert inspect_day(tmp_path / "backfill_2025-11-07.parquet", DAY, SPOT) is None


# -- damage


def test_a_link_to_itself_is_a_finding_and_a_file_for_a_directory_is_none(tmp_path: Path) -> None:
    """Whatever stands at the path of a day file, verify goes on with the others."""
    loop = tmp_path / "loop.parquet"
    loop.symlink_to(loop)
    assert kinds(loop) == {"unreadable"}
    (tmp_path / "file").touch()
    assert inspect_day(tmp_path / "file" / "day.parquet", DAY, SPOT) is None


@pytest.mark.parametrize("flipped", [0x01, 0x80])
def test_a_flipped_bit_is_found_wherever_it_is(sealed: tuple[Path, bytes], flipped: int) -> None:
    """Bytes of rows, page headers and footer alike; the magic and the footer's length as well."""
    path, content = sealed
    step = effort(quick=19, thorough=1)
    for position in {*range(flipped % step, len(content), step), *range(4), *range(len(content) - 8, len(content))}:
        damaged = bytearray(content)
        damaged[position] ^= flipped
        path.write_bytes(damaged)
        assert kinds(path), position


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_damage_is_found_wherever_it_is(sealed: tuple[Path, bytes], data: st.DataObject) -> None:
    """Bits flipped, a cut, a stretch replaced, removed or put in."""
    path, content = sealed
    start = data.draw(st.integers(0, len(content) - 1))
    noise = data.draw(st.binary(max_size=32))
    stop = data.draw(st.sampled_from([start, start + 1, start + len(noise), len(content)]))
    damaged = content[:start] + noise + content[stop:]
    path.write_bytes(damaged)
    assert bool(kinds(path)) == (damaged != content)


def _other_value(trades: pl.DataFrame, row: int, column: str) -> pl.DataFrame:
    value = trades[column][row]
    other = (not value) if isinstance(value, bool) else value + 1
    return trades.with_columns(pl.when(pl.int_range(pl.len()) == row).then(other).otherwise(column).alias(column))


def _swapped(trades: pl.DataFrame, row: int) -> pl.DataFrame:
    order = list(range(trades.height))
    order[row], order[row - 1] = order[row - 1], order[row]
    return trades[order]


TAMPER: dict[str, Callable[[pl.DataFrame, int], pl.DataFrame]] = {
    "removed": lambda trades, row: pl.concat([trades[:row], trades[row + 1 :]]),
    "doubled": lambda trades, row: pl.concat([trades[: row + 1], trades[row:]]),
    "swapped": _swapped,
    "emptied": lambda trades, _: trades[:0],
    "another value": lambda trades, row: _other_value(trades, row, list(SCHEMA)[row % len(SCHEMA)]),
    "no number": lambda trades, row: trades.with_columns(
        p=pl.when(pl.int_range(pl.len()) == row).then(float("nan")).otherwise("p")
    ),
    "null": lambda trades, row: trades.with_columns(
        l=pl.when(pl.int_range(pl.len()) == row).then(None).otherwise("l")
    ),
}  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(TAMPER)), st.integers(1, len(HELD) - 1))
def test_other_rows_under_a_footer_that_fits_are_found(sealed: tuple[Path, bytes], how: str, row: int) -> None:
    """The certificate stays, the file's own digest is made to fit: order, ids or the digest of the rows tell."""
    path, content = sealed
    path.write_bytes(content)
    certificate = certificate_of(path)
    rewrite(path, TAMPER[how](day_frame(HELD), row), certificate)
    found = kinds(path)
    assert found - {"altered"}, how
    assert "altered" not in found


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_an_edited_certificate_is_found(sealed: tuple[Path, bytes], data: st.DataObject) -> None:
    """Whatever field, if the file's digest is left; and what the rows prove, even if that is made to fit."""
    path, content = sealed
    path.write_bytes(content)
    certificate = certificate_of(path)
    name = data.draw(st.sampled_from(sorted(certificate)))
    edits: list[Any] = [None, 7, True, False, "x", [], [[1003, 1003]], {}, {"markers": 9}]
    edited = data.draw(st.sampled_from([edit for edit in edits if edit != certificate[name]]))
    stamped = data.draw(st.booleans())
    rewrite(path, day_frame(HELD), certificate | {name: edited}, stamped=stamped)
    assert kinds(path), (name, edited)


def test_the_findings_name_what_is_wrong(manager: BackfillCacheManager) -> None:
    manager.append(DAY, day_frame(range(1000, 1020)), starts_at(DAY, 1000, 1020))
    path = manager.get_cache_path(DAY)
    certificate = certificate_of(path)
    rewrite(path, day_frame([*range(1000, 1005), *range(1008, 1020)]), certificate)
    found = {finding.kind: finding for finding in inspected(path).findings}
    assert found["hole"].sentence == "ids 1005 to 1007 are missing"
    assert found["hole"].ids == IdRange(1005, 1007)
    assert "the certificate says rows = 20; the rows say 17" in {f.sentence for f in inspected(path).findings}
    rewrite(path, day_frame([1000, 1002, 1001]), certificate)
    assert [finding.sentence for finding in inspected(path).findings] == ["id 1001 descends"]
    rewrite(path, day_frame(range(1000, 1020)), certificate | {"schema": 9})
    assert kinds(path) == {"newer"}


# -- between days


def chain(manager: BackfillCacheManager) -> list[tuple[str, str]]:
    days = [inspected(manager.get_cache_path(day), day) for day in manager.days()]
    assert not [finding for day in days for finding in day.findings]
    return [(finding.day.isoformat(), finding.kind) for finding in chain_findings(reversed(days))]


def test_days_that_join_have_no_finding(manager: BackfillCacheManager) -> None:
    manager.append(DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1000, 1010))
    manager.append(NEXT, day_frame(range(1010, 1020), NEXT), starts_at(NEXT, 1010))
    assert chain(manager) == []


@pytest.mark.parametrize("first_id", [1005, 1009, 1011])
def test_a_day_that_does_not_join_the_one_before_is_found(manager: BackfillCacheManager, first_id: int) -> None:
    manager.append(DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1000, 1010))
    manager.append(NEXT, day_frame(range(first_id, 1020), NEXT), starts_at(NEXT, first_id))
    assert chain(manager) == [("2025-11-08", "chain")]


def test_a_day_that_is_over_and_not_sealed_is_found(manager: BackfillCacheManager) -> None:
    """The newest day may go on; the ones before it may not."""
    manager.append(DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1000))
    manager.append(NEXT, day_frame(range(1015, 1020), NEXT))
    assert chain(manager) == [("2025-11-07", "incomplete")]


def test_absent_ids_between_two_days_are_not_a_break(manager: BackfillCacheManager) -> None:
    manager.append(DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1000, 1012), absent=[IdRange(1010, 1011)])
    manager.append(NEXT, day_frame(range(1012, 1020), NEXT), starts_at(NEXT, 1012))
    assert chain(manager) == []


def test_an_archive_day_that_only_proves_its_neighbour_may_be_open_on_its_other_side(
    manager: BackfillCacheManager,
) -> None:
    """Not so where the day on that side is stored, nor for rows of REST, which could have been asked."""
    archive = Source("archive", "0" * 64)
    manager.append(DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1010), source=archive)
    manager.append(NEXT, day_frame(range(1010, 1020), NEXT), starts_at(NEXT, 1010, 1020))
    assert chain(manager) == []
    manager.append(
        DAY - timedelta(days=1),
        day_frame(range(980, 990), DAY - timedelta(days=1)),
        starts_at(DAY - timedelta(days=1), 980, 990),
    )
    assert chain(manager) == [("2025-11-07", "incomplete")]


@pytest.mark.parametrize("far", [2, 3])
def test_an_archive_day_after_a_span_may_be_open_at_its_end(manager: BackfillCacheManager, far: int) -> None:
    archive = Source("archive", "0" * 64)
    manager.append(DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1000), source=archive)
    later = DAY + timedelta(days=far)
    manager.append(later, day_frame(range(2000, 2010), later), starts_at(later, 2000, 2010))
    assert chain(manager) == []
    manager.append(NEXT, day_frame(range(1015, 1020), NEXT), starts_at(NEXT, 1015, 1020))
    assert ("2025-11-07", "incomplete") in chain(manager)


SPOILT: dict[str, tuple[str, pl.Expr, str]] = {
    "a price that is not a number": (
        "value",
        pl.lit(float("nan")).alias("p"),
        "a price or quantity that is not a number",
    ),
    "an infinite quantity": ("value", pl.lit(float("inf")).alias("q"), "a price or quantity that is not a number"),
    "a negative quantity": ("value", pl.lit(-0.5).alias("q"), "a price or quantity that is not a number"),
    "two days later": ("time", pl.lit(1_762_646_400_000).alias("T"), "T of another day"),
    "long before": ("time", pl.lit(1_762_387_199_999).alias("T"), "T of another day"),
}


@pytest.mark.parametrize(("kind", "spoilt", "said"), SPOILT.values(), ids=SPOILT)
def test_values_that_no_trade_of_the_day_has_are_found_without_a_digest(
    manager: BackfillCacheManager, kind: str, spoilt: pl.Expr, said: str
) -> None:
    """In a day that goes on nothing else would tell; the last row of all, so that times do not go back."""
    trades = day_frame(range(1000, 1020))
    manager.append(DAY, pl.concat([trades[:-1], trades[-1:].with_columns(spoilt)]))
    (finding,) = inspected(manager.get_cache_path(DAY)).findings
    assert (finding.kind, finding.sentence) == (kind, f"1 rows have {said}, such as id 1019")
