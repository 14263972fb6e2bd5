"""Which past days come from the archive."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.backfill.sources import (
    WORTH_A_DOWNLOAD,
    archive_days,
    expected_missing,
    seam_days,
    whole_past_days,
    within_reach,
)
from backfilld.core.day.certificate import Certificate
from backfilld.core.markets import RULES
from backfilld.core.model import MS_PER_DAY, IdRange, Market, day_of, day_start_ms, day_stop_ms
from backfilld.core.timespan import StoredSpan, TimeSpan
from tests.fakes import DAY, DAY_MS

instants = st.integers(DAY_MS - 9 * MS_PER_DAY, DAY_MS + 9 * MS_PER_DAY)
midnights = st.integers(-9, 9).map(lambda n: DAY_MS + n * MS_PER_DAY)
moments = st.one_of(instants, midnights)
with_a_lookback = [market for market in Market if RULES[market].lookback_ms is not None]


@st.composite
def any_window(draw: st.DrawFn) -> TimeSpan:
    start_ms = draw(moments)
    stop_ms = draw(st.one_of(st.none(), moments.filter(lambda each: each > start_ms)))
    return TimeSpan(start_ms, stop_ms)


def stored(day: date, rows: int, *, share: float = 1.0, opened: bool = False, closed: bool = False) -> Certificate:
    """``rows`` trades, even over the first ``share`` of the day."""
    start = day_start_ms(day)
    span = StoredSpan(IdRange(0, rows - 1), start, start + round(share * (MS_PER_DAY - 1)))
    return Certificate(day, (span,), opened=opened, closed=closed)


@given(any_window(), moments)
def test_whole_past_days_are_those_that_lie_wholly_in_the_window_and_are_over(window: TimeSpan, now_ms: int) -> None:
    found = list(whole_past_days(window, now_ms))
    anywhere = (day_of(DAY_MS + n * MS_PER_DAY) for n in range(-12, 13))
    stop_ms = now_ms if window.stop_ms is None else min(window.stop_ms, now_ms)
    assert found == [day for day in anywhere if window.start_ms <= day_start_ms(day) and day_stop_ms(day) <= stop_ms]


@given(any_window(), moments, st.data())
def test_the_archive_is_asked_for_past_days_that_lack_much_and_that_it_has_not_refused(
    window: TimeSpan, now_ms: int, data: st.DataObject
) -> None:
    past = list(whole_past_days(window, now_ms))
    refused = data.draw(st.sets(st.sampled_from(past))) if past else set()
    rows = st.sampled_from([1, WORTH_A_DOWNLOAD, 10 * WORTH_A_DOWNLOAD])
    shares = st.sampled_from([0.1, 0.4, 1.0])
    kept = data.draw(st.sets(st.sampled_from(past))) if past else set()
    records = {day: stored(day, data.draw(rows), share=data.draw(shares)) for day in kept}
    found = archive_days(window, now_ms, records, refused)
    assert list(found) == sorted(found)
    for day in past:
        lacks = day not in records or expected_missing(records[day], day) > WORTH_A_DOWNLOAD
        assert (day in found) == (lacks and day not in refused)
    assert set(found) <= set(past)


def test_a_day_of_which_nothing_is_stored_lacks_more_than_any_other() -> None:
    assert expected_missing(None, DAY) == float("inf")


def test_a_sealed_day_lacks_nothing() -> None:
    assert expected_missing(stored(DAY, 10, share=0.1, opened=True, closed=True), DAY) == 0


@pytest.mark.parametrize(("share", "times"), [(0.5, 1), (0.1, 9), (0.999, 0)])
def test_what_is_not_covered_is_reckoned_at_the_pace_of_what_is_stored(share: float, times: float) -> None:
    lacks = expected_missing(stored(DAY, 100_000, share=share, opened=True), DAY)
    assert lacks == pytest.approx(100_000 * times, rel=0.01, abs=200)


def test_holes_are_counted_one_by_one() -> None:
    spans = (
        StoredSpan(IdRange(0, 9), DAY_MS, DAY_MS + 1000),
        StoredSpan(IdRange(40, 49), DAY_MS + 2000, DAY_MS + MS_PER_DAY - 1),
    )
    assert expected_missing(Certificate(DAY, spans, opened=True, closed=True), DAY) == 30


@given(st.sampled_from(with_a_lookback), moments, moments)
def test_after_a_refusal_one_asks_from_a_later_midnight_within_the_documented_reach(
    market: Market, start_ms: int, now_ms: int
) -> None:
    again_ms = within_reach(start_ms, now_ms, market)
    assert again_ms % MS_PER_DAY == 0
    assert again_ms > start_ms, "the same question again"
    oldest_ms = now_ms - (RULES[market].lookback_ms or 0)
    assert again_ms > oldest_ms, "refused again, by what is documented"
    assert again_ms <= max(start_ms, oldest_ms) + MS_PER_DAY, "more left out than must be"


@given(moments, moments, st.booleans(), st.booleans(), st.sampled_from(list(Market)))
def test_the_day_before_is_wanted_only_where_nothing_else_can_prove_the_first_id(
    start_ms: int, now_ms: int, opened: bool, before_is_stored: bool, market: Market
) -> None:
    first = day_of(start_ms)
    before = first - timedelta(days=1)
    records = {first: stored(first, 100, opened=opened)} | ({before: stored(before, 5)} if before_is_stored else {})
    rest_can_tell = RULES[market].answers_for_all_time or start_ms >= now_ms - (RULES[market].lookback_ms or 0)
    is_known = opened or before_is_stored or start_ms % MS_PER_DAY != 0
    found = seam_days(TimeSpan(start_ms), now_ms, market, records)
    assert found == (() if rest_can_tell or is_known else (before,))
