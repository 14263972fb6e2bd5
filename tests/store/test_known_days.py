"""What is remembered of files that were read in full: it saves reading them again, and is never believed of another
file."""

import os
import shutil
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

import backfilld.store.known_days as notes
from backfilld.adapters.parquet_store import ParquetStore
from backfilld.core.day.addition import Addition
from backfilld.services.day_statuses import day_statuses
from backfilld.store.format.dayfile import Encoding
from backfilld.store.known_days import KnownDays
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame
from tests.store.keyrings import OLD, encrypting

DAYS = [DAY + timedelta(days=number) for number in range(30)]
PLAIN = Encoding()

_opened: list[str] = []
_is_counting = False


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if _is_counting and event == "open" and str(arguments[0]).endswith(".parquet"):
        _opened.append(str(arguments[0]))


sys.addaudithook(_count)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The day files that are opened from now on, each as often as it is."""
    _opened.clear()
    monkeypatch.setattr(sys.modules[__name__], "_is_counting", True)
    return _opened


def filled(cache: Path, encoding: Encoding = PLAIN) -> BackfillCacheManager:
    """A cache of sealed days that another program wrote."""
    manager = BackfillCacheManager(instrument_directory(cache, SPOT), SPOT, encoding)
    for number, day in enumerate(DAYS):
        first = 1000 + 10 * number
        manager.append(day, day_frame(range(first, first + 10), day), starts_at(day, first, first + 10))
    return manager


async def loaded_once(cache: Path, encoding: Encoding = PLAIN) -> None:
    """A daemon has read all days."""
    store = ParquetStore(cache, encoding)
    for day in DAYS:
        await store.load(SPOT, day)


def known_days(manager: BackfillCacheManager) -> KnownDays:
    """As a process finds them that starts now."""
    return KnownDays(manager.directory.parent.parent / ".backfilld", manager)


async def test_a_second_start_opens_no_sealed_day(tmp_path: Path, opened: list[str]) -> None:
    manager = filled(tmp_path)
    expected = {day: manager.facts(day) for day in DAYS}
    assert await ParquetStore(tmp_path, PLAIN).load_known(SPOT, DAYS) == {}
    await loaded_once(tmp_path)
    opened.clear()
    store = ParquetStore(tmp_path, PLAIN)
    assert await store.load_known(SPOT, DAYS) == expected
    assert opened == []
    assert await store.altered(SPOT) == frozenset()


async def test_what_the_store_itself_has_sealed_is_known(tmp_path: Path) -> None:
    store = ParquetStore(tmp_path, PLAIN)
    saved = await store.save(Addition(SPOT, DAY, day_frame(range(1000, 1010)), starts_at(DAY, 1000, 1010)))
    open_day = await store.save(
        Addition(SPOT, DAYS[1], day_frame(range(1010, 1020), DAYS[1]), starts_at(DAYS[1], 1010))
    )
    assert (saved.record.sealed, open_day.record.sealed) == (True, False)
    assert await ParquetStore(tmp_path, PLAIN).load_known(SPOT, DAYS) == {DAY: saved.record}


async def test_a_start_reads_the_lines_of_the_days_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = filled(tmp_path)
    await loaded_once(tmp_path)
    read, seen = notes._entry, list[bytes]()

    def counted(line: bytes) -> object:
        seen.append(line)
        return read(line)

    monkeypatch.setattr(notes, "_entry", counted)
    assert known_days(manager).certificates(DAYS[-2:]).keys() == set(DAYS[-2:])
    assert len(seen) == 2


def test_status_opens_each_day_once(tmp_path: Path, opened: list[str]) -> None:
    filled(tmp_path)
    opened.clear()
    assert [each.state for each in day_statuses(tmp_path, SPOT)] == ["sealed"] * len(DAYS)
    assert len(opened) == len(DAYS)


@pytest.mark.parametrize("change", ["same_size", "old_time", "copy", "journal", "gone"])
async def test_a_file_that_changed_in_any_way_is_not_known(tmp_path: Path, change: str) -> None:
    manager = filled(tmp_path)
    await loaded_once(tmp_path)
    path = manager.get_cache_path(DAY)
    before = path.stat()
    match change:
        case "same_size" | "old_time":
            body = bytearray(path.read_bytes())
            body[100] ^= 1
            path.write_bytes(body)
            if change == "old_time":
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "copy":
            shutil.copy2(path, path.with_suffix(".copy"))
            path.with_suffix(".copy").replace(path)
        case "journal":
            manager.journals.mkdir(parents=True)
            manager.journal_path(DAY).touch()
        case _:
            path.unlink()
    assert set(known_days(manager).certificates(DAYS)) == set(DAYS[1:])


@pytest.mark.parametrize("damage", ["torn", "flipped", "garbage", "empty"])
async def test_damaged_lines_cost_a_look_at_their_days_alone(tmp_path: Path, damage: str) -> None:
    manager = filled(tmp_path)
    await loaded_once(tmp_path)
    (path,) = (tmp_path / ".backfilld" / "known").iterdir()
    body = path.read_bytes()
    match damage:
        case "torn":
            path.write_bytes(body[:-20])
        case "flipped":
            path.write_bytes(body[:-200] + bytes([body[-200] ^ 1]) + body[-199:])
        case "garbage":
            path.write_bytes(body[:333] + b"\x00\xff 1 2 3\n" + body[333:])
        case _:
            path.write_bytes(b"")
    found = known_days(manager).certificates(DAYS)
    assert found == {day: manager.facts(day) for day in found}
    assert len(found) == {"empty": 0, "torn": 29, "flipped": 29, "garbage": 29}[damage]
    # The next line that is appended is whole, whatever stands before it.
    await loaded_once(tmp_path)
    assert set(known_days(manager).certificates(DAYS)) == set(DAYS)


async def test_days_that_change_again_and_again_do_not_fill_the_disk(tmp_path: Path) -> None:
    manager, days = filled(tmp_path), set(DAYS)
    for _ in range(12):
        for day in DAYS:
            manager.get_cache_path(day).touch()
        await loaded_once(tmp_path)
    (path,) = (tmp_path / ".backfilld" / "known").iterdir()
    assert len(path.read_bytes().split()) // 8 < 160
    assert set(known_days(manager).certificates(DAYS)) == days


async def test_with_keys_no_certificate_stands_in_the_clear(tmp_path: Path) -> None:
    """An earlier, plain note of the same days goes, too."""
    filled(tmp_path)
    await loaded_once(tmp_path)
    shutil.rmtree(tmp_path / "market=spot")
    encoding = encrypting(OLD)
    manager = filled(tmp_path, encoding)
    await loaded_once(tmp_path, encoding)
    notes = list((tmp_path / ".backfilld" / "known").iterdir())
    assert not [path for path in notes if b"spans" in path.read_bytes() or b"first_id" in path.read_bytes()]
    assert set(known_days(manager).certificates(DAYS)) == set(DAYS)
    without = BackfillCacheManager(manager.directory, SPOT, PLAIN)
    assert known_days(without).certificates(DAYS) == {}


async def test_a_disk_that_refuses_the_note_stops_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / ".backfilld").mkdir(exist_ok=True)
    (tmp_path / ".backfilld" / "known").touch()
    store = ParquetStore(tmp_path, PLAIN)
    record = await store.load(SPOT, DAY)
    assert record is not None
    assert record.day == DAY
    assert await store.days(SPOT) == [date.fromordinal(DAY.toordinal() + number) for number in range(30)]
