"""The attachment as a playbook, and a law: whatever stream and REST do, what goes out is the tape."""

import random
from itertools import pairwise
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.live.asks import Ask, Why
from backfilld.core.live.attachment import (
    DOUBT_S,
    GOES_ON,
    JOIN_S,
    LONGEST_PAUSE_S,
    LONGEST_QUIET,
    LONGEST_RETRY_S,
    SETTLED_S,
    Attachment,
    State,
)
from backfilld.core.live.delay import SHORTEST_S
from backfilld.core.live.pace import Pace
from backfilld.core.live.patience import Times
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import PAGE_ROWS, IdRange
from tests.core.live.test_sequence import ids, trade

TIMES = Times(poll_s=30.0, silence_s=60.0, patience_s=30.0)


def attached(now: float = 100.0) -> Attachment:
    """One that is attached and next gives out 10."""
    attachment = Attachment(TIMES, 0.0)
    attachment.opened(0.0)
    attachment.begin(10, now)
    assert attachment.state is State.ATTACHED
    return attachment


def test_a_stream_that_stood_before_the_last_answer_needs_no_question() -> None:
    attachment = Attachment(TIMES, 0.0)
    attachment.opened(0.0)
    assert attachment.heard([trade(9), trade(10), trade(11)], 1.0) == []
    assert attachment.due_at() == inf
    assert ids(attachment.begin(10, SETTLED_S)) == [10, 11]
    assert attachment.is_attached
    assert attachment.question(SETTLED_S + 59) is None


def test_a_stream_that_was_just_opened_is_trusted_and_rest_is_asked_once_more() -> None:
    attachment = Attachment(TIMES, 0.0)
    attachment.opened(0.0)
    attachment.begin(10, 1.0)
    assert attachment.is_attached
    assert attachment.question(JOIN_S) == Ask(10, Why.SILENCE), "at the pace of caution: a start of sixty is no burst"
    attachment.asked(JOIN_S)
    assert ids(attachment.answered([trade(10)], Why.SILENCE, 2.1)) == [10], "REST was behind at first"
    assert attachment.is_attached, "that proves nothing against the stream"
    assert attachment.due_at() == 2.1 + TIMES.silence_s


def test_one_that_speaks_is_not_asked_about() -> None:
    attachment = Attachment(TIMES, 0.0)
    attachment.opened(0.0)
    attachment.begin(10, 1.0)
    attachment.heard([trade(10)], 1.5)
    assert attachment.due_at() == 1.5 + TIMES.silence_s


def test_without_a_connection_rest_is_polled() -> None:
    attachment = Attachment(TIMES, 0.0)
    attachment.begin(10, 1.0)
    assert attachment.state is State.DETACHED
    assert attachment.question(30.9) is None
    assert attachment.question(31.0) == Ask(10, Why.POLL)
    attachment.asked(31.0)
    assert attachment.question(99.0) is None, "one question at a time"
    assert ids(attachment.answered([trade(10)], Why.POLL, 31.1)) == [10]
    assert attachment.due_at() == 61.0


def test_after_a_reconnect_a_message_proves_it_and_else_a_short_page() -> None:
    attachment = attached()
    attachment.lost()
    assert attachment.state is State.DETACHED
    attachment.opened(110.0)
    assert not attachment.is_attached
    assert attachment.due_at() == 110.0 + JOIN_S
    assert ids(attachment.heard([trade(10)], 110.5)) == [10]
    assert attachment.is_attached
    attachment.lost()
    attachment.opened(120.0)
    assert attachment.question(120.0 + JOIN_S) == Ask(11, Why.JOIN)
    attachment.asked(122.0)
    assert ids(attachment.answered([trade(11)], Why.JOIN, 122.1)) == [11]
    assert attachment.is_attached


def test_a_full_page_is_followed_by_another_question_at_once() -> None:
    attachment = Attachment(TIMES, 0.0)
    attachment.begin(0, 0.0)
    attachment.asked(30.0)
    attachment.answered([trade(each) for each in range(1000)], Why.POLL, 30.1)
    assert attachment.question(30.1) == Ask(1000, Why.POLL)


def test_a_hole_is_asked_for_once_it_cannot_be_a_shuffle_and_later_where_rest_was_behind() -> None:
    attachment = attached()
    attachment.heard([trade(12)], 101.0)
    assert attachment.due_at() == 101.0 + SHORTEST_S
    assert attachment.question(101.05) is None
    assert attachment.question(101.1) == Ask(10, Why.HOLE)
    assert attachment.healed(101.1) is None
    attachment.asked(101.1)
    assert attachment.answered([], Why.HOLE, 101.2) == []
    assert attachment.question(101.3) is None, "not yet: it waits longer"
    due_at = attachment.due_at()
    attachment.asked(due_at)
    assert ids(attachment.answered([trade(10), trade(11)], Why.HOLE, due_at)) == [10, 11, 12]
    healed = attachment.healed(due_at)
    assert healed is not None
    assert (healed.ids, healed.requests) == (IdRange(10, 11), 2)
    attachment.heard([trade(14)], 200.0)
    assert attachment.due_at() > 200.0 + SHORTEST_S, "the next hole waits from the start"


def test_a_hole_that_the_stream_fills_itself_costs_nothing() -> None:
    attachment = attached()
    attachment.heard([trade(12)], 101.0)
    assert ids(attachment.heard([trade(11), trade(10)], 101.05)) == [10, 11, 12]
    assert attachment.question(150.0) is None


def denied(attachment: Attachment, since: float, until: float) -> None:
    """REST answers every second, with later trades than those that are missing."""
    now = since
    while now <= until:
        assert attachment.sequence.hole is not None
        attachment.asked(now)
        attachment.passed_over(attachment.sequence.hole, now)
        now += 1.0


def test_a_hole_that_rest_passes_over_is_given_up_after_the_patience_and_said_so() -> None:
    attachment = attached()
    attachment.heard([trade(12)], 101.0)
    attachment.asked(101.1)
    attachment.passed_over(IdRange(10, 11), 101.0)
    denied(attachment, 102.0, 130.9)
    assert not attachment.is_overdue
    denied(attachment, 131.0, 131.0)
    assert attachment.is_overdue
    absent, was_passed_over, ready = attachment.give_up()
    assert (absent, was_passed_over, ids(ready)) == (IdRange(10, 11), True, [12])
    assert not attachment.is_overdue


def test_a_hole_behind_which_the_stream_goes_on_is_given_up_also_where_rest_stands_still() -> None:
    attachment, now = attached(), 101.0
    attachment.heard([trade(each) for each in range(12, 12 + GOES_ON)], now)
    while not attachment.is_overdue:
        now = attachment.due_at()
        assert now < 101.0 + TIMES.patience_s + 5
        attachment.asked(now)
        assert attachment.answered([], Why.HOLE, now) == []
    absent, was_passed_over, ready = attachment.give_up()
    assert (absent, was_passed_over, ids(ready)) == (IdRange(10, 11), False, [12, 13, 14])


def test_what_waits_behind_ids_that_rest_does_not_reach_is_forgotten_after_ten_minutes_and_few_questions() -> None:
    """The id of a stream may be wrong by thousands; or REST stands still for minutes, and brings all of it later."""
    attachment, now, asked = attached(), 101.0, 0
    attachment.heard([trade(9_000)], now)
    while attachment.sequence.hole is not None:
        now = attachment.due_at()
        assert attachment.question(now) == Ask(10, Why.HOLE)
        attachment.asked(now)
        asked += 1
        assert attachment.answered([], Why.HOLE, now) == []
        assert not attachment.is_overdue
    assert 701.0 < now < 770.0
    assert asked < 60
    assert ids(attachment.heard([trade(10), trade(12)], now)) == [10]
    attachment.asked(now + 1)
    assert ids(attachment.answered([trade(11)], Why.HOLE, now + 1)) == [11, 12]


def test_a_stream_that_repeats_old_trades_or_brings_none_that_can_be_is_silent() -> None:
    attachment = attached()
    assert ids(attachment.heard([trade(10), trade(11)], 101.0)) == [10, 11]
    for second in range(102, 160):
        attachment.heard([trade(10), trade(11)], float(second))
        attachment.heard([trade(12, T=1_767_000_000_000)], float(second))
    assert attachment.due_at() == 101.0 + TIMES.silence_s
    assert attachment.question(161.0) == Ask(12, Why.SILENCE)


def test_ids_that_are_passed_over_while_polling_are_given_up_as_well() -> None:
    attachment = Attachment(TIMES, 0.0)
    attachment.begin(10, 0.0)
    attachment.asked(30.0)
    attachment.passed_over(IdRange(10, 12), 30.1)
    attachment.asked(61.0)
    attachment.passed_over(IdRange(10, 12), 61.0)
    assert attachment.is_overdue
    assert attachment.give_up() == (IdRange(10, 12), True, [])
    assert attachment.next_id == 13


def test_a_hole_that_nobody_could_ask_for_is_not_given_up_however_long_that_takes() -> None:
    attachment = attached()
    attachment.heard([trade(12)], 101.0)
    now = 101.1
    while now < 3 * 86_400:
        attachment.asked(now)
        attachment.failed(now, pause_s=120.0)
        now = attachment.due_at()
        assert not attachment.is_overdue
    assert attachment.question(now) == Ask(10, Why.HOLE)
    attachment.asked(now)
    assert ids(attachment.answered([trade(10), trade(11)], Why.HOLE, now)) == [10, 11, 12]


def test_every_trade_that_comes_begins_the_patience_anew() -> None:
    attachment = attached()
    attachment.heard([trade(13)], 101.0)
    denied(attachment, 102.0, 131.0)
    attachment.heard([trade(10)], 131.5)
    denied(attachment, 132.0, 161.0)
    assert not attachment.is_overdue
    assert ids(attachment.heard([trade(11), trade(12)], 161.5)) == [11, 12, 13]
    assert not attachment.is_overdue, "no hole is left"


def test_a_pause_is_sat_out_but_looked_at_every_minute() -> None:
    attachment = attached()
    attachment.heard([trade(12)], 101.0)
    attachment.asked(101.1)
    attachment.failed(101.1, pause_s=20.0)
    assert attachment.due_at() == 121.1
    attachment.asked(121.1)
    attachment.failed(121.1, pause_s=3600.0)
    assert attachment.due_at() == 121.1 + LONGEST_PAUSE_S


def test_a_dead_stream_is_found_by_rows_that_rest_has_and_the_stream_does_not_bring() -> None:
    attachment = attached(100.0)
    assert attachment.question(159.9) is None
    assert attachment.question(160.0) == Ask(10, Why.SILENCE)
    attachment.asked(160.0)
    assert ids(attachment.answered([trade(10)], Why.SILENCE, 160.1)) == [10]
    assert attachment.state is State.DOUBTED
    assert not attachment.is_dead(160.1 + DOUBT_S / 2)
    assert attachment.is_dead(160.1 + DOUBT_S)
    assert not attachment.is_dead(200.0), "it is said once"
    assert attachment.question(160.0 + TIMES.poll_s) == Ask(11, Why.POLL), "a dead stream is polled"


def test_after_a_death_only_a_message_of_the_stream_attaches_it_and_a_silent_address_is_left_again() -> None:
    """An acknowledged subscription that brings nothing, as of a wrong address: it is never shown as live again."""
    attachment, now, deaths = attached(100.0), 160.0, 0
    attachment.asked(now)
    attachment.answered([trade(10)], Why.SILENCE, now)
    next_id, shown = 11, []
    while now < 700.0:
        now = max(now, attachment.due_at())
        if attachment.is_dead(now):
            deaths += 1
            attachment.opened(now)
        ask = attachment.question(now)
        if ask is not None:
            attachment.asked(now)
            attachment.answered([trade(next_id)], ask.why, now)
            next_id += 1
        shown.append(attachment.is_attached)
    assert not any(shown)
    assert attachment.is_silent
    assert 6 <= deaths <= 10, "another connection is tried about every minute"
    assert ids(attachment.heard([trade(next_id)], now)) == [next_id]
    assert (attachment.is_attached, attachment.is_silent) == (True, False)


def test_a_trade_that_rest_shows_a_moment_before_the_stream_does_no_harm() -> None:
    attachment = attached(100.0)
    attachment.asked(160.0)
    attachment.answered([trade(10)], Why.SILENCE, 160.1)
    assert attachment.heard([trade(10)], 160.2) == []
    assert attachment.state is State.ATTACHED


def test_a_quiet_instrument_is_asked_about_ever_more_rarely() -> None:
    attachment, asked, now = attached(0.0 + SETTLED_S), [], SETTLED_S
    while now < 86_400:
        now = attachment.due_at()
        assert attachment.question(now) == Ask(10, Why.SILENCE)
        attachment.asked(now)
        attachment.answered([], Why.SILENCE, now)
        asked.append(now)
    gaps = [after - before for before, after in pairwise(asked)]
    assert gaps[:3] == [120.0, 240.0, 480.0]
    assert max(gaps) == LONGEST_QUIET * 60.0


def test_failures_are_repeated_later_each_time() -> None:
    attachment = attached()
    attachment.heard([trade(12)], 101.0)
    waits, now = [], 101.1
    for _ in range(6):
        attachment.asked(now)
        attachment.failed(now)
        waits.append(attachment.due_at() - now)
        now = attachment.due_at()
    assert waits[0] < 1 < waits[2] < waits[3]
    assert max(waits) <= LONGEST_RETRY_S


def test_the_pace_spreads_its_weight_over_the_minute() -> None:
    pace, taken = Pace(60.0), 0
    for second in range(600):
        taken += pace.take(20, float(second))
    assert taken == 30


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.floats(0, 0.05), st.floats(0, 0.05), st.floats(0, 0.2), st.floats(0, 1.5),
    st.sampled_from([5.0, 50.0, 500.0]), st.floats(0, 20),
)  # fmt: skip
def test_whatever_stream_and_rest_do_what_goes_out_is_the_tape(  # noqa: C901 - a small world
    seed: int, dropped: float, doubled: float, shuffled: float, lag_s: float, rate: float, cut_every_s: float
) -> None:
    """A stream that drops, doubles, shuffles and is cut, before a REST that lies behind it."""
    dice = random.Random(seed)
    attachment, requests = Attachment(TIMES, 0.0), 0
    out: list[int] = []
    pending: list[LiveTrade] = []
    now, sent, stop_s, is_open, next_cut = 0.0, 0, 40.0, False, cut_every_s or inf
    attachment.begin(0, 0.0)
    answer_at, question = inf, None
    while now < stop_s + 200:
        now += 0.02
        made = int(min(now, stop_s) * rate)
        if not is_open and dice.random() < 0.2:
            is_open = True
            attachment.opened(now)
        if is_open and now > next_cut and now < stop_s:
            is_open, next_cut = False, now + cut_every_s * (0.5 + dice.random()) + 0.1
            pending.clear()
            attachment.lost()
        batch: list[LiveTrade] = []
        late: list[LiveTrade] = []
        for each in range(sent, made):
            if not is_open or dice.random() < dropped:
                continue
            (late if dice.random() < shuffled else batch).append(trade(each))
            if dice.random() < doubled:
                batch.append(trade(each))
        sent = made
        if is_open and (batch or pending):
            out += ids(attachment.heard([*batch, *pending], now))
        pending = late if is_open else []
        if question is not None and now >= answer_at:
            newest = int(min(max(0.0, now - lag_s), stop_s) * rate)
            page = [trade(each) for each in range(question.first_id, min(newest, question.first_id + 1000))]
            out += ids(attachment.answered(page, question.why, now))
            question = None
        if question is None and (asked := attachment.question(now)) is not None:
            attachment.asked(now)
            question, answer_at, requests = asked, now + 0.03, requests + 1
        assert not attachment.is_overdue
        if attachment.is_dead(now):
            attachment.opened(now)
    assert out == list(range(int(stop_s * rate)))
    assert requests < 500


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 200), st.floats(0.05, 90.0), st.floats(0, 0.5), st.booleans())
def test_an_outage_of_any_number_of_pages_is_healed_and_nothing_of_it_is_given_up(
    seed: int, pages: int, answer_s: float, failing: float, is_banned: bool
) -> None:
    """A governor that lets few requests through, questions that fail, a ban of ten minutes; the stream goes on and has
    more than may wait."""
    dice = random.Random(seed)
    attachment = attached(100.0)
    attachment.sequence.most_early = 50
    first_id, missing = 10, pages * PAGE_ROWS - dice.randint(0, PAGE_ROWS - 1)
    newest = first_id + missing
    out = ids(attachment.heard([trade(newest)], 101.0))
    now, requests, ban_until = 101.0, 0, 0.0
    while attachment.sequence.hole is not None:
        now = max(now, attachment.due_at())
        newest += 1
        out += ids(attachment.heard([trade(newest)], now))
        ask = attachment.question(now)
        if ask is None:
            continue
        requests += 1
        attachment.asked(now)
        now += answer_s * dice.random()
        if is_banned and requests == pages // 2 + 1:
            ban_until = now + 600.0
        if now < ban_until or dice.random() < failing:
            attachment.failed(now, max(0.0, ban_until - now))
        else:
            page = [trade(each) for each in range(ask.first_id, min(newest + 1, ask.first_id + PAGE_ROWS))]
            out += ids(attachment.answered(page, ask.why, now))
        assert not attachment.is_overdue
    assert out == list(range(first_id, newest + 1))
