"""Encrypted day files, journals and reports: who can read them, what is found out, and what stays as it is."""

import base64
import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pyarrow.parquet.encryption
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.day.addition import Addition
from backfilld.errors import DayDamaged, DayLocked
from backfilld.store.archive_import.archive_take import REPORT_SUFFIX, add_to_report
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.keys import Key, KeyText, key_text_in
from backfilld.store.format.tables import table_from_bytes
from backfilld.store.format.tail import certificate_in
from backfilld.store.joined_day import JoinedDay
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.inspection import inspect_day
from backfilld.store.waiting_days import WaitingDays
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame
from tests.store.keyrings import NEW, OLD, STRANGE, encrypting, reading, tree_of

TRADES = day_frame(range(1000, 1300))


def manager_of(directory: Path, encoding: Encoding) -> BackfillCacheManager:
    return BackfillCacheManager(directory / "market=spot" / "symbol=BTCUSDT", SPOT, encoding)


def rows_of(manager: BackfillCacheManager) -> pl.DataFrame:
    trades = manager.load_cached_trades(DAY)
    assert trades is not None
    return trades


@pytest.fixture
def encrypted(tmp_path: Path, small_row_groups: int) -> BackfillCacheManager:
    """A sealed day, by the old key."""
    manager = manager_of(tmp_path, encrypting(OLD))
    manager.append(DAY, TRADES, starts_at(DAY, 1000, 1300))
    return manager


def test_an_encrypted_day_has_the_same_certificate_and_rows_as_a_plain_one(
    encrypted: BackfillCacheManager, tmp_path: Path
) -> None:
    plain = manager_of(tmp_path / "plain", Encoding())
    plain.append(DAY, TRADES, starts_at(DAY, 1000, 1300))
    assert encrypted.record(DAY) == plain.record(DAY)
    assert encrypted.facts(DAY).digest is not None
    assert_frame_equal(rows_of(encrypted), rows_of(plain))
    assert encrypted.opened(DAY)[1] == OLD
    assert plain.opened(DAY)[1] is None


def test_nothing_of_the_certificate_is_readable_without_the_key(encrypted: BackfillCacheManager) -> None:
    content = encrypted.get_cache_path(DAY).read_bytes()
    assert content.startswith(b"PARE")
    assert content.endswith(b"PARE")
    for word in (b"BTCUSDT", b"previous_last_id", b"sealed", OLD.secret):
        assert word not in content
    text = key_text_in(io.BytesIO(content))
    assert text is not None
    assert (text.key, text.fingerprint) == ("2026-q3", OLD.fingerprint)
    assert OLD.secret.hex()[:8] not in repr(OLD) + repr(encrypted.encoding) + text.fingerprint


def test_a_day_grows_under_encryption_and_a_new_first_key_takes_over_at_the_next_save(
    encrypted: BackfillCacheManager, tmp_path: Path
) -> None:
    turned = manager_of(tmp_path, encrypting(NEW, OLD))
    assert turned.opened(DAY)[1] == OLD
    turned.append(DAY, day_frame(range(1300, 1350)))
    assert turned.opened(DAY)[1] == NEW
    assert_frame_equal(rows_of(turned), day_frame(range(1000, 1350)))
    with pytest.raises(DayLocked):
        encrypted.facts(DAY)


def test_pyarrow_polars_and_duckdb_read_it_with_the_key(encrypted: BackfillCacheManager) -> None:
    """Their own readers, as docs/howto-encryption.md shows them, with the text about the key in the file."""
    path = encrypted.get_cache_path(DAY)
    secret = OLD.secret
    decryption = pyarrow.parquet.encryption.create_decryption_properties(secret)  # type: ignore[attr-defined]
    arrow = pq.read_table(path, decryption_properties=decryption, partitioning=None)
    assert pl.DataFrame(arrow).equals(TRADES)
    key = pl.ParquetDecryptionProperties(footer_key=secret)
    assert_frame_equal(pl.read_parquet(path, decryption=key, hive_partitioning=False), TRADES)
    lazy = pl.scan_parquet(path.parent / "*.parquet", decryption=key, hive_partitioning=False)
    assert lazy.filter(pl.col("a") >= 1290).select(pl.len()).collect().item() == 10
    with duckdb.connect() as connection:
        connection.execute(f"PRAGMA add_parquet_key('k', '{base64.b64encode(secret).decode()}')")
        query = "SELECT count(*), sum(p * q) FROM read_parquet(?, encryption_config = {footer_key: 'k'})"
        rows, total = connection.execute(query, [str(path)]).fetchone() or (0, 0)
    assert rows == TRADES.height
    assert total == pytest.approx((TRADES["p"] * TRADES["q"]).sum())


def test_readers_understand_row_groups_of_full_size(tmp_path: Path) -> None:
    """DuckDB reads an encrypted column chunk only if it is one page."""
    manager = manager_of(tmp_path, encrypting(OLD))
    trades = day_frame(range(1000, 301_000))
    manager.append(DAY, trades)
    with duckdb.connect() as connection:
        connection.execute(f"PRAGMA add_parquet_key('k', '{base64.b64encode(OLD.secret).decode()}')")
        query = "SELECT count(*), max(a) FROM read_parquet(?, encryption_config = {footer_key: 'k'})"
        assert connection.execute(query, [str(manager.get_cache_path(DAY))]).fetchone() == (300_000, 300_999)


# -- locked


USES: dict[str, Callable[[BackfillCacheManager], object]] = {
    "load": lambda manager: manager.load_cached_trades(DAY),
    "record": lambda manager: manager.record(DAY),
    "facts": lambda manager: manager.facts(DAY),
    "rows": lambda manager: list(manager.row_groups(DAY)),
    "append": lambda manager: manager.append(DAY, day_frame([1300])),
    "save": lambda manager: manager.save_trades_to_cache(day_frame([1300]), DAY),
}


@pytest.mark.parametrize("keys", [(), (NEW,), (STRANGE,)], ids=["none", "another", "another of that id"])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_without_its_key_a_file_is_locked_and_stays_as_it_is(
    encrypted: BackfillCacheManager,
    tmp_path: Path,
    keys: tuple[Key, ...],
    use: Callable[[BackfillCacheManager], object],
) -> None:
    before = tree_of(tmp_path)
    with pytest.raises(DayLocked, match=r"encrypted by the key '2026-q3', and no key opens it"):
        use(manager_of(tmp_path, encrypting(*keys) if keys else Encoding()))
    assert tree_of(tmp_path) == before
    inspected = inspect_day(encrypted.get_cache_path(DAY), DAY, SPOT, keys=reading(*keys).keys)
    assert inspected is not None
    assert [each.kind for each in inspected.findings] == ["locked"]


def test_a_journal_that_no_key_opens_locks_its_day(encrypted: BackfillCacheManager, tmp_path: Path) -> None:
    """Also where the file beside it is plain."""
    saves = WaitingDays(300)
    manager = manager_of(tmp_path / "other", reading(OLD))
    manager.append(DAY, day_frame(range(1000, 1040)))
    writer = manager_of(tmp_path / "other", encrypting(OLD))
    assert saves.append(writer, Addition(SPOT, DAY, day_frame(range(1040, 1045))), 0.0).is_in_journal
    before = tree_of(tmp_path)
    with pytest.raises(DayLocked, match="no key opens it"):
        manager_of(tmp_path / "other", Encoding()).load_cached_trades(DAY)
    with pytest.raises(DayLocked, match="no key opens it"):
        WaitingDays(300).append(
            manager_of(tmp_path / "other", encrypting(NEW)), Addition(SPOT, DAY, day_frame([1050])), 0.0
        )
    assert tree_of(tmp_path) == before


# -- journals and reports


def test_the_journal_is_encrypted_and_joined(encrypted: BackfillCacheManager, tmp_path: Path) -> None:
    manager = manager_of(tmp_path / "day", encrypting(OLD))
    manager.append(DAY, day_frame(range(1000, 1040)))
    saves = WaitingDays(300)
    for start in range(1040, 1060, 5):
        done = saves.append(manager, Addition(SPOT, DAY, day_frame(range(start, start + 5))), 0.0)
        assert done.is_in_journal
    journal = manager.journal_path(DAY).read_bytes()
    plain = manager_of(tmp_path / "plain", Encoding())
    plain.append(DAY, day_frame(range(1000, 1040)))
    WaitingDays(300).append(plain, Addition(SPOT, DAY, day_frame(range(1040, 1060))), 0.0)
    for value in (day_frame([1042])["T"], day_frame([1042])["a"]):
        needle = value.to_numpy().tobytes()
        assert needle in plain.journal_path(DAY).read_bytes()
        assert needle not in journal
    assert b"rest" not in journal
    assert_frame_equal(rows_of(manager), day_frame(range(1000, 1060)))
    fresh = manager_of(tmp_path / "day", encrypting(NEW, OLD))
    assert WaitingDays(300).append(fresh, Addition(SPOT, DAY, day_frame(range(1060, 1065))), 0.0).is_in_journal, (
        "records of two keys may follow each other"
    )
    assert_frame_equal(rows_of(fresh), day_frame(range(1000, 1065)))


def test_a_record_of_another_instruments_journal_is_not_taken(tmp_path: Path) -> None:
    """It is bound to its place: whoever can write the disk cannot move trades without the key."""
    managers = [
        BackfillCacheManager(tmp_path / "market=spot" / f"symbol={name}", None, encrypting(OLD))
        for name in ("BTCUSDT", "ETHUSDT")
    ]
    for manager in managers:
        manager.append(DAY, day_frame(range(1000, 1040)))
        WaitingDays(300).append(manager, Addition(SPOT, DAY, day_frame(range(1040, 1045))), 0.0)
    here, there = (manager.journal_path(DAY) for manager in managers)
    here.write_bytes(there.read_bytes())
    with JoinedDay(managers[0].get_cache_path(DAY), here, DAY, None, keys=encrypting(OLD).keys) as day:
        assert day.certificate.rows == 40


def test_a_plain_journal_is_read_after_encryption_is_switched_on(tmp_path: Path) -> None:
    plain = manager_of(tmp_path, Encoding())
    plain.append(DAY, day_frame(range(1000, 1040)))
    WaitingDays(300).append(plain, Addition(SPOT, DAY, day_frame(range(1040, 1045))), 0.0)
    manager = manager_of(tmp_path, encrypting(OLD))
    WaitingDays(300).append(manager, Addition(SPOT, DAY, day_frame(range(1045, 1050))), 0.0)
    assert_frame_equal(rows_of(manager), day_frame(range(1000, 1050)))


def test_reports_of_conflicts_are_encrypted_and_added_to(encrypted: BackfillCacheManager) -> None:
    file, keys = encrypted.get_cache_path(DAY), encrypted.encoding.keys
    first, second = (
        day_frame([trade_id]).with_columns(source=pl.lit("rest"), kept=pl.lit(value=True)) for trade_id in (1000, 1001)
    )
    path = add_to_report(file, first, keys)
    assert path == file.with_name(file.name + REPORT_SUFFIX)
    assert path.read_bytes().startswith(b"PARE")
    add_to_report(file, second, keys)
    assert_frame_equal(table_from_bytes(path.read_bytes(), keys, path).frame, pl.concat([first, second]))
    before = path.read_bytes()
    with pytest.raises(DayLocked):
        add_to_report(file, second, encrypting(NEW).keys)
    assert path.read_bytes() == before


def test_the_certificate_of_an_object_is_read_from_its_end(encrypted: BackfillCacheManager) -> None:
    tail = encrypted.get_cache_path(DAY).read_bytes()[-8000:]
    assert certificate_in(tail, encrypted.encoding.keys) == (encrypted.facts(DAY), OLD)


# -- damage


def found_wrong(manager: BackfillCacheManager) -> list[str]:
    inspected = inspect_day(manager.get_cache_path(DAY), DAY, SPOT, keys=manager.encoding.keys)
    assert inspected is not None
    return [each.kind for each in inspected.findings]


@given(place=st.integers(0, 2**32), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    manager = manager_of(tmp_path_factory.mktemp("flip"), encrypting(OLD))
    manager.append(DAY, day_frame(range(1000, 1100)), starts_at(DAY, 1000, 1100))
    path = manager.get_cache_path(DAY)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    assert found_wrong(manager)


def test_an_altered_page_is_refused_though_the_plain_digest_was_made_to_fit(
    encrypted: BackfillCacheManager,
) -> None:
    """The digest in the plain part is for damage; against whoever writes the disk the encryption itself stands."""
    path = encrypted.get_cache_path(DAY)
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    text = key_text_in(io.BytesIO(content))
    assert text is not None
    restamped = content.replace(text.sha256.encode(), b"0" * 64)
    import hashlib  # noqa: PLC0415

    path.write_bytes(content.replace(text.sha256.encode(), hashlib.sha256(restamped).hexdigest().encode()))
    assert found_wrong(encrypted) != []
    assert encrypted.record(DAY) is not None
    with pytest.raises(DayDamaged):
        encrypted.append(DAY, day_frame([1300]))


def test_a_damaged_footer_under_a_known_key_is_damage_and_not_a_lock(encrypted: BackfillCacheManager) -> None:
    """It is moved aside as every damaged file, and so the day can come again."""
    path = encrypted.get_cache_path(DAY)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    assert found_wrong(encrypted) == ["unreadable"]
    assert encrypted.record(DAY) is None
    (moved,) = path.parent.iterdir()
    assert ".bad-" in moved.name
    assert moved.read_bytes() == content


def test_a_cut_file_is_damage(encrypted: BackfillCacheManager) -> None:
    path = encrypted.get_cache_path(DAY)
    path.write_bytes(path.read_bytes()[:-100])
    assert encrypted.record(DAY) is None


def test_a_plain_file_where_encryption_is_on_is_read_and_named(tmp_path: Path) -> None:
    manager_of(tmp_path, Encoding()).append(DAY, TRADES)
    manager = manager_of(tmp_path, encrypting(OLD))
    assert manager.record(DAY) is not None
    assert found_wrong(manager) == ["unencrypted"]
    assert found_wrong(manager_of(tmp_path, reading(OLD))) == []


def test_text_about_a_key_that_is_not_ours_is_passed_over() -> None:
    for _ in range(200):
        noise = os.urandom(random.randint(0, 60))
        body = b"PARE" + noise + len(noise).to_bytes(4, "little") + b"PARE"
        assert not isinstance(key_text_in(io.BytesIO(body)), KeyText)


IMPORTS = """
import sys
from datetime import date
from pathlib import Path
from backfilld.core.day.addition import Addition
from backfilld.core.model import Instrument
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.format.dayfile import Encoding
from backfilld.store.waiting_days import WaitingDays
from tests.store.frames import DAY, SPOT, day_frame
from tests.store.keyrings import OLD, encrypting

encoding = encrypting(OLD) if sys.argv[2] == "on" else Encoding()
manager = BackfillCacheManager(Path(sys.argv[1]), Instrument.parse("spot:BTCUSDT"), encoding)
manager.append(DAY, day_frame(range(1000, 1040)))
WaitingDays(300).append(manager, Addition(SPOT, DAY, day_frame(range(1040, 1045))), 0.0)
assert manager.load_cached_trades(DAY).height == 45
print(sorted({"pandas", "pyarrow._parquet_encryption"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("switch", "loaded"), [("off", []), ("on", ["pyarrow._parquet_encryption"])])
def test_what_is_not_needed_is_not_loaded(tmp_path: Path, switch: str, loaded: list[str]) -> None:
    """Arrow loads pandas at some innocent calls, which takes 0.2 s and 40 MB."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path), switch],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == str(loaded)
