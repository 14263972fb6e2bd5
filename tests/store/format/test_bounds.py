"""A small file cannot make the reader allocate gigabytes."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.certificate import Provenance
from backfilld.errors import DayLocked
from backfilld.store.format.bounds import MAX_CHUNK_BYTES, check_row_group
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.dayfile import DayWriter
from backfilld.store.format.footer import UntrustedFile
from tests.fakes import DAY, DAY_MS, Tape


def written(directory: Path, rows: int = 300_000) -> Path:
    path = directory / "day.parquet"
    with DayWriter(path, DAY) as writer:
        writer.add(Tape.even(rows, start_ms=DAY_MS, step_ms=1).frame)
        writer.finish(Provenance())
    return path


def test_a_footer_of_gigabytes_in_a_sparse_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "day.parquet"
    with path.open("wb") as file:
        file.write(b"PAR1")
        file.truncate(3 << 40)
        file.seek(0, io.SEEK_END)
        file.write((1 << 30).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(UntrustedFile, match="a footer of 1073741824 bytes"):
        DayReader(path, DAY, None)


def test_an_encrypted_file_that_no_key_opens_is_locked_whatever_footer_it_names(tmp_path: Path) -> None:
    path = tmp_path / "day.parquet"
    path.write_bytes(b"PARE" + bytes(3000) + b"\xff\xff\xff\x7fPARE")
    with pytest.raises(DayLocked):
        DayReader(path, DAY, None)


def test_a_day_file_with_a_hole_of_terabytes_is_not_hashed(tmp_path: Path) -> None:
    """Its footer is that of a good day; its digest would have taken hours."""
    path = written(tmp_path, 100)
    body = path.read_bytes()
    footer = int.from_bytes(body[-8:-4], "little") + 8
    with path.open("r+b") as file:
        file.seek(1 << 40)
        file.write(body[-footer:])
    with pytest.raises(UntrustedFile, match="its row groups take"):
        DayReader(path, DAY, None)


def check(path: Path) -> None:
    with path.open("rb") as file:
        metadata = pq.ParquetFile(path).metadata
        for number in range(metadata.num_row_groups):
            check_row_group(file, metadata, number)


def test_day_files_are_within_the_bounds(tmp_path: Path) -> None:
    check(written(tmp_path))


@pytest.mark.parametrize("codec", ["snappy", "gzip", "none"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_of_either_version_and_any_codec_are_measured(
    tmp_path: Path, codec: Literal["snappy", "gzip", "none"], version: Literal["1.0", "2.0"]
) -> None:
    path = tmp_path / "file.parquet"
    table = pa.table({"a": list(range(100_000)), "b": [True, None] * 50_000, "s": ["text"] * 100_000})
    pq.write_table(table, path, compression=codec, data_page_version=version, data_page_size=10_000)
    check(path)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_page_that_would_decode_to_gigabytes_is_refused(tmp_path: Path, version: Literal["1.0", "2.0"]) -> None:
    """200 million equal values: a few kB on disk."""
    path = tmp_path / "bomb.parquet"
    values = pa.array([0]).take(pa.array([0] * 2_000_000))
    table = pa.table({"a": values})
    pq.write_table(
        table, path, compression="zstd", use_dictionary=False, data_page_version=version, data_page_size=1 << 30,
        row_group_size=1 << 30,
    )  # fmt: skip
    assert path.stat().st_size < MAX_CHUNK_BYTES / 20
    with pytest.raises(UntrustedFile):
        check(path)


def test_a_page_header_that_lies_is_refused_though_the_footer_does_not(tmp_path: Path) -> None:
    path = tmp_path / "lie.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path, compression="none", use_dictionary=False)
    body = path.read_bytes()
    # A header begins with the page type and the decoded size, 8000 values' bytes and a few more, as a varint.
    metadata = pq.ParquetFile(path).metadata
    start = metadata.row_group(0).column(0).data_page_offset
    assert body[start : start + 3] == b"\x15\x00\x15"
    size = body[start + 3 : start + 6]
    forged = body[: start + 3] + (b"\xfe\xff\x7f" if len(size) == 3 else size) + body[start + 6 :]
    path.write_bytes(forged)
    with path.open("rb") as file, pytest.raises(UntrustedFile):
        check_row_group(file, metadata, 0)


@given(noise=st.binary(min_size=1, max_size=200), place=st.integers(0, 3000))
def test_damaged_page_headers_are_refused_or_measured_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.parquet"
    if not path.exists():
        pq.write_table(pa.table({"a": list(range(1000))}), path, compression="none")
    metadata = pq.ParquetFile(path).metadata
    body = bytearray(path.read_bytes())
    body[place : place + len(noise)] = noise
    with suppress(UntrustedFile):
        check_row_group(io.BytesIO(bytes(body)), metadata, 0)
