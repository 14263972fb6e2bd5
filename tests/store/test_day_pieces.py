"""Every stored trade of a day lies in one piece, whether its file or its journal has it; no piece has another."""

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.day.addition import Addition
from backfilld.core.ids import IdSet
from backfilld.core.serving.timeline import Timeline
from backfilld.store.day_pieces import FrameKey, GroupKey, day_pieces, group_rows, rows_of
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.store.frames import DAY, SPOT, day_frame

SPANS = st.tuples(st.integers(1000, 1200), st.integers(1, 60)).map(lambda each: range(each[0], each[0] + each[1]))


def rows_in(manager: BackfillCacheManager, key: object) -> pl.DataFrame:
    if isinstance(key, GroupKey):
        return group_rows(manager, key)
    assert isinstance(key, FrameKey)
    return key.trades


@settings(max_examples=60, deadline=None)
@given(st.lists(SPANS, min_size=1, max_size=6))
def test_each_stored_trade_is_in_one_piece(saved: list[range]) -> None:
    with TemporaryDirectory() as directory:
        manager = BackfillCacheManager(instrument_directory(Path(directory), SPOT), SPOT)
        waiting = WaitingDays(300.0)
        for number, ids in enumerate(saved):
            waiting.append(manager, Addition(SPOT, DAY, day_frame(ids)), float(number))
        found = day_pieces(manager, SPOT, DAY)
        every = sorted({each for ids in saved for each in ids})
        assert [each for piece in found.pieces for each in range(piece.ids.first_id, piece.ids.last_id + 1)] == every
        for piece in found.pieces:
            rows = rows_of(rows_in(manager, piece.key), piece.ids)
            assert_frame_equal(rows, day_frame(range(piece.ids.first_id, piece.ids.last_id + 1)))
            assert (piece.first_ms, piece.last_ms) == (rows["T"][0], rows["T"][-1])
        assert found.is_chronological
        timeline = Timeline(found.pieces, IdSet())
        for at, (before, after) in enumerate(pairwise(found.pieces)):
            assert timeline.adjoins(at) == (before.ids.last_id + 1 == after.ids.first_id)
