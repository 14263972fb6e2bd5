"""What the disk refuses to say is no answer: nothing is taken for missing, forgotten or damaged because of it."""

from datetime import timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from backfilld import BackfillCacheManager, StoreError
from backfilld.adapters.threads import in_thread
from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.markets import Pool
from backfilld.store.archive_import.archive_take import take_archive
from backfilld.store.format.keys import Key
from backfilld.store.governor_state import RememberedBudget, load_remembered, save_remembered
from backfilld.store.key_wear import KeyWear
from backfilld.store.layout import instruments_in
from backfilld.store.lock import locked
from backfilld.store.shown_state import load_shown, save_shown
from backfilld.store.upkeep.inspection import inspect_day
from tests.store.archives import published
from tests.store.frames import DAY, SPOT, day_frame
from tests.store.refusing import LOOKS, refusing


@pytest.fixture
def stored(manager: BackfillCacheManager) -> Path:
    """The file of a day of 300 trades."""
    return manager.save_trades_to_cache(day_frame(range(1000, 1300)), DAY)


def test_a_day_that_the_disk_does_not_show_is_not_begun_anew(manager: BackfillCacheManager, stored: Path) -> None:
    """New rows wait, and the rows of before are all there afterwards."""
    with refusing(stored, *LOOKS), pytest.raises(StoreError, match="Input/output error"):
        manager.append(DAY, day_frame(range(1300, 1400)))
    manager.append(DAY, day_frame(range(1300, 1400)))
    assert_frame_equal(manager.load_cached_trades(DAY), day_frame(range(1000, 1400)))  # type: ignore[arg-type]


def test_an_archive_day_does_not_replace_what_the_disk_does_not_show(
    tmp_path: Path, manager: BackfillCacheManager, stored: Path
) -> None:
    zip_file = published(tmp_path / "day.zip", day_frame(range(1200, 1400)))
    with refusing(stored, *LOOKS), pytest.raises(StoreError, match="Input/output error"):
        take_archive(manager, zip_file, DAY, "a" * 64)
    take_archive(manager, zip_file, DAY, "a" * 64)
    assert_frame_equal(manager.load_cached_trades(DAY), day_frame(range(1000, 1400)))  # type: ignore[arg-type]


def test_a_file_is_not_deleted_for_its_age_while_the_disk_does_not_say_whether_it_is_locked(
    manager: BackfillCacheManager, stored: Path
) -> None:
    later = DAY + timedelta(days=9)
    with refusing(stored, "open"):
        assert manager.cleanup_old_cache(1, later) == []
    assert manager.cleanup_old_cache(1, later) == [stored]


def test_a_market_that_cannot_be_listed_is_not_empty(tmp_path: Path, stored: Path) -> None:
    market = stored.parents[1]
    with refusing(market, "listdir", "scandir"), pytest.raises(StoreError, match="cannot list"):
        instruments_in(tmp_path)
    (market / "symbol=GONE").symlink_to(tmp_path / "nowhere")
    (market / "symbol=FILE").touch()
    assert instruments_in(tmp_path) == [SPOT]


def test_the_directory_that_cannot_be_listed_is_named(manager: BackfillCacheManager, stored: Path) -> None:
    for directory in (manager.directory, manager.journals):
        with refusing(directory, "listdir"), pytest.raises(StoreError, match=f"cannot list {directory}: Input/output"):
            manager.days()


def test_verify_says_that_the_disk_refuses_a_file_and_calls_it_nothing_worse(stored: Path) -> None:
    """So that a repair leaves it where it is."""
    with refusing(stored, "open"):
        found = inspect_day(stored, DAY, SPOT)
    assert found is not None
    assert [each.kind for each in found.findings] == ["refused"]
    journal = stored.with_name("none.journal")
    with refusing(journal, *LOOKS):
        found = inspect_day(stored, DAY, SPOT, journal)
    assert found is not None
    assert [each.kind for each in found.findings] == ["refused"]


def test_a_ban_is_not_forgotten_because_it_cannot_be_read(tmp_path: Path) -> None:
    """Its file stays where it is."""
    ban = {Pool.SPOT: RememberedBudget(paused_until_ms=5e12)}
    save_remembered(tmp_path, ban)
    with refusing(tmp_path / "governor.json", "open"), pytest.raises(StoreError, match="Input/output error"):
        load_remembered(tmp_path, 5e12)
    assert load_remembered(tmp_path, 5e12)[Pool.SPOT].paused_until_ms == 5e12


def test_a_trade_that_the_exchange_owes_is_not_forgotten_because_it_cannot_be_read(tmp_path: Path) -> None:
    shown = ShownEnd(1000, 1_762_473_600_000)
    save_shown(tmp_path, SPOT, shown)
    path = next(tmp_path.rglob("symbol=BTCUSDT.json"))
    with refusing(path, "open"), pytest.raises(StoreError, match="Input/output error"):
        load_shown(tmp_path, SPOT)
    assert load_shown(tmp_path, SPOT) == shown


def test_uses_of_a_key_are_not_counted_from_zero_because_they_cannot_be_read(tmp_path: Path) -> None:
    key = Key("key-1", bytes(32))
    KeyWear(tmp_path).used(key, 7)
    path = next(tmp_path.rglob("key_wear.json"))
    before = path.read_bytes()
    with refusing(path, "open"), pytest.raises(StoreError, match="Input/output error"):
        KeyWear(tmp_path).used(key, 7)
    assert path.read_bytes() == before


def test_a_process_does_not_lock_itself_out(tmp_path: Path) -> None:
    """The disk does not say whether the lock is still there: that is no other process."""
    with locked(tmp_path) as lock:
        path = tmp_path / ".backfilld" / "lock"
        with refusing(path, *LOOKS), pytest.raises(StoreError, match="Input/output error"):
            lock.hold()
        lock.hold()


async def test_whatever_the_disk_refuses_on_a_thread_is_an_error_of_the_store(tmp_path: Path) -> None:
    """That of a file that nobody thought of as well: an actor waits for it."""
    with pytest.raises(StoreError, match=f"the disk refuses {tmp_path}: Is a directory"):
        await in_thread(tmp_path.read_bytes)
