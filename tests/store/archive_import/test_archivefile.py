"""Reading a published day: whatever shape and order it has, its rows, in order, each id once; and what was wrong."""

import random
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.model import IdRange, day_start_ms, day_stop_ms
from backfilld.errors import ArchiveError, StoreError
from backfilld.store.archive_import import archive_csv, archivefile
from backfilld.store.archive_import.archive_findings import Findings
from backfilld.store.archive_import.archivefile import ArchiveDay
from tests.effort import effort
from tests.store.archives import HEADER, lines_of, marker, published, zipped
from tests.store.frames import DAY, day_frame

DATA = Path(__file__).parents[3] / "shared" / "data"


def read(path: Path, day: date = DAY) -> tuple[pl.DataFrame, Findings]:
    archive = ArchiveDay(path, day)
    return archive.read(lambda frames: pl.concat(list(frames), rechunk=True)), archive.findings


def ranges(*pairs: tuple[int, int]) -> tuple[IdRange, ...]:
    return tuple(IdRange(first, last) for first, last in pairs)


def refused(path: Path) -> ArchiveError:
    with pytest.raises(ArchiveError) as raised:
        read(path)
    assert path.name in str(raised.value)
    return raised.value


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of some twelve rows and buckets of thirty, so that hundreds of rows have many."""
    monkeypatch.setattr(archive_csv, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(archivefile, "BUCKET_ROWS", 30)


# -- shapes


@pytest.mark.parametrize("us", [False, True])
@pytest.mark.parametrize("futures", [False, True])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("beginning", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_every_known_shape_has_the_same_rows(
    tmp_path: Path, us: bool, futures: bool, header: bool, newline: str, beginning: str, end: str
) -> None:
    tape = day_frame(range(1000, 1100))
    names = HEADER if futures else f"{HEADER},is_best_match"
    lines = ([names] if header else []) + lines_of(tape, us=us, futures=futures)
    trades, findings = read(zipped(tmp_path / "day.zip", beginning + newline.join(lines) + end))
    assert_frame_equal(trades, tape.with_columns(M=pl.lit(value=True)) if futures else tape)
    assert findings.defects == {}
    assert findings.given == 100


def test_milliseconds_and_microseconds_are_distinguished_row_by_row(tmp_path: Path) -> None:
    tape = day_frame(range(1000, 1100))
    lines = lines_of(tape[:50]) + lines_of(tape[50:], us=True)
    assert_frame_equal(read(zipped(tmp_path / "day.zip", lines))[0], tape)


@pytest.mark.parametrize("parts", [(range(1000, 1060), range(1060, 1100)), (range(1060, 1100), range(1000, 1060))])
@pytest.mark.usefixtures("small_pieces")
def test_all_csvs_of_a_zip_are_read_whatever_their_order(tmp_path: Path, parts: tuple[range, range]) -> None:
    path = zipped(tmp_path / "day.zip", *(lines_of(day_frame(part)) for part in parts))
    assert_frame_equal(read(path)[0], day_frame(range(1000, 1100)))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        (HEADER + "\n", "empty"),
        ("1,2,3\n", "shape"),
        (HEADER.replace("agg_trade_id,price", "price,agg_trade_id") + "\n1,2,3,4,5,6,true\n", "shape"),
        ("<html>\n<body>\n", "shape"),
    ],
)
def test_a_csv_of_something_else_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    assert refused(zipped(tmp_path / "day.zip", text)).kind == kind


def test_a_zip_without_a_csv_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "day.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert refused(tmp_path / "day.zip").kind == "shape"


def test_a_file_that_is_not_there_is_the_disks_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read"):
        read(tmp_path / "day.zip")


# -- values


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (0, "-1"), (0, "x"), (0, ""), (0, "99999999999999999999"), (0, "1.5"),
        (1, "-0.1"), (1, "nan"), (1, "inf"), (1, ""), (1, "1,5"), (1, "abc"),
        (2, "-1"), (2, "NaN"), (2, "-inf"), (2, '"1"'),
        (3, "-2"), (4, "-2"), (4, "x"),
        (5, "-5"), (5, ""), (5, "2025-11-07"),
        (6, "yes"), (6, ""), (7, "tru"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.usefixtures("small_pieces")
def test_a_value_that_cannot_be_is_named_by_line_and_column(
    tmp_path: Path, column: int, value: str, header: bool
) -> None:
    lines = lines_of(day_frame(range(1000, 1100)))
    fields = lines[57].split(",")
    fields[column] = value
    lines[57] = ",".join(fields)
    error = refused(zipped(tmp_path / "day.zip", ([f"{HEADER},is_best_match"] if header else []) + lines))
    assert error.kind == "value"
    assert f"line {59 if header else 58}" in str(error)
    if "," not in value:
        assert list(archive_csv.COLUMNS.values())[column] in str(error)


def test_a_csv_that_ends_in_the_middle_of_a_row_is_refused(tmp_path: Path) -> None:
    text = "\n".join(lines_of(day_frame(range(1000, 1100))))
    assert refused(zipped(tmp_path / "day.zip", text[:-3])).kind == "value"


# -- damage


@given(st.data())
def test_a_damaged_zip_is_refused_or_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut anywhere, or a byte changed anywhere."""
    tape = day_frame(range(1000, 1300))
    path = published(tmp_path_factory.mktemp("zip") / "day.zip", tape)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        trades, _ = read(path)
    except ArchiveError as error:
        assert error.kind in {"cut", "shape"}  # noqa: PT017 - either end is right
    else:
        assert_frame_equal(trades, tape)


def test_damage_that_shows_at_the_end_only_is_not_overlooked(tmp_path: Path) -> None:
    """A wrong CRC: every row can be read."""
    path = published(tmp_path / "day.zip", day_frame(range(1000, 1100)))
    content = bytearray(path.read_bytes())
    for place in (14, content.rindex(b"PK\x01\x02") + 16):
        content[place] ^= 1
    path.write_bytes(content)
    assert refused(path).kind == "cut"


# -- defects


@pytest.mark.usefixtures("small_pieces")
def test_each_defect_is_named_with_its_ids(tmp_path: Path) -> None:
    tape = day_frame(range(1000, 1500))
    doubled, stored = tape[100:120], tape.filter(~pl.col("a").is_between(1200, 1209) & (pl.col("a") != 1300))
    conflicting = tape[400:402].with_columns(p=pl.col("p") + 1)
    late = day_frame([1700, 1701]).with_columns(T=pl.lit(day_stop_ms(DAY)))
    empty = day_frame([1500, 1501]).with_columns(q=pl.lit(0.0))
    lines = lines_of(pl.concat([stored[:110], doubled, stored[110:], empty, conflicting, late]))
    trades, findings = read(zipped(tmp_path / "day.zip", lines))
    assert_frame_equal(trades, stored)
    assert findings.doubled.count == 20
    assert findings.doubled.ranges == ranges((1100, 1119))
    assert findings.conflicting.ranges == ranges((1400, 1401))
    assert findings.holes.ranges == ranges((1200, 1209), (1300, 1300))
    assert findings.suspect.ranges == ranges((1500, 1501))
    assert findings.outside.ranges == ranges((1700, 1701))
    assert findings.disordered.ranges == ranges((1100, 1100), (1110, 1110), (1400, 1400))
    assert set(findings.defects) == {"doubled", "conflicting", "disordered", "holes", "suspect", "outside"}
    both = findings.conflicts
    assert_frame_equal(both.filter("kept").drop("kept"), tape[400:402])
    assert_frame_equal(both.filter(~pl.col("kept")).drop("kept"), conflicting)


def test_rows_that_can_be_no_trade_are_left_out(tmp_path: Path) -> None:
    """Their ids are holes then, also at the edges of what is given."""
    tape = day_frame(range(1000, 1100)).with_columns(q=pl.when(pl.col("a") % 10 == 5).then(0.0).otherwise(pl.col("q")))
    trades, findings = read(published(tmp_path / "day.zip", tape))
    assert_frame_equal(trades, tape.filter(pl.col("q") > 0))
    assert findings.holes == findings.suspect
    assert findings.holes.count == 10


def test_markers_stay_with_their_neighbours_whatever_their_time(tmp_path: Path) -> None:
    odd = [marker(1050, day_start_ms(DAY) - 5), marker(1051, 1), marker(1100, day_stop_ms(DAY) + 5)]
    tape = pl.concat([day_frame([*range(1000, 1050), *range(1052, 1100)]), *odd]).sort("a")
    trades, findings = read(published(tmp_path / "day.zip", tape))
    assert_frame_equal(trades, tape)
    assert findings.defects == {}


def test_breaks_of_trade_ids_and_of_time_are_not_defects(tmp_path: Path) -> None:
    at = pl.col("a")
    tape = day_frame(range(1000, 1100)).with_columns(
        f=pl.when(at == 1020).then(pl.col("f") + 1).otherwise(pl.col("f")),
        T=pl.when(at == 1060).then(pl.col("T") - 100).otherwise(pl.col("T")),
    )
    trades, findings = read(published(tmp_path / "day.zip", tape))
    assert_frame_equal(trades, tape)
    assert findings.defects == {}


def test_an_id_that_was_used_on_another_day_too_is_this_days_trade(tmp_path: Path) -> None:
    """Even if the other one comes first."""
    tape = day_frame(range(1000, 1100))
    other = tape[50:51].with_columns(T=pl.col("T") + 86_400_000)
    trades, findings = read(published(tmp_path / "day.zip", pl.concat([tape[:50], other, tape[50:]])))
    assert_frame_equal(trades, tape)
    assert findings.outside.ranges == ranges((1050, 1050))
    assert findings.conflicting.count == 0


@settings(max_examples=effort(quick=20, thorough=100))
@given(st.data())
@pytest.mark.usefixtures("small_pieces")
def test_any_mixture_of_defects_gives_exactly_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Rows lost, doubled, in any order, interleaved, in one CSV or two: each id once, and every loss named."""
    ids = list(range(1000, 1000 + data.draw(st.integers(1, 400))))
    chance = random.Random(data.draw(st.integers(0, 2**16)))
    kept = [trade_id for trade_id in ids if data_is_kept(chance)] or ids[:1]
    order = kept + [trade_id for trade_id in kept if chance.random() < 0.1]
    shape = data.draw(st.sampled_from(["as it is", "shuffled", "interleaved", "rotated", "sorted"]))
    if shape == "shuffled":
        chance.shuffle(order)
    elif shape == "interleaved":
        half = len(order) // 2
        pairs = [list(pair) for pair in zip(order[:half], order[half : 2 * half], strict=True)]
        order = [each for pair in pairs for each in pair] + order[2 * half :]
    elif shape == "rotated":
        turn = data.draw(st.integers(0, len(order)))
        order = order[turn:] + order[:turn]
    elif shape == "sorted":
        order.sort()
    lines = lines_of(day_frame(order))
    split = data.draw(st.integers(0, len(lines)))
    path = zipped(tmp_path_factory.mktemp("zip") / "day.zip", lines[:split], lines[split:])
    trades, findings = read(path)
    assert_frame_equal(trades, day_frame(kept))
    assert findings.doubled.count == len(order) - len(kept)
    lost = {trade_id for each in findings.holes.ranges for trade_id in range(each.first_id, each.last_id + 1)}
    assert lost == set(range(kept[0], kept[-1] + 1)) - set(kept)
    assert findings.holes.count == len(lost)
    assert bool(findings.disordered) is (order != sorted(order))


def data_is_kept(chance: random.Random) -> bool:
    return chance.random() > 0.03


# -- the rest


def test_the_first_id_is_known_without_reading_the_file_to_its_end(tmp_path: Path) -> None:
    before = day_frame([999]).with_columns(T=pl.lit(day_start_ms(DAY) - 1))
    path = published(tmp_path / "day.zip", pl.concat([before, day_frame(range(1000, 1100))]))
    assert ArchiveDay(path, DAY).first_id() == 1000
    assert ArchiveDay(path, date(2025, 11, 6)).first_id() == 999
    assert ArchiveDay(path, date(2025, 11, 1)).first_id() is None


def test_whoever_stops_early_may_end_the_process(tmp_path: Path) -> None:
    """Arrow reads ahead on threads of its own, and an interpreter that ends under them is aborted."""
    path = published(tmp_path / "day.zip", day_frame(range(1000, 200_000)))
    program = f"""if True:
        import sys
        from datetime import date
        from pathlib import Path
        from backfilld.store.archive_import.archivefile import ArchiveDay
        def stop(frames):
            next(frames)
            sys.exit(7)
        ArchiveDay(Path({str(path)!r}), date({DAY.year}, {DAY.month}, {DAY.day})).read(stop)
    """
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (7, "")


def test_the_recorded_head_of_a_day_has_the_values_of_its_readme(tmp_path: Path) -> None:
    """Microseconds, no header, True/False: 5,000 contiguous ids, 191 rows in one millisecond, no break of trade ids."""
    recorded = DATA / "spot" / "BTCUSDT-aggTrades-2026-01-01.first5000.csv"
    if not recorded.is_file():
        pytest.skip(f"the recorded file {recorded.name} is not beside this repository")
    trades, findings = read(zipped(tmp_path / "day.zip", recorded.read_text()), date(2026, 1, 1))
    assert (trades["a"][0], trades["a"][-1], findings.given) == (3_800_397_495, 3_800_402_494, 5000)
    assert findings.defects == {}
    assert trades.group_by("T").len()["len"].max() == 191
    first = trades.row(0, named=True)
    assert first["T"] == 1_767_225_600_039
    assert (first["p"], first["q"], first["m"], first["M"]) == (87648.21, 0.08185, True, True)
    texts = [line.split(",") for line in recorded.read_text().splitlines()]
    assert trades["p"].to_list() == [float(fields[1]) for fields in texts]
    assert trades["q"].to_list() == [float(fields[2]) for fields in texts]
    assert trades["T"].to_list() == [int(fields[5]) // 1000 for fields in texts]
