"""A file that cannot be trusted is moved aside whole, reported, and never overwritten; anything else is left alone."""

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from structlog.testing import capture_logs

from backfilld import BackfillCacheManager, Instrument, StoreError
from backfilld.core.frame import empty_trades
from backfilld.store import atomic
from backfilld.store.atomic import move_aside
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.digest import BLANK, FILE_DIGEST_KEY, stamp_file
from backfilld.store.format.footer import METADATA_KEY, SCHEMA_VERSION, UntrustedFile
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame

TRADES = day_frame(range(1000, 1300))
Spoil = Callable[[Path], None]


def _cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_its_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _zero_filled(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _zero_filled_in_the_middle(path: Path) -> None:
    """As a crash of a file system leaves it: the size is right, a block was never written."""
    content = bytearray(path.read_bytes())
    content[200:500] = bytes(300)
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("T,a,p,q,f,l,m,M\n")


def _of_another_symbol(path: Path) -> None:
    other = BackfillCacheManager(path.parent.parent / "symbol=ETHUSDT")
    other.append(DAY, TRADES)
    path.write_bytes(other.get_cache_path(DAY).read_bytes())


def _of_another_market(path: Path) -> None:
    other = BackfillCacheManager(path.parent / "other", Instrument.parse("um:BTCUSDT"))
    other.append(DAY, TRADES)
    other.get_cache_path(DAY).rename(path)


def _of_another_day(path: Path) -> None:
    other = BackfillCacheManager(path.parent)
    other.append(DAY + timedelta(days=1), TRADES)
    other.get_cache_path(DAY + timedelta(days=1)).rename(path)


def _plain_polars(path: Path) -> None:
    TRADES.write_parquet(path)


def _foreign_schema(path: Path) -> None:
    _rewrite(path, TRADES.rename({"q": "quantity"}).to_arrow(), _facts(path))


def _other_types(path: Path) -> None:
    _rewrite(path, TRADES.with_columns(pl.col("T").cast(pl.Datetime("ms"))).to_arrow(), _facts(path))


def _more_columns(path: Path) -> None:
    _rewrite(path, TRADES.with_columns(nq=pl.lit(1.0)).to_arrow(), _facts(path))


def _older_version(path: Path) -> None:
    _rewrite(path, TRADES.to_arrow(), _facts(path) | {"schema": 2})


def _contradicting_certificate(path: Path) -> None:
    _rewrite(path, TRADES.to_arrow(), _facts(path) | {"sealed": True})


def _certificate_out_of_bounds(path: Path) -> None:
    spans = [{"ids": [0, 2**60], "first_ms": 1762473600000, "last_ms": 1762473600000}]
    _rewrite(path, TRADES.to_arrow(), _facts(path) | {"spans": spans, "last_id": 2**60, "rows": 2**60 + 1})


def _nested_certificate(path: Path) -> None:
    nested = "[" * 100_000 + "]" * 100_000
    with pq.ParquetWriter(path, TRADES.to_arrow().schema, store_schema=False) as writer:
        writer.write_table(TRADES.to_arrow())
        writer.add_key_value_metadata({METADATA_KEY: nested})


def _giant_row_group(path: Path) -> None:
    """Small on disk, many rows in memory."""
    rows = TRADES.head(1).select(pl.all().repeat_by(200_000).explode())
    _rewrite(path, rows.to_arrow(), _facts(path))


def _edited_by_another_program(path: Path) -> None:
    """One price changed; the program kept all metadata, the certificate among it."""
    metadata = pq.ParquetFile(path).metadata.metadata or {}
    edited = TRADES.with_columns(p=pl.when(pl.col("a") == 1100).then(1.0).otherwise("p")).to_arrow()
    with pq.ParquetWriter(path, edited.schema, store_schema=False) as writer:
        writer.write_table(edited)
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in metadata.items()})


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def _newer_version_by_damage(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"schema":3', b'"schema":4'))


def _metadata_of_another_shape(path: Path) -> None:
    _rewrite(path, TRADES.to_arrow(), {"schema": SCHEMA_VERSION})


def _nulls(path: Path) -> None:
    trades = TRADES.with_columns(p=pl.when(pl.col("a") == 1100).then(None).otherwise("p"))
    _rewrite(path, trades.to_arrow(), _facts(path))


def _unsorted(path: Path) -> None:
    _rewrite(path, TRADES.reverse().to_arrow(), _facts(path))


def _doubled(path: Path) -> None:
    _rewrite(path, pl.concat([TRADES.head(1), TRADES[:-1]]).to_arrow(), _facts(path))


def _fewer_rows_than_named(path: Path) -> None:
    _rewrite(path, TRADES.filter(pl.col("a") != 1100).to_arrow(), _facts(path))


def _no_rows(path: Path) -> None:
    _rewrite(path, empty_trades().to_arrow(), _facts(path))


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "part-0.parquet").write_text("somebody's")


def _facts(path: Path) -> dict[str, object]:
    metadata = pq.ParquetFile(path).metadata.metadata or {}
    facts: dict[str, object] = json.loads(metadata[METADATA_KEY.encode()])
    return facts


def _rewrite(path: Path, table: pa.Table, facts: dict[str, object]) -> None:
    """A file of ours as to its metadata, its own digest among it, with other content."""
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA_KEY: json.dumps(facts), FILE_DIGEST_KEY: BLANK})
    stamp_file(path)


SPOILS: dict[Spoil, str] = {
    _cut_in_half: "cannot be decoded",
    _without_its_end: "cannot be decoded",
    _zero_filled: "cannot be decoded",
    _zero_filled_in_the_middle: "its bytes are not those that were written",
    _empty: "cannot be decoded",
    _text: "cannot be decoded",
    _of_another_symbol: "of another instrument, spot:ETHUSDT",
    _of_another_market: "of another instrument, um:BTCUSDT",
    _of_another_day: "of the day 2025-11-08",
    _plain_polars: "not written by backfilld",
    _foreign_schema: "columns are others",
    _other_types: "columns are others",
    _more_columns: "columns are others",
    _older_version: "schema version 2; this program reads version 3",
    _newer_version_by_damage: "schema version 4, and is damaged",
    _metadata_of_another_shape: "certificate cannot be read",
    _contradicting_certificate: "certificate contradicts itself",
    _certificate_out_of_bounds: "certificate contradicts itself",
    _nested_certificate: "certificate cannot be read",
    _giant_row_group: "row groups of another size",
    _edited_by_another_program: "its bytes are not those that were written",
    _pipe: "not a regular file",
    _link: "not a regular file",
    _nulls: "has nulls",
    _unsorted: "ids do not ascend",
    _doubled: "ids do not ascend",
    _fewer_rows_than_named: "it has 299 rows, and its certificate names 300",
    _no_rows: "row groups of another size",
    _directory: "not a regular file",
}


def _content(path: Path) -> bytes:
    if path.is_fifo():
        return b""
    return (path / "part-0.parquet").read_bytes() if path.is_dir() else path.read_bytes()


@pytest.mark.parametrize(("spoil", "reason"), SPOILS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_an_untrusted_file_is_moved_aside_whole_and_reported(
    manager: BackfillCacheManager, spoil: Spoil, reason: str
) -> None:
    manager.append(DAY, TRADES)
    path = manager.get_cache_path(DAY)
    spoil(path)
    content = _content(path)
    with capture_logs() as logs:
        assert manager.load_cached_trades(DAY) is None
    (event,) = logs
    moved = path.with_name(event["moved_to"])
    assert (event["event"], event["log_level"], event["file"]) == ("day_quarantined", "warning", str(path))
    assert reason in event["reason"]
    assert re.fullmatch(r"backfill_2025-11-07\.parquet\.bad-\d{8}T\d{6}Z", moved.name)
    assert _content(moved) == content
    assert not path.exists()
    assert manager.days() == []


@pytest.mark.parametrize("spoil", [_cut_in_half, _zero_filled_in_the_middle, _nulls, _unsorted, _directory])
def test_the_day_can_be_saved_again_beside_the_quarantined_file(manager: BackfillCacheManager, spoil: Spoil) -> None:
    """Saving looks first: a spoilt file is moved aside, not merged with and not overwritten."""
    manager.append(DAY, TRADES)
    spoil(manager.get_cache_path(DAY))
    with capture_logs():
        manager.save_trades_to_cache(TRADES.head(10), DAY)
    assert_frame_equal(manager.load_cached_trades(DAY), TRADES.head(10))  # type: ignore[arg-type]
    assert len(list(manager.directory.glob("*.bad-*"))) == 1


def test_the_daemons_look_quarantines_as_well(manager: BackfillCacheManager) -> None:
    manager.append(DAY, TRADES)
    _zero_filled_in_the_middle(manager.get_cache_path(DAY))
    with capture_logs() as logs:
        assert manager.record(DAY) is None
    assert [event["event"] for event in logs] == ["day_quarantined"]


def test_several_in_one_second_never_overwrite_each_other(tmp_path: Path) -> None:
    moment = datetime(2025, 11, 8, 1, 2, 3, tzinfo=UTC)
    moved = []
    for content in ("first", "second", "third"):
        path = tmp_path / "backfill_2025-11-07.parquet"
        path.write_text(content)
        moved.append(move_aside(path, moment))
    stem = "backfill_2025-11-07.parquet.bad-20251108T010203Z"
    assert [path.name for path in moved] == [stem, f"{stem}-1", f"{stem}-2"]
    assert [path.read_text() for path in moved] == ["first", "second", "third"]


def test_a_whole_file_is_not_touched(manager: BackfillCacheManager) -> None:
    manager.append(DAY, TRADES)
    with capture_logs() as logs:
        assert manager.load_cached_trades(DAY) is not None
        assert manager.record(DAY) is not None
    assert logs == []
    assert [path.name for path in manager.directory.iterdir()] == ["backfill_2025-11-07.parquet"]


def test_what_the_disk_refuses_is_an_error_and_no_reason_to_move_the_file(
    manager: BackfillCacheManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path below a file cannot be read for a reason of the file system's: the day is not taken for missing."""
    path = manager.get_cache_path(DAY)
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("a file where the directory should be")
    with pytest.raises(StoreError, match=f"cannot read {re.escape(str(path))}: "):
        manager.load_cached_trades(DAY)
    assert path.parent.is_file()


def test_reading_group_by_group_says_when_a_file_is_damaged_while_in_use(manager: BackfillCacheManager) -> None:
    manager.append(DAY, TRADES)
    _zero_filled_in_the_middle(manager.get_cache_path(DAY))
    with pytest.raises(StoreError, match="damaged while in use"):
        list(manager.row_groups(DAY))


def test_facts_of_a_spoilt_file_are_refused_with_the_reason_and_the_file_stays(manager: BackfillCacheManager) -> None:
    """The status command reads facts: it must not move anything."""
    manager.append(DAY, TRADES)
    _older_version(manager.get_cache_path(DAY))
    with pytest.raises(UntrustedFile, match="schema version 2"):
        manager.facts(DAY)
    assert manager.get_cache_path(DAY).is_file()
    with pytest.raises(StoreError, match="No such file"):
        manager.facts(date(2025, 11, 1))


# -- random damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[BackfillCacheManager, bytes]:
    """A file of 100 rows with a hole, uncompressed, so that every byte of the rows lies open."""
    manager = BackfillCacheManager(tmp_path_factory.mktemp("whole"), SPOT, Encoding("none"))
    manager.append(DAY, day_frame([*range(1000, 1050), *range(1060, 1110)]), starts_at(DAY, 1000))
    return manager, manager.get_cache_path(DAY).read_bytes()


@given(data=st.data())
def test_a_single_damaged_byte_is_detected_or_harmless(
    whole: tuple[BackfillCacheManager, bytes], data: st.DataObject
) -> None:
    """Wherever it is: load gives None or exactly the rows that were saved, and never anything else."""
    manager, content = whole
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    _assert_detected_or_harmless(manager, bytes(damaged))


@given(data=st.data())
def test_a_damaged_stretch_is_detected_or_harmless(
    whole: tuple[BackfillCacheManager, bytes], data: st.DataObject
) -> None:
    """Cut anywhere, or a block of zeros or of noise anywhere."""
    manager, content = whole
    start = data.draw(st.integers(0, len(content)))
    noise = data.draw(st.one_of(st.binary(max_size=64), st.integers(0, 600).map(bytes)))
    end = data.draw(st.sampled_from([len(content), start, start + len(noise)]))
    _assert_detected_or_harmless(manager, content[:start] + noise + content[end:])


def test_a_column_name_that_is_not_utf_8_is_detected(whole: tuple[BackfillCacheManager, bytes]) -> None:
    """The footer has no checksum: the name of a column can be any byte."""
    manager, content = whole
    name = content.index(b"\x18\x01T", content.index(b"\x06schema")) + 2
    assert content[name : name + 1] == b"T"
    _assert_detected_or_harmless(manager, content[:name] + b"\xd4" + content[name + 1 :])


@pytest.mark.parametrize(("part", "flipped"), [("pages", 0x01), ("footer", 0x01), ("footer", 0x80)])
def test_damage_of_every_single_byte_is_detected_or_harmless(
    whole: tuple[BackfillCacheManager, bytes], part: str, flipped: int
) -> None:
    """Pages have checksums, the footer has none: out of either comes the whole day or UntrustedFile, and nothing
    else."""
    manager, content = whole
    path = manager.get_cache_path(DAY)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    expected = day_frame([*range(1000, 1050), *range(1060, 1110)])
    for position in range(footer) if part == "pages" else range(footer, len(content)):
        damaged = bytearray(content)
        damaged[position] ^= flipped
        path.write_bytes(damaged)
        with suppress(UntrustedFile), DayReader(path, DAY, SPOT) as reader:
            assert reader.trades().equals(expected), position


def _assert_detected_or_harmless(manager: BackfillCacheManager, damaged: bytes) -> None:
    trades = day_frame([*range(1000, 1050), *range(1060, 1110)])
    path = manager.get_cache_path(DAY)
    path.write_bytes(damaged)
    with pytest.MonkeyPatch.context() as patch, capture_logs() as logs:
        patch.setattr(atomic, "_sync", lambda *_: None)
        record = manager.record(DAY)
        loaded = manager.load_cached_trades(DAY) if record is not None else None
    for moved in manager.directory.glob("*.bad-*"):
        moved.unlink()
    if loaded is None:
        assert [event["event"] for event in logs] == ["day_quarantined"]
    else:
        assert_frame_equal(loaded, trades, check_exact=True)
        assert record is not None
        assert [(span.ids.first_id, span.ids.last_id) for span in record.spans] == [(1000, 1049), (1060, 1109)]
