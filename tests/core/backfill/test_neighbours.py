"""Times of an answer: they fit the trades beside its ids, or several answers agree."""

from dataclasses import replace

import polars as pl
import pytest

from backfilld.core.backfill.answers import AnswerCheck, cut
from backfilld.core.backfill.neighbours import AGREEING, CONTRADICTING, FOR_A_JUMP, KnownTrades
from backfilld.core.backfill.questions import Found, Newest, Page, Query, Since, Tail
from backfilld.core.ids import IdSet
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.core.timespan import StoredSpan
from backfilld.errors import UnexpectedAnswer
from tests.fakes import DAY_MS, trade_frame

HOUR_MS = 3_600_000
STORED = StoredSpan(IdRange(100, 199), DAY_MS, DAY_MS + HOUR_MS)


def rows(first_id: int, first_ms: int, step_ms: int = 1000) -> pl.DataFrame:
    """Ten rows."""
    return trade_frame(list(range(first_id, first_id + 10)), [first_ms + n * step_ms for n in range(10)])


def accepted_at(
    trades: pl.DataFrame, query: Page | Tail, known: KnownTrades, ids: IdRange, *, is_wary: bool = False
) -> int | None:
    """Which of the same answers was accepted, None if none of ten."""
    check = AnswerCheck(known.put_beside(query, ids), is_wary=is_wary)
    for number in range(1, 11):
        try:
            check(trades)
        except UnexpectedAnswer:
            continue
        return number
    return None


def test_a_page_that_goes_on_where_the_last_ended_is_accepted() -> None:
    ids = IdRange(200, 209)
    assert accepted_at(rows(200, DAY_MS + HOUR_MS + 5), Page(ids), KnownTrades([STORED]), ids) == 1


def test_a_page_of_the_day_before_is_never_believed_beside_stored_rows() -> None:
    ids = IdRange(200, 209)
    trades = rows(200, DAY_MS + HOUR_MS + 5 - MS_PER_DAY)
    assert accepted_at(trades, Page(ids), KnownTrades([STORED]), ids) is None


def test_a_page_of_the_day_after_is_believed_once_three_answers_agree() -> None:
    """It may be true: nothing was traded for a day."""
    ids = IdRange(200, 209)
    trades = rows(200, DAY_MS + HOUR_MS + 5 + MS_PER_DAY)
    assert accepted_at(trades, Page(ids), KnownTrades([STORED]), ids) == 3


def test_a_tail_that_would_end_a_closed_window_by_its_times_alone_has_to_be_confirmed() -> None:
    ids = IdRange(200, 200)
    trades = rows(200, DAY_MS + HOUR_MS + 5 + MS_PER_DAY)
    assert accepted_at(trades, Tail(200), KnownTrades([STORED]), ids) == 3


def test_a_page_of_a_slow_symbol_far_behind_the_last_one_fits_by_its_own_pace() -> None:
    """1,000 ids at 100 s each are 28 hours."""
    ids = IdRange(1200, 1209)
    trades = rows(1200, DAY_MS + HOUR_MS + 28 * HOUR_MS, 100_000)
    assert accepted_at(trades, Page(ids), KnownTrades([STORED]), ids) == 1


@pytest.mark.parametrize(("hours", "asked"), [(25, 1), (-13, None), (40, 3)])
def test_busy_hours_behind_quiet_ones_are_believed_at_once_within_a_tenfold_pace(hours: int, asked: int | None) -> None:
    """1,000 ids at 7 s each are two hours."""
    ids = IdRange(1200, 1209)
    trades = rows(1200, DAY_MS + HOUR_MS + hours * HOUR_MS, 7_000)
    assert accepted_at(trades, Page(ids), KnownTrades([STORED]), ids) == asked


def test_ids_that_an_answer_jumps_over_take_more_answers_unless_the_trade_behind_them_is_known() -> None:
    known, ids = KnownTrades([STORED]), IdRange(200, 299)
    trades = rows(200_000, DAY_MS + HOUR_MS + 5, 100_000)
    assert accepted_at(trades, Page(ids), known, ids) == FOR_A_JUMP
    known.learn(Newest(0), found_in(trades.head(1), Newest(0)))
    assert accepted_at(trades, Page(ids), known, ids) == 1


def test_more_answers_must_say_it_than_say_that_there_is_nothing() -> None:
    """The rows of another symbol come now and then; what is asked for does not exist."""
    check, foreign = AnswerCheck(Page(IdRange(200, 299))), rows(200_000, DAY_MS)
    for _ in range(2 * FOR_A_JUMP):
        for trades in (foreign.clear(), foreign):
            with pytest.raises(UnexpectedAnswer):
                check(trades)


def test_a_single_row_has_no_pace_that_a_far_trade_could_fit() -> None:
    ids = IdRange(200, 200)
    later = StoredSpan(IdRange(900, 999), DAY_MS + 40 * HOUR_MS, DAY_MS + 41 * HOUR_MS)
    trades = rows(200, DAY_MS + HOUR_MS + 5 + MS_PER_DAY).head(1)
    assert accepted_at(trades, Page(ids), KnownTrades([STORED, later]), ids) == 3


@pytest.mark.parametrize("shift_ms", [-MS_PER_DAY, MS_PER_DAY])
def test_a_trade_that_was_only_named_is_outvoted_and_forgotten(shift_ms: int) -> None:
    known, ids, wrong_ms = KnownTrades([STORED]), IdRange(200, 209), DAY_MS + HOUR_MS + shift_ms
    known.learn(Newest(0), Found(IdRange(209, 209), wrong_ms, wrong_ms, 1))
    trades = rows(200, DAY_MS + HOUR_MS + 5)
    assert accepted_at(trades, Page(ids), known, ids) == CONTRADICTING
    known.begin_round()
    assert accepted_at(trades, Page(ids), known, ids) == 1


def found_in(trades: pl.DataFrame, query: Query, *, is_confirmed: bool = False) -> Found:
    """What this answer is."""
    return replace(cut(trades, query, None)[1], is_confirmed=is_confirmed)


@pytest.mark.parametrize("shift_ms", [-HOUR_MS, -1, 1, HOUR_MS])
def test_two_answers_that_give_one_trade_two_times_need_others_that_agree(shift_ms: int) -> None:
    known, ids = KnownTrades([]), IdRange(200, 209)
    known.learn(Since(0), found_in(rows(200, DAY_MS).head(1), Since(0)))
    assert accepted_at(rows(200, DAY_MS), Page(ids), known, ids) == 1
    assert accepted_at(rows(200, DAY_MS + shift_ms), Page(ids), known, ids) == CONTRADICTING


WRONG = {
    "an hour earlier": {"T": pl.col("T") - HOUR_MS},
    "at another price": {"p": pl.col("p") * 40},
    "at a fraction of the price": {"p": pl.col("p") / 40},
    "with trade ids below": {"f": pl.col("f") - 500, "l": pl.col("l") - 500},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_rows_that_cannot_follow_those_before_them_need_others_that_agree(wrong: str) -> None:
    known, ids = KnownTrades([]), IdRange(210, 219)
    known.learn(Page(IdRange(200, 209)), found_in(rows(200, DAY_MS), Page(IdRange(200, 209))))
    right = rows(210, DAY_MS + 10_000)
    assert accepted_at(right, Page(ids), known, ids) == 1
    assert accepted_at(right.with_columns(**WRONG[wrong]), Page(ids), known, ids) == CONTRADICTING


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("is_confirmed", [False, True])
def test_pages_that_came_side_by_side_and_contradict_each_other_are_doubted(wrong: str, is_confirmed: bool) -> None:
    """What several answers said is not."""
    known, first, second = KnownTrades([STORED]), IdRange(200, 209), IdRange(210, 219)
    known.learn(Page(second), found_in(rows(210, DAY_MS + HOUR_MS + 20_000), Page(second), is_confirmed=is_confirmed))
    assert not known.doubted
    right = rows(200, DAY_MS + HOUR_MS + 10_000)
    later = {name: 2 * pl.col(name) - each if name in "Tfl" else each for name, each in WRONG[wrong].items()}
    known.learn(Page(first), found_in(right.with_columns(**later), Page(first)))
    assert known.doubted == IdSet.of([first] if is_confirmed else [first, second])


def test_a_marker_contradicts_nobody() -> None:
    known, first, second = KnownTrades([]), IdRange(200, 209), IdRange(210, 219)
    markers = trade_frame(range(200, 210), [DAY_MS + HOUR_MS] * 10, markers=range(200, 210))
    known.learn(Page(first), found_in(markers, Page(first)))
    known.learn(Page(second), found_in(rows(210, DAY_MS), Page(second)))
    assert not known.doubted


def test_after_a_contradiction_an_answer_stands_alone_until_it_has_a_trade_that_is_known() -> None:
    known, ids = KnownTrades([STORED]), IdRange(200, 208)
    overlapping = pl.concat([trade_frame([199], [STORED.last_ms]), rows(200, STORED.last_ms + 5).head(9)])
    assert accepted_at(rows(200, STORED.last_ms + 5).head(9), Page(ids), known, ids, is_wary=True) == AGREEING
    assert accepted_at(overlapping, Page(ids, 209, overlaps=True), known, ids, is_wary=True) == 1
    shifted = overlapping.with_columns(pl.col("T") + 3)
    assert accepted_at(shifted, Page(ids, 209, overlaps=True), known, ids, is_wary=True) is None


def test_a_page_that_fits_is_checked_without_the_lazy_engine_of_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    """A query of it takes as long as reading the page."""
    known = KnownTrades([STORED])
    known.learn(Page(IdRange(210, 219)), Found(IdRange(210, 219), DAY_MS + 2 * HOUR_MS, DAY_MS + 3 * HOUR_MS, 10))
    query = known.put_beside(Page(IdRange(200, 209), overlaps=True), IdRange(200, 209))
    trades = trade_frame(list(range(199, 209)), [DAY_MS + HOUR_MS + n for n in range(10)])

    def lazy(*_: object) -> None:
        pytest.fail("a query of polars")

    # Also how a frame or a series is asked at once begins there.
    monkeypatch.setattr(pl.DataFrame, "lazy", lazy)
    check = AnswerCheck(query)
    check(trades, [DAY_MS * 2])
    assert cut(trades, query, DAY_MS * 2)[0].height == 9
    assert check.is_confirmed is False
