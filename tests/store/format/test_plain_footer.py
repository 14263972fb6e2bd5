"""The footer of a plain day file, read without Arrow, says what Arrow reads of it, or nothing."""

import io
import os
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.day.certificate import Provenance, Suspicion
from backfilld.core.model import IdRange, Instrument
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.dayfile import DayWriter, Encoding
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.plain_footer import footer_in, plain_certificate, plain_footer
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame
from tests.store.keyrings import OLD, encrypting

COINS = Instrument.parse("um:BTCUSDT")


def written(path: Path, trades: pl.DataFrame, encoding: Encoding | None = None) -> bytes:
    """A day file with all that a certificate can say."""
    starts = starts_at(DAY, int(trades["a"][0]))
    known = Provenance(starts, absent=(IdRange(1, 5),), suspected=(Suspicion(IdRange(7, 7), 9),))
    with DayWriter(path, DAY, SPOT, encoding) as writer:
        writer.add(trades)
        writer.finish(known)
    return path.read_bytes()


@pytest.mark.parametrize("compression", ["zstd", "snappy", "lz4", "gzip", "none"])
@pytest.mark.parametrize("ids", [[1000], range(1000, 1300), [1000, 1003, 1004], range(1000, 141_000)])
def test_what_this_program_writes_is_read_as_arrow_reads_it(
    tmp_path: Path, compression: str, ids: list[int] | range
) -> None:
    path = tmp_path / "day"
    body = written(path, day_frame(ids), Encoding(compression))  # type: ignore[arg-type]  # parametrized
    with DayReader(path, DAY, SPOT) as reader:
        assert plain_certificate(path, DAY, SPOT) == (reader.certificate, len(body))
    footer, arrow = plain_footer(footer_in(body) or b""), pq.read_metadata(io.BytesIO(body))
    assert footer is not None
    assert (footer.rows, len(footer.groups)) == (arrow.num_rows, arrow.num_row_groups)
    columns = [arrow.row_group(number).column(at) for number in range(arrow.num_row_groups) for at in range(8)]
    for chunk, column in zip(footer.chunks(), columns, strict=True):
        start = column.dictionary_page_offset or column.data_page_offset
        stop = start + column.total_compressed_size
        assert chunk == (start, stop, column.num_values, column.has_dictionary_page)


def test_a_long_certificate_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "day"
    written(path, day_frame(range(1000, 5000, 2)))
    with DayReader(path, DAY, SPOT) as reader:
        found = plain_certificate(path, DAY, SPOT)
        assert found is not None
        assert found[0] == reader.certificate
    assert len(found[0].holes) == 1999


@pytest.mark.parametrize("rest", ["text", "link", "pipe", "directory", "nothing", "encrypted", "foreign", "empty"])
def test_what_is_not_such_a_file_has_no_answer(tmp_path: Path, rest: str) -> None:
    path, other = tmp_path / "day", tmp_path / "other"
    match rest:
        case "text":
            path.write_text("cut")
        case "link":
            written(other, day_frame([1000]))
            path.symlink_to(other)
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "encrypted":
            written(path, day_frame([1000]), encrypting(OLD))
        case "foreign":
            day_frame([1000]).write_parquet(path)
        case "empty":
            path.touch()
    assert plain_certificate(path, DAY, SPOT) is None


def test_a_file_of_another_day_or_instrument_has_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "day"
    written(path, day_frame([1000]))
    assert plain_certificate(path, DAY, SPOT) is not None
    assert plain_certificate(path, DAY + timedelta(days=1), SPOT) is None
    assert plain_certificate(path, DAY, COINS) is None


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 1 << 20), byte=st.integers(1, 255), is_cut=st.booleans())
def test_a_damaged_footer_says_what_arrow_reads_of_it_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int, is_cut: bool
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "day"
    body = bytearray(written(path, day_frame(range(1000, 1020))))
    start = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    place = start + place % (len(body) - start)
    if is_cut:
        del body[place:]
    else:
        body[place] ^= byte
    path.write_bytes(body)
    found = plain_certificate(path, DAY, SPOT)
    if found is not None:
        with DayReader(path, DAY, SPOT) as reader:
            assert found == (reader.certificate, len(body))


def test_a_row_group_of_impossible_size_has_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "day"
    body = written(path, day_frame(range(1000, 1020)))
    # 20 rows, as the row group says it: field 3, and the number with its sign in the lowest bit.
    assert body.count(b"\x16\x28&") == 1
    path.write_bytes(body.replace(b"\x16\x28&", b"\x16\x00&"))
    assert plain_certificate(path, DAY, SPOT) is None
    with pytest.raises(UntrustedFile):
        DayReader(path, DAY, SPOT)
