"""Zips that mean harm: refused by their directory, before anything of them is unpacked."""

import io
import struct
import threading
import zipfile
from pathlib import Path

import pytest

from backfilld.errors import ArchiveError
from backfilld.store.archive_import import archive_csv, archive_zip
from backfilld.store.archive_import.archive_csv import trade_frames
from backfilld.store.archive_import.archive_zip import MOST_ENTRIES, unpacking

ROW = b"%d,1.5,2.5,%d,%d,1767225600000000,True,True\n"
ROWS = b"".join(ROW % (number, number, number) for number in range(3000))


def zipped(path: Path, *members: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for number, member in enumerate(members):
            archive.writestr(f"{number}.csv", member)
    return path


def read(path: Path) -> int:
    return sum(frame.height for frame in trade_frames(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("spoilt", [False, True])
def test_only_stored_and_deflated_members_are_read(tmp_path: Path, method: int, *, spoilt: bool) -> None:
    """Damaged data of the other kinds raises what the disk raises, or what nobody expects."""
    path = zipped(tmp_path / "a.zip", ROWS, method=method)
    if spoilt:
        content = bytearray(path.read_bytes())
        content[60:120] = b"\xff" * 60
        path.write_bytes(content)
    with pytest.raises(ArchiveError, match="neither stored nor deflated"):
        read(path)


def test_stored_and_deflated_members_are_read(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert read(zipped(tmp_path / f"{method}.zip", ROWS, method=method)) == 3000


def test_many_entries_are_refused_before_they_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", *[b"1"] * (MOST_ENTRIES + 1))

    def listed(*_: object) -> None:
        raise AssertionError("the directory was read")

    monkeypatch.setattr(zipfile, "ZipFile", listed)
    with pytest.raises(ArchiveError, match="more than 16 entries"):
        read(path)


def test_a_directory_that_denies_its_size_is_refused(tmp_path: Path) -> None:
    """One entry by its word, and more bytes than one entry can have; or the word of zip64, which stands before it."""
    path = zipped(tmp_path / "a.zip", ROWS)
    content = path.read_bytes()
    large = content[:-10] + struct.pack("<I", 1 << 30) + content[-6:]
    locator = b"PK\x06\x07" + bytes(16)
    zip64 = content[:-22] + locator + content[-22:]
    for changed in (large, zip64):
        path.write_bytes(changed)
        with pytest.raises(ArchiveError, match="more than 16 entries"):
            read(path)


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """Two entries that unpack the same bytes: a small zip of many such unpacks to terabytes."""
    content = zipped(tmp_path / "a.zip", ROWS).read_bytes()
    start = content.rindex(b"PK\x01\x02")
    entry, end = content[start:-22], content[-22:]
    twice = content[:start] + entry + entry
    end = end[:8] + struct.pack("<HHI", 2, 2, 2 * len(entry)) + end[16:]
    (tmp_path / "b.zip").write_bytes(twice + end)
    with pytest.raises(ArchiveError, match="overlaps"):
        read(tmp_path / "b.zip")


def test_a_member_that_grows_beyond_reason_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ROW % (1, 1, 1) * 500_000)
    with pytest.raises(ArchiveError, match="unpacks to"):
        read(path)


def test_a_zip_larger_than_any_day_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_zip, "MOST_CSV_BYTES", len(ROWS) - 1)
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        read(zipped(tmp_path / "a.zip", ROWS))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\0" * 100_000, b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_not_a_zip_is_an_archive_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ArchiveError):
        read(tmp_path / "a.zip")


def test_any_single_byte_changed_is_an_archive_error_or_no_matter(tmp_path: Path) -> None:
    content = zipped(tmp_path / "a.zip", ROWS[:2000]).read_bytes()
    path = tmp_path / "b.zip"
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        try:
            read(path)
        except ArchiveError as error:
            assert str(error).isprintable()  # noqa: PT017 - both ends are good


def test_reading_starts_no_thread_that_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that ends while a thread of Arrow reads is aborted. Those that unpack and parse are Python's."""
    monkeypatch.setattr(archive_csv, "BLOCK_BYTES", 1000)
    frames = trade_frames(zipped(tmp_path / "a.zip", ROWS))
    before = threading.active_count()
    next(frames)
    assert threading.active_count() == before + 2
    frames.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("block", [100, 997, 1 << 21])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_blocks_of_any_size_are_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: str, bom: bytes
) -> None:
    monkeypatch.setattr(archive_csv, "BLOCK_BYTES", block)
    text = bom + ROWS[: 62 * 40].replace(b"\n", end.encode())
    whole = text[: text.rindex(end.encode())]
    path = zipped(tmp_path / "a.zip", whole)
    assert read(path) == whole.count(b"\n") + 1


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_csv, "BLOCK_BYTES", 1000)
    noise = io.BytesIO(bytes(48 + number * 7 % 10 for number in range(50_000))).getvalue()
    with pytest.raises(ArchiveError):
        read(zipped(tmp_path / "a.zip", b"1,1,1,1,1,1,True,True\n" + noise))


def test_what_is_deflated_is_unpacked_by_isa_l_where_it_is_there(tmp_path: Path) -> None:
    isal_zlib = pytest.importorskip("isal.isal_zlib", reason="ISA-L has no wheel for this platform")
    path = zipped(tmp_path / "a.zip", ROWS)
    with zipfile.ZipFile(path) as archive, unpacking(archive, archive.infolist()[0]) as packed:
        assert isinstance(packed._decompressor, type(isal_zlib.decompressobj()))  # type: ignore[attr-defined]
        assert packed.read() == archive.read(archive.infolist()[0])
