"""Rows with nothing known beside them are believed once enough answers speak for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.backfill.answers import AnswerCheck, check_page
from backfilld.core.backfill.neighbours import A_JUMP
from backfilld.core.backfill.questions import Again, Before, Newest, Query, Since
from backfilld.core.backfill.support import CONTESTED, ENOUGH, MOST_VOTES, OUTVOTED, Support
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from backfilld.errors import UnexpectedAnswer
from tests.fakes import DAY_MS, trade_frame

PART = IdRange(5000, 5999)
ROWS = IdSet((PART,))


def voted(*votes: tuple[int, int]) -> Support:
    """Answers for and against the part."""
    support = Support()
    for agreeing, against in votes:
        support.vote(PART, agreeing, against, ROWS)
    return support


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=12))
def test_rows_are_believed_once_enough_answers_are_for_them_and_more_where_any_was_against(
    votes: list[tuple[int, int]],
) -> None:
    support = voted(*votes)
    lead, is_contested = sum(each - against for each, against in votes), any(against for _, against in votes)
    assert (support.weak(ROWS) == IdSet()) == (lead >= (CONTESTED if is_contested else ENOUGH))
    assert (support.contested(ROWS) == ROWS) == (is_contested and lead < CONTESTED)
    assert (support.outvoted(ROWS) == ROWS) == (lead <= -OUTVOTED)
    support.trust(IdSet((IdRange(5999, 5999),)))
    assert not support.weak(ROWS)
    assert not support.contested(ROWS)
    assert not support.outvoted(ROWS)
    support.forget(ROWS)
    assert support.weak(ROWS) == ROWS


@pytest.mark.parametrize("room", [A_JUMP - 1, A_JUMP])
def test_rows_far_from_all_that_is_stored_stand_alone(room: int) -> None:
    support, far = Support(), IdRange(PART.last_id + 1 + room, PART.last_id + 100 + room)
    support.trust(ROWS)
    both = ROWS | IdSet((far,))
    assert support.weak(both) == (IdSet() if room < A_JUMP else IdSet((far,)))
    assert support.beside(IdRange(PART.last_id + 1, far.first_id - 1), both) == support.weak(both)


def test_votes_that_are_added_up_count_as_before() -> None:
    support = Support()
    for number in range(MOST_VOTES + 10):
        support.vote(IdRange(PART.first_id + number, PART.first_id + number), 1, 1, ROWS)
    support.vote(PART, CONTESTED - 1, 0, ROWS)
    assert support.weak(ROWS) == ROWS
    support.vote(PART, 1, 0, ROWS)
    assert not support.weak(ROWS)


@pytest.mark.parametrize("query", [Newest(0), Newest(0, needs_agreement=True), Since(DAY_MS), Before(DAY_MS + 99)])
def test_after_contradictions_a_trade_is_named_by_four_more_answers_than_name_another(query: Query) -> None:
    check = AnswerCheck(query, is_wary=not getattr(query, "needs_agreement", False))
    right, wrong = trade_frame([7], [DAY_MS + 5]), trade_frame([900_000], [DAY_MS + 5])
    for trades in (right, wrong, wrong.clear(), right, right, right, right):
        with pytest.raises(UnexpectedAnswer, match="too few answers"):
            check(trades)
    check(right)
    assert (check.agreeing, check.against) == (6, 2)


@pytest.mark.parametrize("trades", [trade_frame([8], [DAY_MS]), trade_frame([], [])])
def test_a_trade_that_came_before_is_still_there(trades: object) -> None:
    check_page(trade_frame([7], [DAY_MS]), Again(7))
    with pytest.raises(UnexpectedAnswer, match="id 7"):
        check_page(trades, Again(7))  # type: ignore[arg-type]
