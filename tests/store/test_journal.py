"""The journal of a day: what was appended is read again, whatever a crash or a bad disk left of its end."""

import errno
import os
import stat
import struct
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.day.certificate import Source, Suspicion
from backfilld.core.day.start import DayStart
from backfilld.core.frame import empty_trades
from backfilld.core.model import IdRange
from backfilld.errors import StoreError
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.journal import JournalWriter, Record, ascending, reading_journal, remove_journal
from backfilld.store.journal_records import HEADER, Note, has_first_record
from tests.effort import effort
from tests.store.frames import day_frame


def read_journal(path: Path) -> list[tuple[Note, pl.DataFrame]]:
    """The records of a journal, with their rows."""
    with reading_journal(path) as records:
        return [(each.note, each.read()) for each in records]


NOTE = Note(
    Source("archive", "ab" * 32),
    (DayStart(date(2025, 11, 7), 1000),),
    (IdRange(7, 9),),
    (Suspicion(IdRange(11, 11), 5),),
)
# Every byte is tried in `make test-thorough`; in each run every few, and where the records end.
STEP = effort(quick=7, thorough=1)
PIECES = [day_frame(range(1000, 1040)), day_frame(range(900, 905)), day_frame(range(1040, 1041))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal goes, in a directory that does not exist yet."""
    return tmp_path / "journal" / "2025-11-07.journal"


def appended(path: Path, pieces: list[pl.DataFrame]) -> list[int]:
    """Append the pieces; return where each record ends, in bytes."""
    with JournalWriter(path) as journal:
        ends = []
        for piece in pieces:
            journal.append(NOTE, piece)
            ends.append(journal.size_bytes)
    return ends


def assert_reads(path: Path, pieces: list[pl.DataFrame]) -> None:
    """The journal holds exactly these pieces, in this sequence."""
    records = read_journal(path)
    assert len(records) == len(pieces)
    for record, piece in zip(records, pieces, strict=True):
        assert_frame_equal(record[1], piece)
        assert record[0] == NOTE


def test_what_was_appended_is_read(path: Path) -> None:
    """Rows and notes, of entries without rows too, over several openings."""
    pieces = [*PIECES, empty_trades()]
    for piece in pieces:
        appended(path, [piece])
    assert_reads(path, pieces)


def test_a_journal_that_does_not_exist_is_empty(path: Path) -> None:
    """Readers need no journal, and removing one twice is nothing."""
    assert read_journal(path) == []
    path.parent.mkdir()
    remove_journal(path)


def test_a_journal_cut_at_any_byte_keeps_every_whole_record(path: Path) -> None:
    """A crash may leave any prefix. Readers see the records that are whole; a writer cuts the rest off and goes on."""
    ends = appended(path, PIECES)
    body = path.read_bytes()
    for size in sorted({*range(0, len(body), STEP), *ends}):
        path.write_bytes(body[:size])
        whole = PIECES[: sum(end <= size for end in ends)]
        assert_reads(path, whole)
        if size % (97 * STEP) == 0 or size in ends:
            appended(path, PIECES[2:])
            assert_reads(path, [*whole, *PIECES[2:]])


def test_a_flipped_bit_ends_the_journal_there(path: Path) -> None:
    """No byte of a record can change without the record being refused; those before it stay."""
    ends = appended(path, PIECES)
    body = path.read_bytes()
    for place in range(len(HEADER), len(body), STEP):
        damaged = bytearray(body)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert_reads(path, PIECES[: sum(end <= place for end in ends)])


def test_zeros_after_a_power_cut_are_a_torn_end(path: Path) -> None:
    """A file system may have grown the file and not written its content."""
    appended(path, PIECES)
    with path.open("ab") as file:
        file.write(bytes(5000))
    assert_reads(path, PIECES)
    with JournalWriter(path) as journal:
        assert path.stat().st_size == journal.size_bytes


def test_a_full_disk_costs_only_the_append_that_met_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a record stays on the disk; the next append takes its place."""
    whole_write = os.pwrite

    def half_then_full(descriptor: int, content: memoryview, offset: int) -> int:
        if len(content) < 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole_write(descriptor, content[: len(content) // 2], offset)

    with JournalWriter(path) as journal:
        journal.append(NOTE, PIECES[0])
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", half_then_full)
            with pytest.raises(StoreError, match="No space left"):
                journal.append(NOTE, PIECES[0])
        assert_reads(path, PIECES[:1])
        journal.append(NOTE, PIECES[2])
        assert path.stat().st_size == journal.size_bytes, "nothing of the half record is left behind it"
    assert_reads(path, [PIECES[0], PIECES[2]])


def test_only_its_owner_can_read_a_journal(path: Path) -> None:
    """Whatever the umask is."""
    appended(path, PIECES)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["link", "loop", "fifo", "directory"])
def test_what_is_no_journal_has_no_first_record(path: Path, kind: str) -> None:
    """A list of the days waited for the other end of a pipe."""
    appended(path.with_name("victim"), PIECES)
    make: dict[str, Callable[[], None]] = {
        "link": lambda: path.symlink_to("victim"),
        "loop": lambda: path.symlink_to(path),
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }
    make[kind]()
    assert not has_first_record(path)
    assert has_first_record(path.with_name("victim"))


def test_a_record_of_gigabytes_ends_the_journal_unread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse file has room for every length that a record names."""
    end = appended(path, PIECES)[-1]
    with path.open("r+b") as file:
        file.seek(end)
        file.write(struct.pack("<4sIIII", b"BfJ1", 0, (1 << 32) - 1, 1, 0))
        file.truncate(8 << 30)
    read, sizes = os.pread, list[int]()

    def counted(descriptor: int, size: int, place: int) -> bytes:
        sizes.append(size)
        return read(descriptor, min(size, 1 << 20), place)

    monkeypatch.setattr(os, "pread", counted)
    assert_reads(path, PIECES)
    assert max(sizes) < 1 << 20


def test_a_disk_that_gives_a_part_at_a_time_tears_no_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for readers nor for a writer, which would cut the rest off."""
    with monkeypatch.context() as patch:
        read, write = os.pread, os.pwrite
        patch.setattr(os, "pread", lambda descriptor, size, place: read(descriptor, min(size, 7), place))
        patch.setattr(os, "pwrite", lambda descriptor, content, place: write(descriptor, content[:7], place))
        appended(path, PIECES[:2])
        appended(path, PIECES[2:])
        assert_reads(path, PIECES)
        assert has_first_record(path)
    assert_reads(path, PIECES)


def test_a_torn_end_that_is_cut_off_while_it_is_read_is_no_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the writer beside the reader, which has seen the size of before."""
    end = appended(path, PIECES)[-1]
    with path.open("ab") as file:
        file.write(b"BfJ1" + bytes(40))
    read = os.pread

    def cut(descriptor: int, size: int, place: int) -> bytes:
        os.truncate(path, end)
        return read(descriptor, size, place)

    monkeypatch.setattr(os, "pread", cut)
    assert_reads(path, PIECES)


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_is_not_a_plain_file_is_refused(path: Path, kind: str) -> None:
    """A link is not followed, and a FIFO does not hang; both stay as they are."""
    path.parent.mkdir()
    victim = path.with_name("victim")
    victim.write_text("precious")
    if kind == "link":
        path.symlink_to(victim)
    else:
        os.mkfifo(path)
    with pytest.raises(StoreError):
        JournalWriter(path)
    with pytest.raises(UntrustedFile, match="regular file"):
        read_journal(path)
    assert victim.read_text() == "precious"


@given(st.lists(st.sets(st.integers(1000, 1060), max_size=20), max_size=8))
def test_rows_of_all_records_ascend_and_each_comes_once(saves: list[set[int]]) -> None:
    """Whatever overlaps or comes late: the pieces together are the union, by id."""
    records = [Record.of(NOTE, day_frame(sorted(ids))) for ids in saves]
    pieces = [piece.trades for piece in ascending(records)]
    found = pl.concat([empty_trades(), *pieces])
    assert_frame_equal(found, day_frame(sorted(set[int]().union(*saves))))


def test_of_two_versions_of_a_row_the_first_appended_stays() -> None:
    """As in the day file: a row that is stored is not replaced, whichever record begins lower."""
    first = day_frame([1005, 1006])
    other = day_frame([1000, 1005]).with_columns(p=pl.lit(999.0))
    pieces = list(ascending([Record.of(NOTE, first), Record.of(NOTE, other)]))
    found = pl.concat(piece.trades for piece in pieces)
    assert found.filter(pl.col("a") == 1005)["p"].to_list() == first["p"].head(1).to_list()
    assert_frame_equal(pl.concat(piece.conflicts for piece in pieces), other[1:])


def test_records_that_do_not_interleave_are_not_joined_in_memory() -> None:
    """The pages of a backfill follow each other: the pieces stay as small as the records."""
    saves = [range(start, start + 10) for start in range(1000, 1100, 10)]
    pieces = list(ascending([Record.of(NOTE, day_frame(ids)) for ids in saves]))
    assert [piece.trades.height for piece in pieces] == [10] * 10


def test_a_journal_of_a_newer_version_is_refused_and_stays(path: Path) -> None:
    """A downgrade must not cut off what a newer program wrote."""
    path.parent.mkdir()
    path.write_bytes(b"backfilld journal 3\nwhatever follows")
    with pytest.raises(UntrustedFile, match="another version"):
        JournalWriter(path)
    with pytest.raises(UntrustedFile, match="another version"):
        read_journal(path)
    assert path.read_bytes() == b"backfilld journal 3\nwhatever follows"


def test_a_whole_record_that_is_nonsense_is_refused(path: Path) -> None:
    """Rows that descend, with a right CRC: somebody else wrote them."""
    with JournalWriter(path) as journal:
        journal.append(NOTE, PIECES[0].reverse())
    with pytest.raises(UntrustedFile, match="ascending"):
        read_journal(path)


def test_an_owner_that_knows_the_size_appends_without_reading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append costs what is new, however long the journal is."""
    with JournalWriter(path) as journal:
        journal.append(NOTE, PIECES[0])
    monkeypatch.setattr(os, "pread", None)
    with JournalWriter(path, journal.size_bytes) as again:
        again.append(NOTE, PIECES[2])
    monkeypatch.undo()
    assert_reads(path, [PIECES[0], PIECES[2]])


@pytest.mark.parametrize("place", ["symbol=ETHUSDT/2025-11-07.journal", "symbol=BTCUSDT/2025-11-08.journal"])
def test_the_journal_of_another_instrument_or_day_is_refused(tmp_path: Path, place: str) -> None:
    """Its rows were taken for this one's."""
    path = tmp_path / "market=spot/symbol=BTCUSDT/2025-11-07.journal"
    appended(path, PIECES)
    other = tmp_path / "market=spot" / place
    other.parent.mkdir(exist_ok=True)
    path.rename(other)
    with pytest.raises(UntrustedFile, match="2025-11-07"):
        read_journal(other)
    moved = tmp_path / "cache" / "market=spot/symbol=BTCUSDT/2025-11-07.journal"
    moved.parent.mkdir(parents=True)
    other.rename(moved)
    assert_reads(moved, PIECES)
