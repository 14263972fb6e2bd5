"""What answers say of rows that came: for them, or against them."""

from dataclasses import replace

import pytest

from backfilld.core.backfill.doubts import MOST_AGAIN, Doubts
from backfilld.core.backfill.neighbours import KnownTrades
from backfilld.core.backfill.questions import Again, Found, Newest, Page, Query
from backfilld.core.backfill.support import CONTESTED, Support
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from tests.fakes import DAY_MS

PART = IdRange(5000, 5999)
ROWS = IdSet((PART,))
PAGE = Found(PART, DAY_MS, DAY_MS + 9000, len(PART))
LAST = Found(IdRange(5999, 5999), DAY_MS + 9000, DAY_MS + 9000, 1)
OTHER = replace(LAST, first_ms=DAY_MS + 9001, last_ms=DAY_MS + 9001)


def weighed(*answers: tuple[Query, Found]) -> tuple[Doubts, Support]:
    """The doubts once these answers have come."""
    support, trades = Support(), KnownTrades([])
    doubts = Doubts(support, trades)
    for query, found in answers:
        doubts.weigh(query, found, PART.first_id, ROWS, trades.learn(query, found))
    return doubts, support


@pytest.mark.parametrize(("named", "lead"), [(LAST, 1), (OTHER, -1)])
@pytest.mark.parametrize("is_named_first", [True, False])
def test_an_answer_that_names_a_stored_trade_speaks_for_its_rows_or_against_them(
    named: Found, lead: int, is_named_first: bool
) -> None:
    page, name = (Page(PART), replace(PAGE, is_confirmed=True, agreeing=3)), (Newest(0), named)
    _, support = weighed(*((name, page) if is_named_first else (page, name)))
    support.vote(PART, CONTESTED - 3 - lead - 1, 0, ROWS)
    assert support.weak(ROWS) == (IdSet() if lead == 1 else ROWS)
    support.vote(PART, 1, 0, ROWS)
    assert not support.weak(ROWS)


def test_rows_that_several_answers_brought_are_forgotten_once_more_name_their_last_trade_otherwise() -> None:
    """Three answers a day early were believed, and each that named the newest trade counted for them."""
    page, name = (Page(PART), replace(PAGE, is_confirmed=True, agreeing=3)), (Newest(0), OTHER)
    assert not weighed(page, *[name] * 5)[0].doubted
    assert weighed(page, *[name] * 6)[0].doubted == ROWS


def test_answers_that_contradict_each_other_for_ever_end_a_round() -> None:
    trades, first = KnownTrades([]), Found(IdRange(5000, 5000), DAY_MS, DAY_MS, 1)
    doubts = Doubts(Support(), trades)
    doubts.weigh(Page(PART), PAGE, PART.first_id, ROWS, trades.learn(Page(PART), PAGE))
    asked = 0
    while (again := doubts.confirmation(ROWS)) is not None:
        assert isinstance(again, Again)
        found, asked = first if again.trade_id == PART.first_id else OTHER, asked + 1
        doubts.weigh(again, found, PART.first_id, ROWS, trades.learn(again, found))
    assert asked == MOST_AGAIN
    doubts.begin_round()
    assert doubts.confirmation(ROWS) is not None
