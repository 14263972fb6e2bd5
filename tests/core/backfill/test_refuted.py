"""A trade that one answer has named, and answers that contradict what is stored."""

import pytest

from backfilld.core.backfill.answers import AnswerCheck
from backfilld.core.backfill.neighbours import AGREEING, KnownTrades
from backfilld.core.backfill.plan import BackfillPlan
from backfilld.core.backfill.questions import Found, Newest, Page, Query, Tail
from backfilld.core.backfill.window_end import MOST_REFUTED
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.core.timespan import StoredSpan, TimeSpan
from backfilld.errors import UnexpectedAnswer
from tests.fakes import DAY_MS, trade_frame

STORED = StoredSpan(IdRange(100, 199), DAY_MS, DAY_MS + 1000)


def named(plan: BackfillPlan, trade_id: int) -> Query:
    """The newest trade is named; the question for it."""
    newest = plan.take()
    assert isinstance(newest, Newest)
    plan.answered(newest, Found(IdRange(trade_id, trade_id), DAY_MS + 2000, DAY_MS + 2000, 1))
    asked = plan.take()
    assert isinstance(asked, Page | Tail)
    return asked


def test_a_trade_that_was_named_and_does_not_come_is_given_up_and_the_newest_named_by_several_answers() -> None:
    plan = BackfillPlan(TimeSpan(DAY_MS), [STORED], first_is_proven=True)
    for number in range(MOST_REFUTED):
        asked = named(plan, 9000 + number)
        assert isinstance(asked, Page | Tail)
        assert plan.refuted(asked, "no rows")
        assert plan.last_id == STORED.ids.last_id
        assert plan.next_question() == Newest(199, needs_agreement=True)
    asked = named(plan, 9900)
    assert isinstance(asked, Page | Tail)
    assert plan.refuted(asked, "no rows")
    assert plan.is_done
    assert [each.reason for each in plan.failures] == ["no rows"]


def test_ids_below_a_row_that_is_stored_are_not_refuted() -> None:
    above = StoredSpan(IdRange(300, 399), DAY_MS + 3000, DAY_MS + 4000)
    plan = BackfillPlan(TimeSpan(DAY_MS), [STORED, above], first_is_proven=True)
    asked = named(plan, 399)
    assert isinstance(asked, Page | Tail)
    assert not plan.refuted(asked, "no rows")
    assert plan.is_waiting
    assert plan.last_id == above.ids.last_id


@pytest.mark.parametrize("refused", [0, 1])
def test_answers_that_contradict_a_stored_trade_again_and_again_name_it_unless_any_was_no_answer(refused: int) -> None:
    ids = IdRange(200, 209)
    query = KnownTrades([STORED]).put_beside(Page(ids), ids)
    check = AnswerCheck(query)
    day_before = trade_frame(list(range(200, 210)), [DAY_MS - MS_PER_DAY + n for n in range(10)])
    answers = [day_before.clear()] * refused + [day_before] * (AGREEING + 1)
    named: list[int | None] = []
    for trades in answers:
        with pytest.raises(UnexpectedAnswer) as caught:
            check(trades)
        named.append(caught.value.contradicts)
    assert named == [None] * (len(answers) - 1) + [None if refused else STORED.ids.last_id]
