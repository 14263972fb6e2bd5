"""What is served from here is what a filter over all trades would find; what is not proven is not served."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.ids import IdSet
from backfilld.core.model import EARLIEST_MS, IdRange, Instrument
from backfilld.core.serving.questions import TradesQuestion
from backfilld.core.serving.selection import select
from backfilld.core.serving.timeline import Piece, Timeline
from tests.core.serving.rows import Row, frame_of_rows, rows_in_time

BTC = Instrument.parse("spot:BTCUSDT")


def timeline_of(rows: Sequence[Row], edges: Sequence[int], *, is_live: bool = True) -> tuple[Timeline, pl.DataFrame]:
    """All rows in pieces cut at these places."""
    pieces = []
    for start, stop in pairwise(edges):
        part = rows[start:stop]
        ids = IdRange(part[0].id, part[-1].id)
        pieces.append(Piece(ids, part[0].time_ms, part[-1].time_ms, ids, date(1970, 1, 1)))
    return Timeline(pieces, is_live=is_live), frame_of_rows(rows)


def answer(question: TradesQuestion, timeline: Timeline, every: pl.DataFrame) -> list[int] | None:
    """The ids of the answer, from a store that has exactly the pieces; None where the exchange is to be asked."""
    selecting = select(question, timeline)
    try:
        piece = next(selecting)
        while True:
            wanted = pl.col("a").is_between(piece.ids.first_id, piece.ids.last_id)
            piece = selecting.send(every.filter(wanted))
    except StopIteration as done:
        return None if done.value is None else done.value["a"].to_list()


def naive(question: TradesQuestion, rows: Sequence[Row]) -> list[int]:
    """The exchange's rules over all trades."""
    if question.from_id is not None:
        return [row.id for row in rows if row.id >= question.from_id][: question.limit]
    start_ms = question.start_ms if question.start_ms is not None else 0
    end_ms = question.end_ms if question.end_ms is not None else 10**15
    matching = [row.id for row in rows if start_ms <= row.time_ms <= end_ms]
    return matching[: question.limit] if question.start_ms is not None else matching[-question.limit :]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Row], list[int], TradesQuestion]:
    rows = draw(rows_in_time(least=3, markers=False))
    cuts = sorted(draw(st.sets(st.integers(1, len(rows) - 1), max_size=4)))
    limit = draw(st.integers(1, 12))
    times = st.integers(rows[0].time_ms - 5, rows[-1].time_ms + 5) | st.sampled_from([row.time_ms for row in rows])
    kind = draw(st.sampled_from(["id", "start", "end", "both", "newest"]))
    question = TradesQuestion(BTC, limit)
    if kind == "id":
        question = TradesQuestion(BTC, limit, from_id=draw(st.integers(rows[0].id - 2, rows[-1].id + 2)))
    elif kind != "newest":
        start_ms, end_ms = sorted((draw(times), draw(times)))
        question = TradesQuestion(
            BTC, limit, start_ms=start_ms if kind != "end" else None, end_ms=end_ms if kind != "start" else None
        )
    return rows, [0, *cuts, len(rows)], question


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_an_answer_is_what_the_exchange_would_say(world: tuple[list[Row], list[int], TradesQuestion]) -> None:
    rows, edges, question = world
    timeline, every = timeline_of(rows, edges)
    found = answer(question, timeline, every)
    assert found is None or found == naive(question, rows)


@settings(max_examples=300, deadline=None)
@given(worlds(), st.data())
def test_no_answer_is_given_in_which_a_trade_could_be_missing(
    world: tuple[list[Row], list[int], TradesQuestion], data: st.DataObject
) -> None:
    """The exchange has all rows, the store lacks some pieces of them: what is answered is still right."""
    rows, edges, question = world
    timeline, every = timeline_of(rows, edges, is_live=False)
    kept = data.draw(st.sets(st.sampled_from(range(len(timeline.pieces))), min_size=1))
    stored = Timeline([piece for at, piece in enumerate(timeline.pieces) if at in kept])
    found = answer(question, stored, every)
    assert found is None or found == naive(question, rows)


def test_an_ordinary_question_within_what_is_stored_is_answered() -> None:
    rows = [Row(EARLIEST_MS + number, number, *frame_numbers(), number, number, is_maker=True) for number in range(100)]
    timeline, every = timeline_of(rows, [0, 40, 100], is_live=False)
    assert answer(TradesQuestion(BTC, 30, from_id=30), timeline, every) == list(range(30, 60))
    start_ms = EARLIEST_MS + 35
    assert answer(TradesQuestion(BTC, 10, start_ms=start_ms), timeline, every) == list(range(35, 45))
    between = TradesQuestion(BTC, 100, start_ms=start_ms, end_ms=start_ms + 9)
    assert answer(between, timeline, every) == list(range(35, 45))
    assert answer(TradesQuestion(BTC, 3, end_ms=start_ms), timeline, every) == [33, 34, 35]
    assert answer(TradesQuestion(BTC, 30, from_id=90), timeline, every) is None, "there may be newer trades"
    assert answer(TradesQuestion(BTC, 3), timeline, every) is None, "which the newest are, is not known"


def frame_numbers() -> tuple[Decimal, Decimal]:

    return Decimal(1), Decimal(1)


def piece(first_id: int, last_id: int, **given: bool) -> Piece:
    return Piece(IdRange(first_id, last_id), first_id * 10, last_id * 10, first_id, date(1970, 1, 1), **given)


def test_pieces_adjoin_where_no_id_lies_between_or_the_exchange_lacks_those() -> None:
    timeline = Timeline([piece(1, 5), piece(6, 9), piece(12, 20), piece(25, 30)], IdSet.of([IdRange(10, 11)]))
    assert [timeline.adjoins(at) for at in range(4)] == [True, True, False, False]


def test_the_first_trade_of_a_day_proves_that_none_came_before_it() -> None:
    assert Timeline([piece(5, 9)]).from_ms(0) is None
    assert Timeline([piece(5, 9, opens=True)]).from_ms(0) == 0
    assert Timeline([piece(5, 9)], is_first=True).from_ms(0) == 0
    assert Timeline([piece(5, 9)]).from_ms(60) == 0


def test_the_last_trade_of_a_day_proves_that_none_comes_after_it() -> None:
    end_ms = 86_400_000
    assert Timeline([piece(5, 9)]).up_to_ms(end_ms - 1) is None
    assert Timeline([piece(5, 9, closes=True)]).up_to_ms(end_ms - 1) == 0
    assert Timeline([piece(5, 9, closes=True)]).up_to_ms(end_ms) is None
    assert Timeline([piece(5, 9)], is_live=True).up_to_ms(end_ms) == 0


@pytest.mark.parametrize("from_id", [10, 11])
def test_who_has_everything_gets_an_empty_page_only_for_the_very_next_id(from_id: int) -> None:
    timeline = Timeline([piece(5, 9)], is_live=True)
    found = answer(TradesQuestion(BTC, from_id=from_id), timeline, frame_of_rows([]))
    assert found == ([] if from_id == 10 else None)
