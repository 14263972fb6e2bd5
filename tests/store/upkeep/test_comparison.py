"""A day against its published file: exactly the ids that differ or are missing, whatever pieces they come in."""

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.comparison import compare_day
from backfilld.store.upkeep.inspection import inspect_day
from tests.store.archives import published
from tests.store.frames import DAY, SPOT, day_frame

IDS = range(1000, 1060)
some_ids = st.sets(st.sampled_from(IDS), max_size=30)


def ranges_of(ids: set[int]) -> tuple[IdRange, ...]:
    return IdSet.of(IdRange(each, each) for each in ids).ranges


@settings(max_examples=60, deadline=None)
@given(stored=some_ids.filter(bool), offered=some_ids.filter(bool), dearer=some_ids)
def test_ids_that_differ_and_ids_that_only_the_archive_has_are_reported_and_no_others(
    stored: set[int], offered: set[int], dearer: set[int]
) -> None:
    with TemporaryDirectory() as directory:
        manager = BackfillCacheManager(Path(directory), SPOT)
        manager.append(DAY, day_frame(sorted(stored)))
        rows = day_frame(sorted(offered))
        spoiled = rows.with_columns(p=pl.when(pl.col("a").is_in(list(dearer))).then(pl.col("p") + 1).otherwise("p"))
        path = published(Path(directory) / "day.zip", spoiled)
        inspected = inspect_day(manager.get_cache_path(DAY), DAY, SPOT)
        assert inspected is not None
        found = compare_day(manager, path, inspected)
    assert found.differs == ranges_of(stored & offered & dearer)
    assert found.missing == ranges_of(offered - stored)
    assert found.settled == 0
