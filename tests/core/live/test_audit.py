"""A stream that REST contradicts is found out, and one answer alone that differs does no harm."""

import random

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from backfilld.core.live.audit import AGAIN_S, ANSWERS, COMPARED, EVERY_S, Audit
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import IdRange
from tests.core.live.test_sequence import trade


class Told(LiveTrade, kw_only=True):
    """A trade with the fields that only a stream has."""

    s: str


def audited(*trades: LiveTrade) -> Audit:
    """One that is due at 30, of these trades."""
    audit = Audit()
    audit.begin(0.0)
    audit.went_out(trades)
    return audit


def test_a_look_asks_from_the_oldest_trade_that_it_compares_once_it_is_due() -> None:
    audit = audited(Told(**structs.asdict(trade(10)), s="BTCUSDT"), trade(11))
    assert (audit.begins_at(12, 29.0), audit.begins_at(12, 30.0), audit.asks_at) == (12, 10, 30.0)
    audit.compare([trade(10), trade(11), trade(12)], 31.0)
    assert audit.wrong is None
    assert audit.begins_at(13, 31.0) == 13
    audit.went_out([trade(12)])
    assert audit.asks_at == 31.0 + EVERY_S


def test_answers_in_a_row_that_differ_are_believed_whatever_goes_out_meanwhile() -> None:
    audit = audited(trade(10), trade(11, p=1.51), trade(12), trade(13, q=2.1))
    for number in range(ANSWERS):
        assert audit.wrong is None
        audit.compare([trade(each) for each in range(10, 15)], 30.0 + number)
        assert audit.asks_at == 30.0 + number + AGAIN_S
        audit.went_out([trade(14 + number * COMPARED + each) for each in range(COMPARED)])
    assert audit.wrong == IdRange(11, 13)


@given(st.integers(0, 2**32), st.floats(0, 0.3))
def test_answers_that_lag_and_some_that_are_wrong_do_not_refute_a_stream_that_is_right(seed: int, wrong: float) -> None:
    dice, audit, told = random.Random(seed), audited(trade(0)), 0
    for number in range(1, 200):
        audit.went_out([trade(number)])
        first_id = audit.begins_at(number, 30.0 + number * EVERY_S)
        is_wrong = dice.random() < wrong and told < ANSWERS - 1
        newest = number + 1 - dice.randint(0, 2) * (not is_wrong)
        told = told + 1 if is_wrong else told * (newest <= first_id)
        audit.compare([trade(each, p=1.5 + is_wrong) for each in range(first_id, newest)], 30.0 + number)
        assert audit.wrong is None


def test_every_trade_is_compared_where_there_is_weight_for_it_and_where_there_is_none_the_oldest_go_without() -> None:
    audit = audited()
    audit.went_out([trade(each) for each in range(COMPARED - 1)])
    assert audit.asks_at == 30.0
    audit.went_out([trade(COMPARED - 1)])
    assert audit.begins_at(COMPARED, 1.0) == 0
    audit.compare([trade(each) for each in range(COMPARED - 50)], 2.0)
    assert audit.begins_at(COMPARED, 2.0 + EVERY_S) == COMPARED - 50, "REST was behind: those are compared later"
    audit.went_out([trade(COMPARED + each) for each in range(2 * COMPARED)])
    assert audit.begins_at(3 * COMPARED, 3.0) == 2 * COMPARED
