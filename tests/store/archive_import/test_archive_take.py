"""A published zip taken into the cache: joined by id, REST first, with its sources and both versions of conflicts."""

import random
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.day.certificate import Source
from backfilld.core.day.start import ONE_DAY
from backfilld.core.model import MS_PER_DAY, IdRange, day_start_ms
from backfilld.errors import ArchiveError
from backfilld.store.archive_import import archive_csv, archive_take, archivefile
from backfilld.store.archive_import.archive_take import Taken, take_archive
from backfilld.store.archive_import.neighbours import neighbourhood
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.fakes import starts_at
from tests.store.archives import lines_of, published, zipped
from tests.store.frames import DAY, SPOT, day_frame

SHA, NEWER_SHA = "a" * 64, "b" * 64
ARCHIVE, NEWER, REST = Source("archive", SHA), Source("archive", NEWER_SHA), Source("rest")


def take(manager: BackfillCacheManager, frame: pl.DataFrame, sha256: str = SHA, starts: Iterable[int] = ()) -> Taken:
    path = published(manager.directory.parents[1] / "day.zip", frame)
    return take_archive(manager, path, DAY, sha256, starts_at(DAY, *starts))


def sources(taken: Taken) -> list[tuple[Source, int, int]]:
    return [(each.source, each.ids.first_id, each.ids.last_id) for each in taken.record.sources]


def stored(manager: BackfillCacheManager) -> pl.DataFrame:
    trades = manager.load_cached_trades(DAY)
    assert trades is not None
    return trades


@pytest.fixture
def cache(manager: BackfillCacheManager) -> BackfillCacheManager:
    manager.directory.mkdir(parents=True)
    return manager


def dearer(ids: Iterable[int]) -> pl.DataFrame:
    """Other trades under the same ids."""
    return day_frame(ids).with_columns(p=pl.col("p") + 1)


def test_a_day_is_sealed_from_the_zip_alone(cache: BackfillCacheManager) -> None:
    taken = take(cache, day_frame(range(1000, 1500)), starts={1000, 1500})
    assert_frame_equal(stored(cache), day_frame(range(1000, 1500)))
    assert taken.record.sealed
    assert sources(taken) == [(ARCHIVE, 1000, 1499)]
    facts = cache.facts(DAY)
    assert facts.sealed
    assert facts.digest
    assert facts.sources[0].source.sha256 == SHA
    assert (taken.cached, taken.duplicates, taken.report) == (0, 0, None)
    assert taken.bytes == cache.get_cache_path(DAY).stat().st_size


@given(st.data())
def test_any_rows_stored_and_any_published_are_joined_by_id(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever either lacks; each id has the source it came from first, and nothing is read twice into the day."""
    cache = BackfillCacheManager(instrument_directory(tmp_path_factory.mktemp("cache"), SPOT))
    chance = random.Random(data.draw(st.integers(0, 2**16)))
    ids = range(1000, 1000 + data.draw(st.integers(1, 300)))
    ours = [trade_id for trade_id in ids if chance.random() < data.draw(st.sampled_from([0.0, 0.1, 0.9]))]
    theirs = [trade_id for trade_id in ids if chance.random() < 0.9] or [1000]
    cache.directory.mkdir(parents=True)
    if ours:
        cache.append(DAY, day_frame(ours))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive_csv, "BLOCK_BYTES", 1000)
        patch.setattr(archivefile, "BUCKET_ROWS", 30)
        taken = take(cache, day_frame(theirs))
    assert_frame_equal(stored(cache), day_frame(sorted({*ours, *theirs})))
    assert (taken.cached, taken.duplicates) == (len(ours), len({*ours} & {*theirs}))
    named = {trade_id: source for source, first, last in sources(taken) for trade_id in range(first, last + 1)}
    assert named == {trade_id: REST if trade_id in ours else ARCHIVE for trade_id in {*ours, *theirs}}
    assert taken.report is None


def test_rows_of_rest_win_and_both_versions_are_reported(cache: BackfillCacheManager) -> None:
    cache.append(DAY, day_frame(range(1100, 1200)))
    taken = take(
        cache, pl.concat([day_frame(range(1000, 1150)), dearer(range(1150, 1160)), day_frame(range(1160, 1300))])
    )
    assert_frame_equal(stored(cache), day_frame(range(1000, 1300)))
    assert_frame_equal(taken.conflicts, dearer(range(1150, 1160)))
    assert taken.record.conflicting == (IdRange(1150, 1159),)
    assert cache.facts(DAY).conflicts == 10
    assert taken.report is not None
    report = pl.read_parquet(taken.report)
    kept, refused = report.filter("kept"), report.filter(~pl.col("kept"))
    assert set(kept["source"]) == {"rest"}
    assert set(refused["source"]) == {f"archive:{SHA}"}
    assert_frame_equal(kept.drop("kept", "source"), day_frame(range(1150, 1160)))
    assert_frame_equal(refused.drop("kept", "source"), dearer(range(1150, 1160)))


def test_the_report_is_not_taken_for_a_day(cache: BackfillCacheManager) -> None:
    """Whoever scans **/*.parquet, as the README says, reads each trade once."""
    cache.append(DAY, day_frame(range(1000, 1010)))
    assert take(cache, dearer(range(1000, 1010))).report is not None
    assert pl.scan_parquet(cache.directory / "**/*.parquet").collect().height == 10
    assert cache.days() == [DAY]


def test_a_file_published_anew_replaces_its_own_rows_only(cache: BackfillCacheManager) -> None:
    """Rows of the older file give way, those of REST do not, and the report keeps what it had."""
    cache.append(DAY, day_frame(range(1000, 1010)))
    take(cache, pl.concat([dearer(range(1000, 1001)), day_frame(range(1001, 1100))]))
    taken = take(cache, pl.concat([dearer(range(1000, 1020)), day_frame(range(1020, 1100))]), NEWER_SHA)
    sound = day_frame([*range(1000, 1010), *range(1020, 1100)])
    assert_frame_equal(stored(cache), pl.concat([sound, dearer(range(1010, 1020))]).sort("a"))
    assert sources(taken) == [(REST, 1000, 1009), (NEWER, 1010, 1019), (ARCHIVE, 1020, 1099)]
    assert taken.record.conflicts == 20
    assert taken.report is not None
    report = pl.read_parquet(taken.report)
    assert report.filter(a=1000)["source"].sort().to_list() == [f"archive:{SHA}", f"archive:{NEWER_SHA}", "rest"]
    assert report.filter(pl.col("kept"), pl.col("a") >= 1010)["source"].unique().to_list() == [f"archive:{NEWER_SHA}"]


def test_taking_the_same_file_again_changes_nothing(cache: BackfillCacheManager) -> None:
    take(cache, day_frame(range(1000, 1100)), starts={1000, 1100})
    before = cache.get_cache_path(DAY).read_bytes()
    assert take(cache, day_frame(range(1000, 1100))).record.sealed
    assert cache.get_cache_path(DAY).read_bytes() == before


def test_two_rows_under_one_id_of_the_zip_are_reported(cache: BackfillCacheManager) -> None:
    taken = take(cache, pl.concat([day_frame(range(1000, 1100)), dearer([1099])]))
    assert_frame_equal(stored(cache), day_frame(range(1000, 1100)))
    assert taken.record.conflicting == (IdRange(1099, 1099),)
    assert taken.report is not None
    assert pl.read_parquet(taken.report)["kept"].to_list() == [True, False]


def test_rows_that_can_be_no_trade_become_holes_for_rest_to_fill(cache: BackfillCacheManager) -> None:
    tape = day_frame(range(1000, 1100))
    zeros = tape.with_columns(q=pl.when(pl.col("a").is_between(1040, 1049)).then(0.0).otherwise(pl.col("q")))
    taken = take(cache, zeros, starts={1000, 1100})
    assert taken.record.holes == (IdRange(1040, 1049),)
    assert not taken.record.sealed
    assert taken.findings.suspect.ranges == (IdRange(1040, 1049),)
    appended = cache.append(DAY, tape[40:50])
    assert appended.record.sealed
    assert_frame_equal(stored(cache), tape)


def test_an_id_used_on_both_sides_of_midnight_is_distinguished_by_what_is_proven(cache: BackfillCacheManager) -> None:
    """Its time lies in the day. Once it is known to be another day's, it goes, even if it was taken before."""
    tape = day_frame(range(1000, 1100))
    stray = pl.concat([dearer([999]).with_columns(T=tape["T"][0]), tape])
    assert take(cache, stray, starts={1000, 1100}).record.first_id == 999
    path = cache.directory.parents[1] / "day.zip"
    taken = take_archive(cache, path, DAY, SHA, starts_at(DAY, 1000, 1100), within=IdRange(1000, 1099))
    assert_frame_equal(stored(cache), tape)
    assert taken.record.sealed
    assert taken.findings.outside.ranges == (IdRange(999, 999),)


def test_rows_out_of_order_are_taken_in_order(cache: BackfillCacheManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt has written some when it shows: it is begun anew."""
    monkeypatch.setattr(archive_csv, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(archivefile, "BUCKET_ROWS", 40)
    cache.append(DAY, day_frame(range(1050, 1070)))
    order = [*range(1200, 1300), *range(1000, 1200)]
    taken = take(cache, day_frame(order), starts={1000, 1300})
    assert_frame_equal(stored(cache), day_frame(range(1000, 1300)))
    assert taken.record.sealed
    assert (taken.cached, taken.duplicates) == (20, 20)


@pytest.mark.parametrize("exists", [False, True])
def test_a_zip_that_cannot_be_used_leaves_the_day_as_it_was(cache: BackfillCacheManager, exists: bool) -> None:
    """Even if it shows at the very end."""
    if exists:
        cache.append(DAY, day_frame(range(1000, 1010)))
    before = sorted((path.name, path.read_bytes()) for path in cache.directory.iterdir())
    lines = lines_of(day_frame(range(1000, 1500)))
    broken = zipped(cache.directory.parents[1] / "day.zip", [*lines, lines[-1].replace("True", "maybe") + "x"])
    with pytest.raises(ArchiveError):
        take_archive(cache, broken, DAY, SHA)
    assert sorted((path.name, path.read_bytes()) for path in cache.directory.iterdir()) == before


def test_a_damaged_day_file_is_moved_aside_first(cache: BackfillCacheManager) -> None:
    cache.get_cache_path(DAY).write_bytes(b"PAR1 and nothing more")
    take(cache, day_frame(range(1000, 1100)))
    assert_frame_equal(stored(cache), day_frame(range(1000, 1100)))
    assert len(list(cache.directory.glob("*.bad-*"))) == 1


def test_the_report_is_bounded(cache: BackfillCacheManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The certificate names every id all the same."""
    monkeypatch.setattr(archive_take, "MOST_CONFLICTS", 7)
    cache.append(DAY, day_frame(range(1000, 1100)))
    taken = take(cache, dearer(range(1000, 1100)))
    assert taken.record.conflicts == 100
    assert taken.report is not None
    assert pl.read_parquet(taken.report).height == 14


def test_a_damaged_report_is_moved_aside_and_another_one_begun(cache: BackfillCacheManager) -> None:
    """A file beside the day must not keep the day from being taken."""
    cache.append(DAY, day_frame(range(1000, 1010)))
    report = cache.get_cache_path(DAY).with_name(f"{cache.get_cache_path(DAY).name}{archive_take.REPORT_SUFFIX}")
    report.write_bytes(b"not a report")
    taken = take(cache, day_frame(range(1000, 1020)).with_columns(q=pl.lit(9.0)))
    assert taken.report == report
    assert pl.read_parquet(report.read_bytes()).height == 20
    (moved,) = report.parent.glob(f"{report.name}.bad-*")
    assert moved.read_bytes() == b"not a report"


def test_rows_that_the_zip_of_another_day_has_fill_the_holes_of_this_one(cache: BackfillCacheManager) -> None:
    """Archive days are cut by time, and time goes back over the midnight: id 1100 is in the zip of the next day, and
    1101 in that of this one. Wherever the midnight is put, no row is lost, and none is stored twice."""
    following, next_ms = DAY + ONE_DAY, day_start_ms(DAY) + MS_PER_DAY
    times = {1099: next_ms - 2, 1100: next_ms + 1, 1101: next_ms - 1, 1102: next_ms + 2}
    rows = day_frame(range(1099, 1103)).with_columns(T=pl.col("a").replace_strict(times))
    taken = take(cache, rows.filter(pl.col("T") < next_ms), starts=[1099])
    assert [(each.first_id, each.last_id) for each in taken.record.holes] == [(1100, 1100)]
    path = published(cache.directory.parents[1] / "next.zip", rows.filter(pl.col("T") >= next_ms))
    within = neighbourhood(cache, following, None).within
    after = take_archive(cache, path, following, SHA, within=within)
    assert (after.record.first_id, after.record.last_id, after.record.opened) == (1102, 1102, True)
    assert [each.day for each in after.beside] == [DAY]
    assert cache.facts(DAY).sealed
    assert_frame_equal(stored(cache), rows[:3])


def test_a_row_whose_id_another_day_holds_already_is_left_out(cache: BackfillCacheManager) -> None:
    """The exchange has used an id twice, on both sides of a midnight."""
    following, next_ms = DAY + ONE_DAY, day_start_ms(DAY) + MS_PER_DAY
    take(cache, day_frame([1098, 1099]), starts=[1098])
    again = dearer([1099, 1100]).with_columns(T=pl.lit(next_ms) + pl.col("a"))
    path = published(cache.directory.parents[1] / "next.zip", again)
    taken = take_archive(cache, path, following, SHA, within=neighbourhood(cache, following, None).within)
    assert (taken.record.first_id, taken.beside) == (1100, ())
    assert_frame_equal(stored(cache), day_frame([1098, 1099]))


def test_a_zip_with_ids_that_no_exchange_gives_is_of_no_use_and_what_is_stored_stays(
    cache: BackfillCacheManager,
) -> None:
    """The file that it would make would be moved aside by its next reader."""
    cache.append(DAY, day_frame(range(1000, 1100)))
    before = cache.get_cache_path(DAY).read_bytes()
    with pytest.raises(ArchiveError, match="ids or times that the exchange cannot have given") as refused:
        take(cache, day_frame(range(1100, 1200)).with_columns(a=pl.col("a") + 2**60))
    assert refused.value.kind == "value"
    assert cache.get_cache_path(DAY).read_bytes() == before
