"""BackfillCacheManager as the guide uses it, on a real disk."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backfilld import BackfillCacheManager, BackfillError, Instrument, SettingsError, StoreError, TradeConflict
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.errors import DayLocked
from backfilld.store.layout import instrument_directory
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, as_binance, day_frame

NOON = datetime(2025, 11, 7, 12, tzinfo=UTC)


def test_a_saved_frame_is_loaded_as_it_was(manager: BackfillCacheManager) -> None:
    trades = day_frame(range(1000, 1300))
    manager.save_trades_to_cache(trades, NOON)
    loaded = manager.load_cached_trades(NOON)
    assert loaded is not None
    assert_frame_equal(loaded, trades)
    assert dict(loaded.schema) == SCHEMA


def test_trades_as_binance_sends_them_become_the_typed_frame(manager: BackfillCacheManager) -> None:
    """A list of dicts with prices as text, in no order."""
    trades = day_frame(range(1000, 1050))
    manager.save_trades_to_cache(as_binance(trades)[::-1], NOON)
    assert_frame_equal(manager.load_cached_trades(DAY), trades)  # type: ignore[arg-type]


def test_futures_rows_without_best_match_and_with_fields_of_their_own_are_taken(tmp_path: Path) -> None:
    """USD-M rows have no M and may have nq: M is true, nq is left out."""
    manager = BackfillCacheManager(tmp_path / "market=um" / "symbol=BTCUSDT")
    rows = as_binance(day_frame(range(1000, 1010)))
    for row in rows:
        del row["M"]
        row["nq"] = "0.1"
    manager.save_trades_to_cache(rows, DAY)
    loaded = manager.load_cached_trades(DAY)
    assert loaded is not None
    assert loaded.columns == list(SCHEMA)
    assert loaded["M"].all()


@pytest.mark.parametrize(
    "moment",
    [
        DAY,
        NOON,
        datetime(2025, 11, 7),  # noqa: DTZ001 - a naive datetime is taken for UTC
        datetime(2025, 11, 8, 3, tzinfo=timezone(timedelta(hours=9))),
        datetime(2025, 11, 6, 23, tzinfo=timezone(timedelta(hours=-5))),
    ],
    ids=["date", "utc", "naive", "tokyo", "new york"],
)
def test_a_datetime_stands_for_the_utc_day_it_falls_in(manager: BackfillCacheManager, moment: date) -> None:
    assert manager.get_cache_path(moment) == manager.directory / "backfill_2025-11-07.parquet"
    manager.save_trades_to_cache(day_frame(range(1000, 1003)), moment)
    assert manager.days() == [DAY]
    assert manager.load_cached_trades(moment) is not None


def test_a_manager_of_a_whole_cache_is_refused(tmp_path: Path) -> None:
    """It would find no day in silence, for ever."""
    own = tmp_path / "market=spot" / "symbol=BTCUSDT"
    BackfillCacheManager(own).save_trades_to_cache(day_frame([1000]), DAY)
    with pytest.raises(SettingsError, match=f"{tmp_path} is a whole cache: name the directory .*, such as {own}"):
        BackfillCacheManager(tmp_path).load_cached_trades(DAY)
    assert BackfillCacheManager(tmp_path / "nothing").load_cached_trades(DAY) is None


def test_the_path_is_the_guides_whether_the_file_exists_or_not(tmp_path: Path) -> None:
    manager = BackfillCacheManager(str(tmp_path / "my_cache"))
    path = manager.get_cache_path(DAY)
    assert path == tmp_path / "my_cache" / "backfill_2025-11-07.parquet"
    assert not path.exists()
    assert manager.save_trades_to_cache(day_frame([1000]), DAY) == path
    assert path.is_file()


def test_a_day_without_a_file_is_none(manager: BackfillCacheManager) -> None:
    assert manager.load_cached_trades(DAY) is None
    assert not manager.directory.exists()


def test_saving_nothing_writes_nothing(manager: BackfillCacheManager) -> None:
    manager.save_trades_to_cache([], DAY)
    manager.save_trades_to_cache(empty_trades(), DAY)
    assert not manager.directory.exists()


def test_saving_merges_with_what_is_stored(manager: BackfillCacheManager) -> None:
    """The guide's resume: 70 stored, 60 new of which 30 are stored already."""
    manager.save_trades_to_cache(day_frame(range(1000, 1070)), DAY)
    manager.save_trades_to_cache(day_frame(range(1040, 1100)), DAY)
    assert_frame_equal(manager.load_cached_trades(DAY), day_frame(range(1000, 1100)))  # type: ignore[arg-type]


def test_a_trade_that_differs_from_the_stored_one_is_refused_and_the_file_kept(manager: BackfillCacheManager) -> None:
    manager.save_trades_to_cache(day_frame(range(1000, 1010)), DAY)
    before = manager.get_cache_path(DAY).read_bytes()
    other = day_frame(range(1005, 1020)).with_columns(q=pl.when(pl.col("a") == 1007).then(9.0).otherwise("q"))
    with pytest.raises(TradeConflict, match="1007"):
        manager.save_trades_to_cache(other, DAY)
    assert manager.get_cache_path(DAY).read_bytes() == before
    assert [path.name for path in manager.directory.iterdir()] == ["backfill_2025-11-07.parquet"]


def test_a_trade_of_another_day_is_refused_and_nothing_written(manager: BackfillCacheManager) -> None:
    with pytest.raises(StoreError, match=r"3 of the trades to save are not of 2025-11-08, such as id 1000"):
        manager.save_trades_to_cache(day_frame(range(1000, 1003)), date(2025, 11, 8))
    assert not manager.directory.exists()


def test_the_first_and_the_last_millisecond_belong_to_the_day(manager: BackfillCacheManager) -> None:
    edges = day_frame([1000, 1001]).with_columns(T=pl.Series([1_762_473_600_000, 1_762_559_999_999]))
    manager.save_trades_to_cache(edges, DAY)
    assert_frame_equal(manager.load_cached_trades(DAY), edges)  # type: ignore[arg-type]


def test_marker_rows_are_kept(manager: BackfillCacheManager) -> None:
    """Rows with p = q = 0 and f = l = -1 are the exchange's filler under ids that stand for nothing."""
    trades = day_frame(range(1000, 1003)).with_columns(
        pl.when(pl.col("a") == 1001).then(0).otherwise(name).cast(SCHEMA[name]).alias(name) for name in ("p", "q")
    )
    trades = trades.with_columns(pl.when(pl.col("a") == 1001).then(-1).otherwise(n).alias(n) for n in ("f", "l"))
    manager.save_trades_to_cache(trades, DAY)
    assert_frame_equal(manager.load_cached_trades(DAY), trades)  # type: ignore[arg-type]


def test_the_last_cached_timestamp_is_the_latest_time(manager: BackfillCacheManager) -> None:
    """Of a frame and of dicts, also where T does not follow the ids; None for no trades."""
    trades = day_frame(range(1000, 1005)).with_columns(T=pl.Series([5, 1, 9, 2, 3]) + 1_762_473_600_000)
    assert manager.get_last_cached_timestamp(trades) == 1_762_473_600_009
    assert manager.get_last_cached_timestamp(as_binance(trades)) == 1_762_473_600_009
    assert manager.get_last_cached_timestamp([]) is None
    assert manager.get_last_cached_timestamp(empty_trades()) is None


def test_deduplication_orders_by_id_and_keeps_each_once(manager: BackfillCacheManager) -> None:
    doubled = pl.concat([day_frame(range(1005, 1010)), day_frame(range(1000, 1008))])
    assert_frame_equal(manager.deduplicate_trades(doubled), day_frame(range(1000, 1010)))
    assert_frame_equal(manager.deduplicate_trades(as_binance(doubled)), day_frame(range(1000, 1010)))
    assert manager.deduplicate_trades([]).is_empty()


def test_deduplication_never_drops_one_of_two_different_trades(manager: BackfillCacheManager) -> None:
    both = pl.concat([day_frame([1000]), day_frame([1000]).with_columns(p=1.0)])
    with pytest.raises(TradeConflict, match="1000"):
        manager.deduplicate_trades(both)


@pytest.mark.parametrize(("keep_days", "left"), [(0, 5), (1, 2), (3, 4), (7, 5)])
def test_cleanup_deletes_days_more_than_keep_days_ago(manager: BackfillCacheManager, keep_days: int, left: int) -> None:
    """Five days up to today: keeping 1 leaves today and yesterday; 0 deletes nothing."""
    days = [DAY - timedelta(days=n) for n in range(5)]
    for day in days:
        manager.save_trades_to_cache(day_frame([1000], day), day)
    deleted = manager.cleanup_old_cache(keep_days, today=DAY)
    assert manager.days() == sorted(days[:left])
    assert sorted(deleted) == sorted(map(manager.get_cache_path, days[left:]))


def test_cleanup_counts_from_today_and_leaves_other_files(manager: BackfillCacheManager) -> None:
    """The guide's call, without a date: a file of 2025 goes, files of other names stay."""
    manager.save_trades_to_cache(day_frame([1000]), DAY)
    others = ["notes.txt", "backfill_2025-11-07.parquet.bad-20251108T000000Z", "backfill_2025-13-01.parquet"]
    for name in others:
        (manager.directory / name).write_text("kept")
    assert manager.cleanup_old_cache(keep_days=5) == [manager.get_cache_path(DAY)]
    assert sorted(path.name for path in manager.directory.iterdir()) == sorted(others)


def test_cleanup_that_keeps_longer_than_the_calendar_deletes_nothing(manager: BackfillCacheManager) -> None:
    """A very large keep_days means for ever; it must not fail on the date of the year 0."""
    manager.save_trades_to_cache(day_frame([1000]), DAY)
    assert manager.cleanup_old_cache(keep_days=1_000_000) == []
    assert manager.days() == [DAY]


def test_the_instrument_is_read_off_a_directory_in_hives_form(tmp_path: Path) -> None:
    directory = instrument_directory(tmp_path, Instrument.parse("cm:BTCUSD_PERP"))
    assert BackfillCacheManager(directory).instrument == Instrument.parse("cm:BTCUSD_PERP")
    assert BackfillCacheManager(tmp_path).instrument is None
    assert BackfillCacheManager(tmp_path / "market=moon" / "symbol=X").instrument is None
    assert BackfillCacheManager(tmp_path, SPOT).instrument == SPOT


def test_a_plain_directory_takes_the_files_of_any_instrument(tmp_path: Path, manager: BackfillCacheManager) -> None:
    """As in the guide, where a directory names no instrument."""
    manager.save_trades_to_cache(day_frame([1000]), DAY)
    assert BackfillCacheManager(manager.directory.rename(tmp_path / "plain")).load_cached_trades(DAY) is not None


def test_a_directory_below_a_file_is_a_store_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    manager = BackfillCacheManager(tmp_path / "file" / "cache")
    with pytest.raises(StoreError, match=r"cannot (read|write) .*file.cache.*: Not a directory"):
        manager.save_trades_to_cache(day_frame([1000]), DAY)


def test_appending_to_a_file_damaged_since_it_was_read_is_a_store_error(manager: BackfillCacheManager) -> None:
    """The writer survives only what is named: it must meet no other error than StoreError. Nothing is lost: the damaged
    file is moved aside, and the next attempt begins another one."""
    manager.append(DAY, day_frame(range(1000, 1100)))
    path = manager.get_cache_path(DAY)
    path.write_bytes(path.read_bytes()[:-100])
    damaged = path.read_bytes()
    with pytest.raises(BackfillError, match="damaged"):
        manager.append(DAY, day_frame(range(1100, 1200)))
    (moved,) = manager.directory.iterdir()
    assert moved.name.startswith(f"{path.name}.bad-")
    assert moved.read_bytes() == damaged
    assert manager.append(DAY, day_frame(range(1100, 1200))).record.first_id == 1100


def test_a_file_that_vanished_has_no_certificate_to_renew(manager: BackfillCacheManager) -> None:
    manager.append(DAY, day_frame([1000]))
    manager.get_cache_path(DAY).unlink()
    with pytest.raises(StoreError, match="is gone"):
        manager.append(DAY, day_frame([]), starts_at(DAY, 1001))
    assert manager.days() == []


def test_altered_rows_are_never_written_anew(manager: BackfillCacheManager) -> None:
    """A new digest over them would make them look right."""
    manager.append(DAY, day_frame(range(1000, 1100)), starts_at(DAY, 1000))
    path = manager.get_cache_path(DAY)
    content = bytearray(path.read_bytes())
    content[content.index(b"1100") if b"1100" in content else 300] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        manager.append(DAY, day_frame([1100]), starts_at(DAY, 1101))
    assert [each.name.partition(".bad-")[0] for each in manager.directory.iterdir()] == [path.name]


# -- days beside each other

NEXT = DAY + timedelta(days=1)


def test_a_day_is_proven_by_the_days_beside_it_in_the_same_write(manager: BackfillCacheManager) -> None:
    """The days around it come first: the one between them is sealed by its only write."""
    manager.append(DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1000))
    last = NEXT + timedelta(days=1)
    manager.append(last, day_frame(range(1020, 1030), last))
    record = manager.append(NEXT, day_frame(range(1010, 1020), NEXT)).record
    assert record.sealed
    assert record.digest


@pytest.mark.parametrize("sealed_first", [True, False])
def test_of_two_days_that_share_ids_the_one_that_is_not_sealed_is_not_trusted(
    manager: BackfillCacheManager, *, sealed_first: bool
) -> None:
    manager.append(DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1000, 1010) if sealed_first else ())
    manager.append(NEXT, day_frame(range(1005, 1015), NEXT), () if sealed_first else starts_at(NEXT, 1005, 1015))
    good, bad = (DAY, NEXT) if sealed_first else (NEXT, DAY)
    assert manager.record(bad) is None
    assert manager.record(good) is not None
    assert manager.days() == [good]


# -- files that are encrypted


@pytest.mark.parametrize("content", [b"PARE" + bytes(100) + b"PARE", b"age-encryption.org/v1\n-> X25519 abc"])
def test_an_encrypted_file_is_locked_and_never_touched(manager: BackfillCacheManager, content: bytes) -> None:
    path = manager.get_cache_path(DAY)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for use in (
        lambda: manager.load_cached_trades(DAY),
        lambda: manager.record(DAY),
        lambda: manager.facts(DAY),
        lambda: list(manager.row_groups(DAY)),
        lambda: manager.append(DAY, day_frame([1000])),
        lambda: manager.save_trades_to_cache(day_frame([1000]), DAY),
    ):
        with pytest.raises(DayLocked, match="encrypted, and no key opens it"):
            use()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == content
