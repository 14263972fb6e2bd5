"""What the days beside a day tell of its ends, and which of a published day's ids are believed."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backfilld.core.day.start import DayStart
from backfilld.core.model import IdRange, Instrument, day_start_ms
from backfilld.store.archive_import.archive_findings import ANY_ID
from backfilld.store.archive_import.neighbours import ids_to_take, neighbourhood
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.fakes import starts_at
from tests.store.archives import published
from tests.store.frames import DAY, SPOT, day_frame

BEFORE, AFTER = DAY - timedelta(days=1), DAY + timedelta(days=1)
UM = Instrument.parse("um:BTCUSDT")


def rows(first_id: int, last_id: int, day: date = DAY) -> pl.DataFrame:
    """Trades of a day; their times follow from the day, not from the ids."""
    frame = day_frame(range(first_id, last_id + 1))
    start_ms = day_start_ms(day) + 1000
    return frame.with_columns(T=pl.int_range(start_ms, start_ms + frame.height, dtype=pl.Int64))


@pytest.fixture
def cache(manager: BackfillCacheManager) -> BackfillCacheManager:
    manager.directory.mkdir(parents=True)
    return manager


def zip_of(tmp_path: Path, frame: pl.DataFrame) -> Path:
    return published(tmp_path / "day.zip", frame)


def test_alone_a_day_can_have_any_id_and_nothing_is_proven(cache: BackfillCacheManager) -> None:
    beside = neighbourhood(cache, DAY, None)
    assert beside.within == ANY_ID
    assert beside.day_starts == frozenset()


def test_the_days_beside_it_bound_its_ids_and_prove_where_it_begins_and_ends(cache: BackfillCacheManager) -> None:
    cache.append(BEFORE, rows(1000, 1099, BEFORE))
    cache.append(AFTER, rows(1200, 1299, AFTER), starts_at(AFTER, 1200))
    beside = neighbourhood(cache, DAY, None)
    assert beside.within == IdRange(1100, 1199)
    assert beside.day_starts == {DayStart(DAY, 1100), DayStart(AFTER, 1200)}


def test_a_later_day_whose_first_id_is_not_proven_bounds_nothing(cache: BackfillCacheManager) -> None:
    """Its first row may be another trade under the id of this day's last."""
    cache.append(AFTER, rows(1200, 1299, AFTER))
    assert neighbourhood(cache, DAY, None).within == ANY_ID


def test_a_day_before_that_is_closed_over_absent_ids_names_the_next_one(cache: BackfillCacheManager) -> None:
    cache.append(BEFORE, rows(1000, 1099, BEFORE), starts_at(BEFORE, 1103), absent=[IdRange(1100, 1102)])
    assert cache.facts(BEFORE).closed
    assert neighbourhood(cache, DAY, None).day_starts == {DayStart(DAY, 1103)}


def test_a_file_that_cannot_be_trusted_tells_nothing(cache: BackfillCacheManager) -> None:
    for day in (BEFORE, AFTER):
        cache.get_cache_path(day).write_bytes(b"no Parquet")
    assert neighbourhood(cache, DAY, None) == neighbourhood(cache, DAY + timedelta(days=9), None)


def test_the_published_file_of_the_next_day_proves_the_end_by_its_ids(
    cache: BackfillCacheManager, tmp_path: Path
) -> None:
    """Only those with a time after this day, and only those at its beginning."""
    late = rows(1199, 1199)
    following = zip_of(tmp_path, pl.concat([late, rows(1200, 1210, AFTER)]))
    assert neighbourhood(cache, DAY, following).day_starts == {DayStart(AFTER, each) for each in range(1200, 1211)}
    following.write_bytes(b"no zip")
    assert neighbourhood(cache, DAY, following).day_starts == frozenset()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(missing=st.integers(0, 3), reused=st.booleans())
def test_a_reused_id_is_never_taken_for_this_day_whatever_the_day_before_lacks(
    tmp_path_factory: pytest.TempPathFactory, missing: int, reused: bool
) -> None:
    """The last id of the day before stands on another trade of this one, and the day before may have been cut."""
    directory = tmp_path_factory.mktemp("cache")
    cache = BackfillCacheManager(instrument_directory(directory, SPOT))
    cache.directory.mkdir(parents=True)
    cache.append(BEFORE, rows(1000, 1099 - missing, BEFORE))
    path = zip_of(directory, rows(1099 if reused else 1100, 1199))
    taken = ids_to_take(cache, DAY, path, neighbourhood(cache, DAY, None).within)
    # Of a day that lacks just its last row, nothing on disk tells it from one that is whole.
    if missing != 1:
        assert not (reused and taken.first_id <= 1099 <= taken.last_id)
    if missing == 0:
        assert taken.first_id <= 1100, "what is sure is left out"
    assert taken.first_id <= 1101, "more than one id is left to REST"


def test_without_the_day_before_the_first_id_is_left_to_rest_where_that_answers(
    cache: BackfillCacheManager, tmp_path: Path
) -> None:
    path = zip_of(tmp_path, rows(1100, 1199))
    assert ids_to_take(cache, DAY, path, ANY_ID) == IdRange(1101, ANY_ID.last_id)
    assert ids_to_take(cache, DAY, path, ANY_ID, is_first=True) == ANY_ID, "the plan asks for the trade before"
    futures = BackfillCacheManager(instrument_directory(tmp_path, UM))
    assert ids_to_take(futures, DAY, path, ANY_ID) == ANY_ID


def test_what_is_stored_of_the_day_itself_is_not_given_up(cache: BackfillCacheManager, tmp_path: Path) -> None:
    """REST has shown its first id already."""
    cache.append(DAY, rows(1100, 1120))
    path = zip_of(tmp_path, rows(1100, 1199))
    assert ids_to_take(cache, DAY, path, ANY_ID) == ANY_ID


@pytest.mark.parametrize("content", [b"no zip", None], ids=["no zip", "one row"])
def test_a_file_of_no_use_is_left_to_whoever_reads_it(
    cache: BackfillCacheManager, tmp_path: Path, content: bytes | None
) -> None:
    path = zip_of(tmp_path, rows(1100, 1100))
    if content is not None:
        path.write_bytes(content)
        assert ids_to_take(cache, DAY, path, ANY_ID) == ANY_ID
    else:
        assert ids_to_take(cache, DAY, path, IdRange(1000, 1100)) == IdRange(1000, 1100)


def test_a_day_has_no_id_far_outside_of_the_starts_that_are_known(cache: BackfillCacheManager) -> None:
    """A zip with the rows of another symbol has none within."""
    starts = {DayStart(DAY - timedelta(days=1), 1000), DayStart(DAY + timedelta(days=2), 3000)}
    assert neighbourhood(cache, DAY, None, known_starts=starts).within == IdRange(0, 3999)
    assert neighbourhood(cache, DAY, None, known_starts={DayStart(DAY, 9000), DayStart(AFTER, 5)}).within == ANY_ID
