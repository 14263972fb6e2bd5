"""Laws of an addition that turns out to belong to several days."""

from datetime import timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.day.absences import NO_ABSENCES, AbsentIds
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import STREAM
from backfilld.core.frame import empty_trades
from backfilld.core.model import IdRange
from tests.fakes import BTC, starts_at
from tests.store.frames import DAY, day_frame

ABSENT = AbsentIds(absent=(IdRange(7, 8),))
SIZES = st.dictionaries(st.integers(-2, 2).map(timedelta), st.integers(0, 5), min_size=1)
"""How many trades belong to each day, by its distance from the addition's own."""


@given(sizes=SIZES, absence=st.sampled_from([NO_ABSENCES, ABSENT]))
def test_every_trade_goes_to_its_day_and_nothing_else_changes(sizes: dict[timedelta, int], absence: AbsentIds) -> None:
    trades = day_frame(range(100, 100 + sum(sizes.values())))
    whole = Addition(BTC, DAY, trades, starts_at(DAY, 100), absence, STREAM)
    parts, start = [], 0
    for apart, size in sorted(sizes.items()):
        parts.append((DAY + apart, trades[start : start + size]))
        start += size
    found = whole.on_days(parts)
    by_day = {each.day: each for each in found}
    assert len(by_day) == len(found) > 0
    for day, rows in parts:
        assert_frame_equal(by_day[day].trades if day in by_day else empty_trades(), rows)
    assert pl.concat([each.trades for each in found]).height == trades.height
    assert {(each.instrument, each.day_starts, each.source) for each in found} == {(BTC, whole.day_starts, STREAM)}


@given(sizes=SIZES, absence=st.sampled_from([NO_ABSENCES, ABSENT]))
def test_absent_ids_stay_with_the_day_that_they_were_found_on(sizes: dict[timedelta, int], absence: AbsentIds) -> None:
    parts = [(DAY + apart, day_frame(range(100, 100 + size))) for apart, size in sizes.items()]
    *others, last = Addition(BTC, DAY, absence=absence).on_days(parts)
    assert all(each.day != DAY and each.absence == NO_ABSENCES for each in others)
    assert last.absence == (absence if last.day == DAY else NO_ABSENCES)
    has_news = bool(sizes.get(timedelta(0))) or absence != NO_ABSENCES
    assert (last.day == DAY) == (has_news or not sizes.keys() - {timedelta(0)})
