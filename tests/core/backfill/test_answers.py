"""Every true page of a tape is accepted, every tampered one refused, and what lies beyond the window is cut off."""

from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld.core.backfill.answers import check_page, cut
from backfilld.core.backfill.questions import Before, Found, Newest, Page, Query, Since, Tail
from backfilld.core.model import EARLIEST_MS, LATEST_MS, PAGE_ROWS, IdRange, empty_trades
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
        Since(moment, draw(st.sampled_from([1, PAGE_ROWS]))),
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
    with pytest.raises(UnexpectedAnswer, match="no rows for ids 5 to 9") as caught:
        check_page(empty_trades(), Page(IdRange(5, 9)))
    assert caught.value.absent == (5, 9)


def shuffled(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows[1:2], rows[0:1], rows[2:]])


def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows[:1], rows[:-1]])


def holed(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([rows[:1], rows[2:]])


def every(column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.with_columns(pl.lit(value).cast(rows.schema[column]).alias(column))


def last_only(column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """One bad row at the end of a good page."""
    return lambda rows: pl.concat([rows[:-1], every(column, value)(rows[-1:])])


TAMPERING: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "rows in another order": shuffled,
    "a row doubled": doubled,
    "a row dropped in the middle": holed,
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
    for query in (Page(IdRange(tape.ids[start], tape.ids[-1])), Tail(tape.ids[start])):
        with pytest.raises(UnexpectedAnswer) as later:
            check_page(tape.frame[shifted : shifted + 2], query)
        assert later.value.absent == (tape.ids[start], tape.ids[shifted] - 1)
    for query in (Page(IdRange(tape.ids[shifted], tape.ids[-1])), Tail(tape.ids[shifted])):
        with pytest.raises(UnexpectedAnswer) as earlier:
            check_page(tape.frame[start : start + 2], query)
        assert earlier.value.absent is None
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
def test_a_hole_names_the_ids_that_were_passed_over(rows: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, rows - 2))
    last = data.draw(st.integers(first, rows - 2))
    tape = Tape.of(100, range(DAY_MS, DAY_MS + rows), absent=range(100 + first, 101 + last))
    with pytest.raises(UnexpectedAnswer, match="must ascend by one") as caught:
        check_page(tape.frame, Tail(100))
    assert caught.value.absent == (100 + first, 100 + last)


def test_a_page_that_begins_beyond_its_own_ids_names_no_more_than_those() -> None:
    with pytest.raises(UnexpectedAnswer) as caught:
        check_page(trade_frame([50, 51], [DAY_MS, DAY_MS]), Page(IdRange(10, 19)))
    assert caught.value.absent == (10, 19)


def test_ids_below_zero_are_refused_and_marker_rows_accepted() -> None:
    with pytest.raises(UnexpectedAnswer, match="negative aggregate trade id"):
        check_page(trade_frame([-1, 0], [DAY_MS, DAY_MS], markers=[-1]), Since(DAY_MS, 2))
    check_page(trade_frame([0, 1, 2], [DAY_MS, DAY_MS - 500, DAY_MS], markers=[1]), Tail(0))


# -- cutting


@settings(max_examples=100)
@given(st.data(), tapes(st.integers(1, 40)))
def test_cut_keeps_what_is_before_the_stop_and_says_what_the_rows_are(data: st.DataObject, tape: Tape) -> None:
    stop_ms = data.draw(st.sampled_from([None, *tape.times, tape.times[-1] + 1, tape.times[0] - 1]))
    asked: list[Query] = [Tail(tape.ids[0]), Since(tape.times[0], PAGE_ROWS)]
    query = data.draw(st.sampled_from(asked))
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
def test_pages_and_newest_are_not_cut_and_what_only_locates_keeps_no_row(tape: Tape) -> None:
    ids = IdRange(tape.ids[0], tape.ids[-1])
    for query in (Page(ids), Newest(tape.ids[0] - 1)):
        kept, found = cut(tape.frame, query, tape.times[0])
        assert_frame_equal(kept, tape.frame)
        assert replace(found, is_marker=False) == Found(ids, tape.times[0], tape.times[-1], len(tape))
        assert found.is_marker == (tape.frame["p"][-1] == 0)
    for locating in (Before(tape.times[0] + 1), Newest(tape.ids[0])):
        kept, found = cut(tape.frame.head(1), locating, None)
        assert kept.is_empty(), "a row that is held, or lies before the window"
        assert found.ids == IdRange(tape.ids[0], tape.ids[0])


def test_cutting_nothing_finds_nothing() -> None:
    for query in (Tail(0), Before(DAY_MS)):
        kept, found = cut(empty_trades(), query, DAY_MS)
        assert kept.is_empty()
        assert found == Found(None, 0, 0, 0)
