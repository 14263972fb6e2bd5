"""Twins of day files: a rewrite that writes the end of the file alone makes the same file as one that writes it all,
and nobody who has either file open, or a link to it, sees it change."""

import errno
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.day.addition import Addition
from backfilld.core.day.start import DayStart
from backfilld.core.model import Instrument
from backfilld.errors import StoreError
from backfilld.store import joined_day, open_files, twins
from backfilld.store.atomic import sweep_temporary_files
from backfilld.store.format import dayfile
from backfilld.store.format.continued_day import Begun, ContinuedDayWriter
from backfilld.store.format.dayfile import DayWriter, Encoding
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.open_files import is_known_to_be_closed
from backfilld.store.waiting_days import WaitingDays
from tests.effort import effort
from tests.store.frames import DAY, day_frame
from tests.store.keyrings import OLD, encrypting

BTC = Instrument.parse("spot:BTCUSDT")
GROUP = 40
"""Rows of a row group here."""


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of a hundred rows has row groups that stay."""
    monkeypatch.setattr(dayfile, "ROW_GROUP_ROWS", GROUP)
    monkeypatch.setattr(joined_day, "ROW_GROUP_ROWS", GROUP)


@dataclass
class Days:
    """A process that saves one day, and what it says of each rewrite."""

    manager: BackfillCacheManager
    waiting: WaitingDays = field(default_factory=lambda: WaitingDays(300.0))

    @classmethod
    def at(cls, root: Path, encoding: Encoding | None = None) -> "Days":
        return cls(BackfillCacheManager(instrument_directory(root, BTC), BTC, encoding))

    @property
    def file(self) -> Path:
        return self.manager.get_cache_path(DAY)

    def append(self, ids: range | list[int], starts: frozenset[DayStart] = frozenset()) -> None:
        self.waiting.append(self.manager, Addition(BTC, DAY, day_frame(ids), starts), 0.0)

    def save(self) -> None:
        self.waiting.save(self.manager, Addition(BTC, DAY))

    def grow(self, ids: range) -> None:
        self.append(ids)
        self.save()

    def twins(self) -> list[Path]:
        return sorted(self.manager.directory.parent.parent.rglob("*.tmp-*"))


@pytest.fixture
def days(tmp_path: Path) -> Days:
    return Days.at(tmp_path)


@pytest.fixture
def ready(days: Days) -> Days:
    """A day of 130 rows whose twin has 110 of them."""
    for ids in (range(1000, 1090), range(1090, 1110), range(1110, 1130)):
        days.grow(ids)
    assert len(days.twins()) == 1
    return days


@pytest.fixture
def continued(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each rewrite that may use a twin, whether it did."""
    found: list[bool] = []

    opening = twins._opened

    def noted(path: Path, begun: Begun | None, *rest: Any, **more: Any) -> DayWriter:
        found.append(begun is not None)
        return opening(path, begun, *rest, **more)

    monkeypatch.setattr(twins, "_opened", noted)
    return found


def assert_is_full_rewrite(days: Days, rows: int, place: Path) -> None:
    """The file is byte for byte that of a process that writes it all."""
    anew = Days.at(place / "anew")
    anew.append(range(1000, 1000 + rows))
    assert days.file.read_bytes() == anew.file.read_bytes()


def test_a_day_that_goes_on_is_byte_for_byte_that_of_full_rewrites(days: Days, tmp_path: Path) -> None:
    """However its rows fall into row groups; and each reader reads it."""
    first_id = 1000
    for number, rows in enumerate((90, 1, 39, 1, 40, 80, 0, 200, 3, 5, 78)):
        days.grow(range(first_id, first_id + rows))
        first_id += rows
        expected = day_frame(range(1000, first_id))
        assert_is_full_rewrite(days, first_id - 1000, tmp_path / str(number))
        assert_frame_equal(pl.read_parquet(days.file), expected)
        assert pq.read_table(days.file, page_checksum_verification=True).num_rows == expected.height
        assert duckdb.read_parquet(str(days.file), hive_partitioning=False).fetchall() == expected.rows()


def test_from_the_third_file_on_the_twin_is_used(days: Days, continued: list[bool]) -> None:
    """And lies where nobody looks for days."""
    for first_id in range(1000, 1300, 50):
        days.grow(range(first_id, first_id + 50))
    assert continued == [False, True, True, True, True]
    (twin,) = days.twins()
    assert twin.parent == days.manager.journals
    assert [*days.manager.directory.iterdir()] == [days.file]


def test_a_rewrite_encodes_the_last_row_group_and_what_is_new(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much the day has: what two rewrites brought, and less than a row group."""
    encoded: list[int] = []
    arrow_table = dayfile.arrow_table

    def counted(trades: pl.DataFrame) -> pa.Table:
        encoded.append(trades.height)
        return arrow_table(trades)

    days.grow(range(1000, 1000 + 20 * GROUP))
    monkeypatch.setattr(dayfile, "arrow_table", counted)
    costs = []
    for first_id in range(1000 + 20 * GROUP, 1000 + 24 * GROUP, 10):
        encoded.clear()
        days.grow(range(first_id, first_id + 10))
        costs.append(sum(encoded))
    assert costs[0] > 20 * GROUP
    assert max(costs[1:]) < GROUP + 20 + 1


def test_many_row_groups_have_a_footer_of_the_long_form(days: Days, tmp_path: Path) -> None:
    """From fifteen on their number stands apart."""
    for first_id in range(1000, 1000 + 17 * GROUP, GROUP):
        days.grow(range(first_id, first_id + GROUP))
    assert pq.ParquetFile(days.file).num_row_groups == 17
    assert_is_full_rewrite(days, 17 * GROUP, tmp_path)


@contextmanager
def opened(file: Path) -> Iterator[None]:
    with file.open("rb"):
        yield


@contextmanager
def mapped(file: Path) -> Iterator[None]:
    with file.open("rb") as handle:
        content = mmap.mmap(handle.fileno(), 0, prot=mmap.PROT_READ)
    with content:
        yield


@pytest.mark.parametrize("hold", [opened, mapped])
def test_a_file_that_somebody_reads_is_not_touched(ready: Days, continued: list[bool], hold: object) -> None:
    """Who opened it before it was replaced reads it to its end, hours later."""
    with hold(ready.file):  # type: ignore[operator]
        old = pq.ParquetFile(ready.file)
        for first_id in (1130, 1150):
            ready.grow(range(first_id, first_id + 20))
        assert_frame_equal(pl.DataFrame(pl.from_arrow(old.read())), day_frame(range(1000, 1130)))
        old.close()
        assert continued == [True, False]
    ready.grow(range(1170, 1190))
    assert continued == [True, False, True]


def test_a_backup_of_hard_links_does_not_change(ready: Days, continued: list[bool], tmp_path: Path) -> None:
    """A link to the file of today, made before or after it is replaced."""
    backup = tmp_path / "backup"
    os.link(ready.file, backup)
    before = backup.read_bytes()
    for first_id in (1130, 1150, 1170):
        ready.grow(range(first_id, first_id + 20))
    assert backup.read_bytes() == before
    assert continued == [True, False, True]
    os.link(ready.twins()[0], tmp_path / "of-the-twin")
    ready.grow(range(1190, 1210))
    assert continued[-1] is False


def altered(days: Days) -> None:
    (twin,) = days.twins()
    stat = twin.stat()
    body = bytearray(twin.read_bytes())
    body[100] ^= 1
    twin.write_bytes(body)
    os.utime(twin, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def removed(days: Days) -> None:
    days.twins()[0].unlink()


def replaced_by_a_link(days: Days) -> None:
    (twin,) = days.twins()
    aside = twin.rename(twin.with_name("aside"))
    twin.symlink_to(aside)


def another_whole_file(days: Days) -> None:
    (twin,) = days.twins()
    other = Days.at(days.manager.directory / "other")
    other.manager.append(DAY, day_frame([*range(1000, 1050), *range(1060, 1110)]))
    twin.write_bytes(other.file.read_bytes())
    shutil.rmtree(days.manager.directory / "other")


def written_by_another(days: Days) -> None:
    days.manager.append(DAY, day_frame(range(1130, 1140)))


@pytest.mark.parametrize("change", [altered, removed, replaced_by_a_link, another_whole_file, written_by_another])
def test_what_is_not_as_it_was_left_is_no_twin(
    ready: Days, continued: list[bool], change: object, tmp_path: Path
) -> None:
    """The day is written anew, whole."""
    change(ready)  # type: ignore[operator]
    ready.grow(range(1140 if change is written_by_another else 1130, 1150))
    assert continued == [False]
    assert_is_full_rewrite(ready, 150, tmp_path)


def test_late_rows_within_the_file_are_a_full_rewrite(days: Days, continued: list[bool], tmp_path: Path) -> None:
    """Its row groups move."""
    days.grow(range(1000, 1100))
    days.append([*range(1101, 1130)])
    days.save()
    days.append([*range(1130, 1150)])
    days.save()
    days.append([1100])
    days.save()
    assert days.twins() == []
    assert continued == [False, True]
    assert_is_full_rewrite(days, 150, tmp_path)


def test_a_day_that_is_over_leaves_no_twin(ready: Days) -> None:
    """Its last file is written as ever, with a digest of its rows."""
    later = DAY + timedelta(days=1)
    start, end = DayStart(DAY, 1000), DayStart(later, 1130)
    ready.waiting.save(ready.manager, Addition(BTC, DAY, day_frame([]), frozenset({start, end})))
    assert ready.manager.facts(DAY).sealed
    assert ready.twins() == []


def test_an_instrument_that_is_removed_leaves_no_twin(ready: Days, tmp_path: Path) -> None:
    """The twins of other instruments stay."""
    other = Instrument.parse("spot:BTCUSDT1")
    ready.waiting.leave(BackfillCacheManager(instrument_directory(tmp_path, other), other))
    assert len(ready.twins()) == 1
    ready.waiting.leave(ready.manager)
    assert ready.twins() == []


def test_encrypted_days_have_no_twins(tmp_path: Path) -> None:
    """Arrow cannot go on with one."""
    days = Days.at(tmp_path, encrypting(OLD))
    for first_id in (1000, 1090, 1100):
        days.grow(range(first_id, first_id + 90 if first_id == 1000 else first_id + 10))
    assert days.twins() == []


def test_a_run_whose_files_nobody_awaits_has_no_twins(tmp_path: Path) -> None:
    """Nor has one that writes a file with each save."""
    for number, save_s in enumerate((0.0, float("inf"))):
        days = Days(Days.at(tmp_path / str(number)).manager, WaitingDays(save_s))
        for first_id in range(1000, 1150, 50):
            days.grow(range(first_id, first_id + 50))
        assert days.twins() == []


def test_twins_end_with_their_process_and_those_of_a_dead_one_are_swept(ready: Days) -> None:
    """By name they are temporary files."""
    (twin,) = ready.twins()
    body = twin.read_bytes()
    ready.waiting = WaitingDays(300.0)
    assert ready.twins() == []
    twin.write_bytes(body)
    assert sweep_temporary_files(ready.manager.directory.parent.parent) == [twin]


class Full(OSError):
    """A disk without room."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["fsync", "rename", "truncate"])
def test_a_disk_that_refuses_leaves_the_file_and_gets_the_room_of_the_twin(
    ready: Days, call: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next attempt writes the whole day."""
    before = ready.file.read_bytes()
    ready.append(range(1130, 1150))

    def refuse(*_: object) -> None:
        raise Full

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="No space left"):
        match call:
            case "rename":
                patch.setattr(Path, "replace", refuse)
            case "fsync":
                patch.setattr(os, "fsync", refuse)
            case _:
                patch.setattr(ContinuedDayWriter, "_join", refuse)
        ready.save()
    assert ready.file.read_bytes() == before
    assert ready.twins() == []
    ready.save()
    assert_is_full_rewrite(ready, 150, tmp_path)


def test_a_journal_that_finds_no_room_gets_that_of_the_twin(ready: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Full

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="No space left"):
        patch.setattr(os, "fdatasync", refuse)
        ready.append(range(1130, 1150))
    assert ready.twins() == []


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        ("1 1 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw\n", "ext4"),
        ("1 1 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / {place} rw - nfs4 host:/x rw\n", "nfs4"),
        ("2 1 0:9 / {place} rw - nfs4 host:/x rw\n3 2 0:9 / {place} rw - fuse.sshfs host:/x rw\n", "fuse.sshfs"),
        ("", ""),
    ],
)
def test_only_where_all_readers_are_known_is_a_file_known_to_be_closed(
    kinds: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of nested mounts the inmost counts, and of those at one place the last."""
    place = tmp_path / "a b"
    place.mkdir()
    file = place / "file"
    file.write_bytes(b"x")
    assert is_known_to_be_closed(file)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(kinds.format(place=str(place).replace(" ", r"\040")))
    monkeypatch.setattr(open_files, "_MOUNTS", mounts)
    assert open_files._kind_at(place) == kind
    assert is_known_to_be_closed(file) is (kind == "ext4")


# -- the law


@dataclass
class World:
    """One process with twins, and one without; who opened the file meanwhile, and what was in it."""

    ours: Days
    plain: Days
    next_id: int = 1000
    skipped: list[int] = field(default_factory=list)
    held: list[tuple[pq.ParquetFile, pl.DataFrame]] = field(default_factory=list)

    def append(self, ids: range | list[int]) -> None:
        for each in (self.ours, self.plain):
            each.append(ids)

    def grow(self, rows: int, skip: int) -> None:
        self.skipped += range(self.next_id, self.next_id + skip)
        self.next_id += skip
        self.append(range(self.next_id, self.next_id + rows))
        self.next_id += rows

    def fill(self, number: int) -> None:
        if self.skipped:
            self.append([self.skipped.pop(number % len(self.skipped))])

    def save(self) -> None:
        for each in (self.ours, self.plain):
            each.save()

    def restart(self) -> None:
        for each in (self.ours, self.plain):
            each.waiting = WaitingDays(300.0)
        self.plain.waiting._twins = None

    def fail(self, after: int) -> None:
        """The disk refuses one call of the next save; rows that wait are saved by a later one."""
        with pytest.MonkeyPatch.context() as patch:
            fsync, calls = os.fsync, iter(range(1000))

            def refuse(descriptor: int) -> None:
                if next(calls) == after:
                    raise Full
                fsync(descriptor)

            patch.setattr(os, "fsync", refuse)
            with suppress(StoreError):
                self.ours.save()

    def hold(self, *_: object) -> None:
        self.held.append((pq.ParquetFile(self.ours.file), pl.read_parquet(self.ours.file)))

    def release(self) -> None:
        if self.held:
            self.held.pop(0)[0].close(force=True)

    def check(self, *, is_saved: bool) -> None:
        for file, rows in self.held:
            assert_frame_equal(pl.DataFrame(pl.from_arrow(file.read())), rows)
        if not is_saved:
            return
        assert self.ours.file.read_bytes() == self.plain.file.read_bytes()
        assert self.ours.manager.load_cached_trades(DAY).equals(self.plain.manager.load_cached_trades(DAY))  # type: ignore[union-attr, arg-type]


STEPS = st.one_of(
    st.tuples(st.just("grow"), st.integers(1, 60), st.sampled_from([0, 0, 0, 3])),
    st.tuples(st.just("save")),
    st.tuples(st.just("save")),
    st.tuples(st.sampled_from(["hold", "release", "restart"])),
    st.tuples(st.just("fill"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 2)),
)


@settings(max_examples=effort(5, 300), deadline=None)
@given(st.lists(STEPS, min_size=6, max_size=16))
def test_law_any_sequence_of_saves_makes_the_files_of_full_rewrites(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    """With rows that follow and rows that come late, disks that refuse, restarts, and readers that stay for long."""
    place = tmp_path_factory.mktemp("law")
    world = World(Days.at(place / "ours"), Days.at(place / "plain"))
    world.plain.waiting._twins = None
    world.grow(100, 0)
    for name, *numbers in steps:
        getattr(world, name)(*numbers)
        world.check(is_saved=name == "save")
    world.save()
    world.check(is_saved=True)
