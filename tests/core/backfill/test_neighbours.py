"""Times of an answer: they fit the trades beside its ids, or several answers agree."""

import polars as pl
import pytest

from backfilld.core.backfill.answers import AnswerCheck
from backfilld.core.backfill.neighbours import KnownTimes
from backfilld.core.backfill.questions import Found, Newest, Page, Tail
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.core.timespan import StoredSpan
from backfilld.errors import UnexpectedAnswer
from tests.fakes import DAY_MS, trade_frame

HOUR_MS = 3_600_000
STORED = StoredSpan(IdRange(100, 199), DAY_MS, DAY_MS + HOUR_MS)


def rows(first_id: int, first_ms: int, step_ms: int = 1000) -> pl.DataFrame:
    """Ten rows."""
    return trade_frame(list(range(first_id, first_id + 10)), [first_ms + n * step_ms for n in range(10)])


def accepted_at(trades: pl.DataFrame, query: Page | Tail, known: KnownTimes, ids: IdRange) -> int | None:
    """Which of the same answers was accepted, None if none of ten."""
    check = AnswerCheck(known.put_beside(query, ids))
    for number in range(1, 11):
        try:
            check(trades)
        except UnexpectedAnswer:
            continue
        return number
    return None


def test_a_page_that_goes_on_where_the_last_ended_is_accepted() -> None:
    ids = IdRange(200, 209)
    assert accepted_at(rows(200, DAY_MS + HOUR_MS + 5), Page(ids), KnownTimes([STORED]), ids) == 1


def test_a_page_of_the_day_before_is_never_believed_beside_stored_rows() -> None:
    ids = IdRange(200, 209)
    trades = rows(200, DAY_MS + HOUR_MS + 5 - MS_PER_DAY)
    assert accepted_at(trades, Page(ids), KnownTimes([STORED]), ids) is None


def test_a_page_of_the_day_after_is_believed_once_three_answers_agree() -> None:
    """It may be true: nothing was traded for a day."""
    ids = IdRange(200, 209)
    trades = rows(200, DAY_MS + HOUR_MS + 5 + MS_PER_DAY)
    assert accepted_at(trades, Page(ids), KnownTimes([STORED]), ids) == 3


def test_a_tail_that_would_end_a_closed_window_by_its_times_alone_has_to_be_confirmed() -> None:
    ids = IdRange(200, 200)
    trades = rows(200, DAY_MS + HOUR_MS + 5 + MS_PER_DAY)
    assert accepted_at(trades, Tail(200), KnownTimes([STORED]), ids) == 3


def test_a_page_of_a_slow_symbol_far_behind_the_last_one_fits_by_its_own_pace() -> None:
    """1,000 ids at 100 s each are 28 hours."""
    ids = IdRange(1200, 1209)
    trades = rows(1200, DAY_MS + HOUR_MS + 28 * HOUR_MS, 100_000)
    assert accepted_at(trades, Page(ids), KnownTimes([STORED]), ids) == 1


@pytest.mark.parametrize(("hours", "asked"), [(25, 1), (-13, None), (40, 3)])
def test_busy_hours_behind_quiet_ones_are_believed_at_once_within_a_tenfold_pace(hours: int, asked: int | None) -> None:
    """1,000 ids at 7 s each are two hours."""
    ids = IdRange(1200, 1209)
    trades = rows(1200, DAY_MS + HOUR_MS + hours * HOUR_MS, 7_000)
    assert accepted_at(trades, Page(ids), KnownTimes([STORED]), ids) == asked


def test_ids_that_an_answer_jumps_over_are_no_time() -> None:
    ids = IdRange(200, 299)
    trades = rows(200_000, DAY_MS + HOUR_MS + 5, 100_000)
    assert accepted_at(trades, Page(ids), KnownTimes([STORED]), ids) == 1


def test_a_single_row_has_no_pace_that_a_far_trade_could_fit() -> None:
    ids = IdRange(200, 200)
    later = StoredSpan(IdRange(900, 999), DAY_MS + 40 * HOUR_MS, DAY_MS + 41 * HOUR_MS)
    trades = rows(200, DAY_MS + HOUR_MS + 5 + MS_PER_DAY).head(1)
    assert accepted_at(trades, Page(ids), KnownTimes([STORED, later]), ids) == 3


@pytest.mark.parametrize("shift_ms", [-MS_PER_DAY, MS_PER_DAY])
def test_a_trade_that_was_only_named_is_outvoted_and_forgotten(shift_ms: int) -> None:
    known, ids, wrong_ms = KnownTimes([STORED]), IdRange(200, 209), DAY_MS + HOUR_MS + shift_ms
    known.learn(Newest(0), Found(IdRange(209, 209), wrong_ms, wrong_ms, 1))
    trades = rows(200, DAY_MS + HOUR_MS + 5)
    assert accepted_at(trades, Page(ids), known, ids) == 3
    known.begin_round()
    assert accepted_at(trades, Page(ids), known, ids) == 1
