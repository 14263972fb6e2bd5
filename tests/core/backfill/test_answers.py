"""Every true page of a tape is accepted, every tampered one refused, and what lies beyond the window is cut off."""

from collections.abc import Callable
from contextlib import nullcontext

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.backfill.answers import AnswerCheck, check_page, cut
from backfilld.core.backfill.early import FOR_CLOCKS, FOR_TIME_GONE_BACK
from backfilld.core.backfill.neighbours import AGREEING, CONTRADICTING
from backfilld.core.backfill.questions import Again, At, Before, Found, Neighbour, Newest, Page, Query, Since, Tail
from backfilld.core.frame import empty_trades
from backfilld.core.ids import IdSet
from backfilld.core.model import EARLIEST_MS, LATEST_MS, PAGE_ROWS, IdRange
from backfilld.errors import UnexpectedAnswer
from tests.fakes import DAY_MS, Tape, trade_frame
from tests.strategies import tapes


@st.composite
def queries(draw: st.DrawFn, tape: Tape) -> Query:
    """A question about a tape that is not empty, whose answer may be."""
    first = draw(st.integers(0, len(tape) - 1))
    last = draw(st.integers(first, min(len(tape), first + PAGE_ROWS) - 1))
    moment = tape.times[first] + draw(st.sampled_from([-1, 0, 1]))
    questions: list[Query] = [
        Page(IdRange(tape.ids[first], tape.ids[last])),
        Tail(tape.ids[first]),
        Tail(tape.ids[-1] + 1),
        Since(moment),
        Before(moment),
        Newest(tape.ids[first]),
    ]
    return draw(st.sampled_from(questions))


FEW = st.integers(1, 30)


@settings(max_examples=150)
@given(st.data(), tapes(st.integers(1, 2100)))
def test_every_true_answer_is_accepted(data: st.DataObject, tape: Tape) -> None:
    query = data.draw(queries(tape))
    check_page(tape.answer(query), query)


@given(st.data(), tapes(FEW), st.integers(1, 30))
def test_a_page_that_is_short_is_accepted_for_what_it_holds(data: st.DataObject, tape: Tape, rows: int) -> None:
    query = data.draw(queries(tape))
    answer = tape.answer(query).head(rows)
    assume(answer.height)
    check_page(answer, query)


def test_no_rows_answer_everything_but_a_page_of_known_ids() -> None:
    for query in (Tail(5), Since(DAY_MS, 1000), Before(DAY_MS), Newest(3)):
        check_page(empty_trades(), query)
    with pytest.raises(UnexpectedAnswer, match="no rows for ids 5 to 9"):
        check_page(empty_trades(), Page(IdRange(5, 9)))
    with pytest.raises(UnexpectedAnswer, match="though id 7 exists"):
        check_page(empty_trades(), Tail(5, known_id=7))


def shuffled(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows[1:2], rows[0:1], rows[2:]])


def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows[:1], rows[:-1]])


def every(column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.with_columns(pl.lit(value).cast(rows.schema[column]).alias(column))


def last_only(column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """One bad row at the end of a good page."""
    return lambda rows: pl.concat([rows[:-1], every(column, value)(rows[-1:])])


TAMPERING: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "rows in another order": shuffled,
    "a row doubled": doubled,
    "newest first": pl.DataFrame.reverse,
    "the price not a number": last_only("p", float("nan")),
    "the price infinite": last_only("p", float("inf")),
    "the price negative": last_only("p", -1.0),
    "the price zero, and no marker": last_only("p", 0.0),
    "the quantity negative": last_only("q", -0.5),
    "the quantity not a number": last_only("q", float("nan")),
    "the quantity infinite": last_only("q", float("inf")),
    "T in seconds": lambda rows: rows.with_columns(pl.col("T") // 1000),
    "T in microseconds": lambda rows: rows.with_columns(pl.col("T") * 1000),
    "T just too early": last_only("T", EARLIEST_MS - 1),
    "T just too late": last_only("T", LATEST_MS + 1),
    "f above l": last_only("l", 0),
    "f negative": last_only("f", -5),
    "half a marker": last_only("f", -1),
}


@pytest.mark.parametrize("tampering", TAMPERING)
@settings(max_examples=12)
@given(st.data(), st.integers(3, 30))
def test_a_tampered_answer_is_refused_whatever_was_asked(tampering: str, data: st.DataObject, rows: int) -> None:
    tape = Tape.even(rows, first_id=data.draw(st.sampled_from([1, 5_000_000_000])))
    asked: list[Query] = [Page(IdRange(tape.ids[0], tape.ids[-1])), Tail(tape.ids[0]), Since(DAY_MS, PAGE_ROWS)]
    query = data.draw(st.sampled_from(asked))
    with pytest.raises(UnexpectedAnswer):
        check_page(TAMPERING[tampering](tape.answer(query)), query)


@given(st.data(), tapes(st.integers(4, 30)), st.integers(1, 3))
def test_another_range_than_asked_for_is_refused(data: st.DataObject, tape: Tape, shift: int) -> None:
    start = data.draw(st.integers(0, len(tape) - 1 - shift))
    shifted, moment = start + shift, tape.times[start]
    for query in (Page(IdRange(tape.ids[shifted], tape.ids[-1])), Tail(tape.ids[shifted])):
        with pytest.raises(UnexpectedAnswer, match="rows from id"):
            check_page(tape.frame[start : start + 1], query)
    assert shift > 0
    known_id = tape.ids[shifted] - 1
    for query in (Page(IdRange(tape.ids[start], known_id), known_id), Tail(tape.ids[start], known_id=known_id)):
        with pytest.raises(UnexpectedAnswer, match=f"though id {known_id} exists"):
            check_page(tape.frame[shifted : shifted + 1], query)
    with pytest.raises(UnexpectedAnswer, match="rows from T"):
        check_page(tape.frame[start:], Since(moment + 1, PAGE_ROWS))
    with pytest.raises(UnexpectedAnswer, match="one before"):
        check_page(tape.frame[start : start + 1], Before(moment))
    with pytest.raises(UnexpectedAnswer, match="another sequence"):
        check_page(tape.frame[start : start + 1], Newest(tape.ids[shifted]))


@given(tapes(st.integers(1, 20)), st.integers(1, 19))
def test_more_rows_than_asked_for_are_refused(tape: Tape, rows: int) -> None:
    assume(rows < len(tape))
    with pytest.raises(UnexpectedAnswer, match="rows where"):
        check_page(tape.frame, Page(IdRange(tape.ids[0], tape.ids[rows - 1])))
    with pytest.raises(UnexpectedAnswer, match="rows where"):
        check_page(tape.frame, Since(tape.times[0], rows))


@given(st.integers(3, 40), st.data())
def test_an_answer_that_passes_over_ids_is_accepted_and_names_them(rows: int, data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(100, 98 + rows)))
    tape = Tape.of(100, range(DAY_MS, DAY_MS + rows), absent=gone)
    for query in (Tail(100), Page(IdRange(100, 99 + rows))):
        check_page(tape.frame, query)
        kept, found = cut(tape.frame, query, None)
        assert_frame_equal(kept, tape.frame)
        assert {i for each in found.skipped for i in range(each.first_id, each.last_id + 1)} == gone
        assert found.present == IdSet.of_ids(tape.frame["a"])


def test_an_answer_that_does_not_show_the_trade_before_its_ids_is_refused_and_it_is_not_kept_again() -> None:
    tape = Tape.of(100, range(DAY_MS, DAY_MS + 9), absent={104})
    query = Page(IdRange(104, 104), next_id=105, overlaps=True)
    for start, stop in ((4, 6), (3, 4), (0, 0)):
        with pytest.raises(UnexpectedAnswer):
            check_page(tape.frame[start:stop], query)
    rows = tape.answer(query)
    check_page(rows, query)
    kept, found = cut(rows, query, None)
    assert kept["a"].to_list() == [105]
    assert found.skipped == (IdRange(104, 104),)


@pytest.mark.parametrize("ids", [[], [103], [106]])
def test_the_trade_before_a_known_one_is_that_one_or_none(ids: list[int]) -> None:
    with pytest.raises(UnexpectedAnswer, match=r"105 exists|where 104 was asked for"):
        check_page(trade_frame(ids, [DAY_MS] * len(ids)), At(104))
    for first_id in (104, 105):
        check_page(trade_frame([first_id], [DAY_MS]), At(104))


def test_ids_that_were_skipped_before_the_first_row_beyond_the_window_are_named() -> None:
    rows = trade_frame([10, 11, 15, 16], [DAY_MS, DAY_MS + 1, DAY_MS + 9, DAY_MS + 9])
    kept, found = cut(rows, Tail(10), DAY_MS + 9)
    assert kept["a"].to_list() == [10, 11]
    assert (found.beyond_id, found.skipped) == (15, (IdRange(12, 14),))


@pytest.mark.parametrize(("first_id", "ids"), [(10, [10**12]), (10, [10, 11, 10**12]), (10, [2 * 10**9])])
def test_a_jump_beyond_all_growth_is_not_believed_on_the_word_of_one_answer(first_id: int, ids: list[int]) -> None:
    with pytest.raises(UnexpectedAnswer, match="a jump of more than") as caught:
        check_page(trade_frame(ids, [DAY_MS] * len(ids)), Tail(first_id))
    assert caught.value.absent is not None
    assert caught.value.absent[1] == ids[-1] - 1


def test_an_id_that_no_exchange_counts_to_is_refused() -> None:
    with pytest.raises(UnexpectedAnswer, match="which no exchange counts to"):
        check_page(trade_frame([2**53 + 1], [DAY_MS]), Newest(0))


def test_ids_below_zero_are_refused_and_marker_rows_accepted() -> None:
    with pytest.raises(UnexpectedAnswer, match="negative aggregate trade id"):
        check_page(trade_frame([-1, 0], [DAY_MS, DAY_MS], markers=[-1]), Since(DAY_MS, 2))
    check_page(trade_frame([0, 1, 2], [DAY_MS, DAY_MS - 500, DAY_MS], markers=[1]), Tail(0))


# -- cutting


@settings(max_examples=100)
@given(st.data(), tapes(st.integers(1, 40)))
def test_cut_keeps_what_is_before_the_stop_and_says_what_the_rows_are(data: st.DataObject, tape: Tape) -> None:
    stop_ms = data.draw(st.sampled_from([None, *tape.times, tape.times[-1] + 1, tape.times[0] - 1]))
    query = Tail(tape.ids[0])
    kept, found = cut(tape.frame, query, stop_ms)
    assert_frame_equal(kept, tape.frame.head(kept.height))
    assert found.rows == len(tape), "rows that were cut off count as sent"
    assert all(stop_ms is None or at < stop_ms for at in kept["T"])
    if kept.height < len(tape):
        assert found.beyond_id == tape.ids[kept.height]
        assert stop_ms is not None
        assert tape.times[kept.height] >= stop_ms
    else:
        assert found.beyond_id is None
    if kept.is_empty():
        assert found.ids is None
    else:
        assert found.ids == IdRange(tape.ids[0], tape.ids[kept.height - 1])
        assert (found.first_ms, found.last_ms) == (tape.times[0], tape.times[kept.height - 1])


@given(tapes(st.integers(1, 10)))
def test_what_only_locates_keeps_no_row(tape: Tape) -> None:
    """Nothing vouches for the id of a single row: the page that it leads to brings it."""
    for locating in (Before(tape.times[0] + 1), Newest(tape.ids[0]), Newest(0), Since(tape.times[0])):
        kept, found = cut(tape.frame.head(1), locating, None)
        assert kept.is_empty()
        assert found.ids == IdRange(tape.ids[0], tape.ids[0])


def test_a_tail_that_overlaps_does_not_keep_its_first_row_again() -> None:
    tape = Tape.even(3, first_id=7)
    kept, found = cut(tape.frame, Tail(7, known_id=7, overlaps=True), None)
    assert kept["a"].to_list() == [8, 9]
    assert (found.ids, found.rows, found.skipped) == (IdRange(8, 9), 3, ())
    _, found = cut(tape.frame.head(1), Tail(7, known_id=7, overlaps=True), None)
    assert (found.ids, found.rows) == (None, 1)


def test_one_time_that_is_wrong_ends_no_window_and_an_inversion_at_its_stop_does() -> None:
    stop_ms = DAY_MS + 100_000
    wrong = trade_frame([1, 2, 3], [DAY_MS, stop_ms + 5, DAY_MS + 2])
    assert cut(wrong, Tail(1), stop_ms)[1].beyond_id is None
    inverted = trade_frame([1, 2, 3, 4], [DAY_MS, stop_ms, stop_ms - 1, stop_ms + 1])
    assert cut(inverted, Tail(1), stop_ms)[1].beyond_id == 2


def test_cutting_nothing_finds_nothing() -> None:
    for query in (Tail(0), Before(DAY_MS)):
        kept, found = cut(empty_trades(), query, DAY_MS)
        assert kept.is_empty()
        assert found == Found(None, 0, 0, 0)


@pytest.mark.parametrize("query", [Tail(5), Since(DAY_MS), Newest(0)], ids=lambda query: type(query).__name__)
def test_a_trade_that_no_clock_has_reached_is_believed_only_if_three_answers_say_so(query: Query) -> None:
    rows, now_ms = trade_frame([5], [DAY_MS + 86_400_000]), DAY_MS + 1000
    check = AnswerCheck(query)
    for _ in range(AGREEING - 1):
        with pytest.raises(UnexpectedAnswer, match="no clock is beyond"):
            check(rows, [now_ms, now_ms - 86_400_000])
    check(rows, [now_ms])
    AnswerCheck(query)(rows, [now_ms, now_ms + 86_400_000])
    check = AnswerCheck(query)
    for _ in range(9 if isinstance(query, Tail) else AGREEING - 1):
        with pytest.raises(UnexpectedAnswer, match="no clock is beyond"):
            check(rows, [now_ms, now_ms - 1000])
    beside = (Neighbour(4, DAY_MS + 86_399_000, is_row=True),)
    AnswerCheck(Tail(5, beside=beside))(rows, [now_ms, now_ms - 1000])
    AnswerCheck(query)(rows)


@pytest.mark.parametrize(
    "query", [Page(IdRange(5, 5)), Tail(5), Since(DAY_MS), Newest(0)], ids=lambda query: type(query).__name__
)
def test_a_trade_that_is_an_hour_ahead_of_two_clocks_that_agree_takes_five_answers(query: Query) -> None:
    rows, now_ms = trade_frame([5], [DAY_MS + 3_600_000]), DAY_MS + 1000
    check = AnswerCheck(query)
    for _ in range(FOR_CLOCKS - 1):
        with pytest.raises(UnexpectedAnswer, match="no clock is beyond"):
            check(rows, [now_ms, now_ms - 1000])
    check(rows, [now_ms, now_ms - 1000])
    for clocks_ms in ([], [now_ms], [now_ms, now_ms - 120_000], [DAY_MS + 3_540_000, now_ms]):
        AnswerCheck(query)(rows, clocks_ms)


def test_a_stored_trade_of_a_quiet_hour_vouches_for_no_trade_ahead_of_the_clocks() -> None:
    """It fits, whichever hour the page claims. A trade that both have, and that says the same, ties the page to it."""
    rows, now_ms = trade_frame([5, 6], [DAY_MS + 3_600_000, DAY_MS + 3_601_000]), DAY_MS + 1000
    stored = Neighbour(4, DAY_MS, is_row=True)
    with pytest.raises(UnexpectedAnswer, match="no clock is beyond"):
        AnswerCheck(Tail(5, beside=(stored,)))(rows, [now_ms, now_ms])
    AnswerCheck(Tail(5, beside=(Neighbour(5, DAY_MS + 3_600_000, is_row=True, is_sure=False),)))(rows, [now_ms, now_ms])


@pytest.mark.parametrize("is_sure", [True, False])
def test_a_trade_that_several_answers_have_named_is_known_before_its_row_comes(*, is_sure: bool) -> None:
    named = (Neighbour(5, DAY_MS, is_row=False, is_sure=is_sure),)
    right, late = trade_frame([5], [DAY_MS]), trade_frame([5], [DAY_MS + 3_600_000])
    check = AnswerCheck(Page(IdRange(5, 5), beside=named))
    for _ in range(CONTRADICTING - 1):
        with pytest.raises(UnexpectedAnswer, match="beside id 5"):
            check(late)
    with pytest.raises(UnexpectedAnswer, match="beside id 5") if is_sure else nullcontext():
        check(late)
    with nullcontext() if is_sure else pytest.raises(UnexpectedAnswer, match="too few answers"):
        AnswerCheck(Page(IdRange(5, 5), beside=named), is_wary=True)(right)


def test_an_answer_that_is_accepted_at_once_does_not_count_for_those_that_were_refused() -> None:
    check = AnswerCheck(Again(5, beside=(Neighbour(5, DAY_MS, is_row=True, is_sure=False),)))
    for _ in range(CONTRADICTING - 1):
        with pytest.raises(UnexpectedAnswer, match="beside id 5"):
            check(trade_frame([5], [DAY_MS + 3_600_000]))
    check(trade_frame([5], [DAY_MS]))
    assert (check.agreeing, check.against) == (1, CONTRADICTING - 1)


@pytest.mark.parametrize(("back_ms", "takes"), [(60_000, 1), (60_001, FOR_TIME_GONE_BACK)])
def test_an_answer_whose_times_go_back_is_believed_only_if_several_say_so(back_ms: int, takes: int) -> None:
    """The times of a whole page ran backwards under ids that ascend, and it was stored."""
    rows = trade_frame([5, 6, 7], [DAY_MS + back_ms, DAY_MS, DAY_MS + 1])
    check = AnswerCheck(Page(IdRange(5, 7)))
    for _ in range(takes - 1):
        with pytest.raises(UnexpectedAnswer, match="comes behind"):
            check(rows)
    check(rows)


def test_the_time_of_a_marker_goes_back_as_it_likes() -> None:
    rows = trade_frame([5, 6, 7], [DAY_MS + 3_600_000, DAY_MS, DAY_MS + 3_600_001])
    is_marker = pl.col("a") == 6
    marker = [pl.when(is_marker).then(0.0).otherwise(name).alias(name) for name in ("p", "q")]
    marker += [pl.when(is_marker).then(-1).otherwise(name).alias(name) for name in ("f", "l")]
    AnswerCheck(Page(IdRange(5, 7)))(rows.with_columns(marker))
