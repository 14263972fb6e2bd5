"""The planner against a model exchange: whatever the tape, the window, what is stored, and the order of the answers."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.backfill.answers import AnswerCheck, check_page, cut
from backfilld.core.backfill.newest_shown import NewestShown, ShownEnd
from backfilld.core.backfill.paging import WORTH_ASKING_AGAIN
from backfilld.core.backfill.plan import BackfillPlan
from backfilld.core.backfill.questions import Again, At, Before, Found, Newest, Page, Query, Since, Tail
from backfilld.core.backfill.support import ENOUGH
from backfilld.core.ids import IdSet
from backfilld.core.model import MS_PER_DAY, PAGE_ROWS, IdRange
from backfilld.core.timespan import StoredSpan, TimeSpan, joined
from backfilld.errors import UnexpectedAnswer
from tests.fakes import DAY_MS, Tape, trade_frame
from tests.strategies import span_of, stored_of, tapes, windows

PAGE_MS = 1_800_000
STEPS = 3000
"""More questions than any of these plans may take."""


@dataclass
class Model:
    """An exchange that answers a plan: ``open_questions`` at a time, in any order, with tricks if asked to."""

    tape: Tape
    random: Random = field(default_factory=lambda: Random(0))
    open_questions: int = 1
    shorten: bool = False
    failures: int = 0
    lie: Callable[[Query, pl.DataFrame], pl.DataFrame] = lambda _, rows: rows
    now_ms: int | None = None
    asked: list[Query] = field(default_factory=list)
    kept: Counter[int] = field(default_factory=Counter)

    def play(self, plan: BackfillPlan) -> "Model":
        """Answer until nothing is asked any more."""
        questions: list[Query] = []
        for _ in range(STEPS):
            while len(questions) < self.open_questions and (query := plan.take()) is not None:
                questions.append(query)
                assert not plan.is_done
            assert plan.is_waiting == bool(questions)
            if not questions:
                assert plan.is_done
                return self
            self.reply(plan, questions.pop(self.random.randrange(len(questions))))
        raise AssertionError(f"no end after {STEPS} answers: {self.asked[-5:]}")

    def reply(self, plan: BackfillPlan, query: Query) -> None:
        """Answer one question as the fetcher would report it."""
        self.asked.append(query)
        if self.failures and self.random.random() < 0.5:
            self.failures -= 1
            plan.failed(query, "no luck")
            return
        rows = self.lie(query, self.tape.answer(query))
        if self.shorten and isinstance(query, Page) and rows.height > 1:
            rows = rows.head(self.random.randint(1, rows.height))
        try:
            check_page(rows, query)
        except UnexpectedAnswer as error:
            plan.failed(query, str(error), IdRange(*error.absent) if error.absent else None)
            return
        kept, found = cut(rows, query, plan.window.stop_ms)
        self.kept.update(kept["a"].to_list())
        plan.answered(query, found, self.now_ms)


def ids_of(coverage: IdSet) -> set[int]:
    return {i for each in coverage.ranges for i in range(each.first_id, each.last_id + 1)}


def ids_in(ranges: tuple[IdRange, ...]) -> set[int]:
    return ids_of(IdSet.of(ranges))


@settings(max_examples=120)
@given(st.data(), tapes(), st.integers(1, 6), st.booleans())
def test_whatever_is_stored_and_however_answers_come_all_of_the_window_is_received(
    data: st.DataObject, tape: Tape, open_questions: int, shorten: bool
) -> None:
    window = data.draw(windows(tape))
    stored = data.draw(stored_of(tape, window))
    now_ms = data.draw(st.sampled_from([0, *tape.times[-1:]]))
    plan = BackfillPlan(window, stored.spans, first_is_proven=stored.first_is_proven, now_ms=now_ms)
    model = Model(tape, Random(data.draw(st.integers(0, 99))), open_questions, shorten).play(plan)

    assert ids_of(plan.received) == tape.ids_in(window) | stored.ids
    assert plan.is_complete
    assert plan.missing == ()
    assert not plan.failures
    assert max(model.kept.values(), default=0) <= (1 if len(tape.ids_in(window)) > 1 else 2), "an id was fetched twice"
    again = stored.ids & set(model.kept)
    has_many_holes = len(stored.spans) + 1 >= WORTH_ASKING_AGAIN
    assert has_many_holes or again <= {min(stored.ids, default=0)}, (
        "an id that is stored was fetched, and not to find the first"
    )


@settings(max_examples=120)
@given(st.data(), tapes(), st.integers(1, 5))
def test_a_single_gap_costs_its_pages_and_at_most_six_more_questions(
    data: st.DataObject, tape: Tape, open_questions: int
) -> None:
    window = data.draw(windows(tape))
    wanted = sorted(tape.ids_in(window))
    stored: list[StoredSpan] = []
    if wanted:
        first, last = tape.ids.index(wanted[0]), tape.ids.index(wanted[-1]) + 1
        start = data.draw(st.integers(first, last))
        stop = data.draw(st.one_of(st.just(last), st.integers(start, last)))
        stored = [span_of(tape, low, high) for low, high in ((first, start), (stop, last)) if low < high]
    plan = BackfillPlan(window, stored)
    missing = len(wanted) - sum(len(span.ids) for span in stored)
    model = Model(tape, Random(1), open_questions).play(plan)
    assert plan.is_complete
    assert len(model.asked) <= -(-missing // PAGE_ROWS) + 6


@given(st.data(), tapes(), st.integers(1, 4), st.integers(0, 12))
def test_failed_questions_are_reported_and_the_next_round_gets_what_they_left(
    data: st.DataObject, tape: Tape, open_questions: int, failures: int
) -> None:
    window = data.draw(windows(tape))
    stored = data.draw(stored_of(tape, window))
    plan = BackfillPlan(window, stored.spans, first_is_proven=stored.first_is_proven)
    model = Model(tape, Random(data.draw(st.integers(0, 99))), open_questions, failures=failures).play(plan)
    wanted = tape.ids_in(window) | stored.ids

    if plan.is_complete:
        assert ids_of(plan.received) == wanted
    else:
        assert plan.failures or plan.missing, "incomplete, and no word of why"
    model.failures = 0
    plan.top_up()
    model.play(plan)
    assert ids_of(plan.received) == wanted
    assert plan.is_complete


@given(st.data(), tapes(), st.integers(1, 4))
def test_top_up_gets_what_the_tape_has_grown_by_and_asks_for_nothing_else(
    data: st.DataObject, tape: Tape, open_questions: int
) -> None:
    start_ms = data.draw(windows(tape)).start_ms
    past = sum(at < start_ms for at in tape.times)
    plan = BackfillPlan(TimeSpan(start_ms))
    model = Model(tape, Random(2), open_questions)
    for visible in sorted(data.draw(st.lists(st.integers(past, len(tape)), min_size=1, max_size=4))):
        model.tape = tape.head(visible)
        before = plan.received
        model.asked.clear()
        model.play(plan)
        grown = len(model.tape.ids_in(plan.window)) - before.rows
        assert ids_of(plan.received) == model.tape.ids_in(plan.window)
        assert plan.is_complete
        assert len(model.asked) <= -(-grown // PAGE_ROWS) + 5
        if grown == 1 == plan.received.rows:
            model.kept.clear()  # the only trade of all is the first and the newest
        plan.top_up()
    assert max(model.kept.values(), default=0) <= 1


@pytest.mark.parametrize("open_questions", [1, 2])
def test_a_window_that_begins_later_than_now_gets_nothing_from_before_it(open_questions: int) -> None:
    """As after midnight by a host clock that is ahead of the exchange's: trades go on before the window begins."""
    tape = Tape.even(10)
    plan = BackfillPlan(TimeSpan(DAY_MS + 50))
    for visible in (2, 4, 10):
        Model(tape.head(visible), Random(1), open_questions).play(plan)
        plan.top_up()
    assert ids_of(plan.received) == {5, 6, 7, 8, 9}


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_closed_window_without_trades_stays_empty_in_every_round(rounds: int) -> None:
    plan = BackfillPlan(TimeSpan(DAY_MS - 20, DAY_MS - 10))
    model = Model(Tape.even(1500))
    for n in range(rounds):
        if n:
            plan.top_up()
        model.play(plan)
        assert not plan.received
        assert plan.is_complete


@given(st.data(), tapes(st.integers(1, 3000)))
def test_a_day_that_is_stored_whole_is_resumed_with_two_questions(data: st.DataObject, tape: Tape) -> None:
    """If its end was agreed on lately by the exchange's time, however long ago its last trade was, and whatever the
    host's clock says. The sequence depends on whether the day is over."""
    window = data.draw(st.sampled_from([TimeSpan(tape.times[0]), TimeSpan(tape.times[0], tape.times[-1] + 1)]))
    now_ms = data.draw(st.sampled_from([0, tape.times[-1], tape.times[-1] + MS_PER_DAY]))
    shown = NewestShown()
    shown.recall(ShownEnd(agreed_id=tape.ids[-1], agreed_ms=now_ms - 1000))
    spans = [span_of(tape, 0, len(tape))]
    host_ms = now_ms + data.draw(st.sampled_from([-MS_PER_DAY, 0, 2 * 3_600_000, MS_PER_DAY])) if now_ms else 0
    plan = BackfillPlan(window, spans, first_is_proven=True, now_ms=host_ms, shown=shown)
    model = Model(tape, now_ms=now_ms or None).play(plan)
    assert [type(query) for query in model.asked] == ([Newest, Tail] if window.stop_ms is None else [Tail, Newest])
    assert plan.is_complete


def test_a_closed_window_whose_end_is_stored_beyond_needs_no_question_at_all() -> None:
    tape = Tape.even(100)
    plan = BackfillPlan(TimeSpan(DAY_MS + 100, DAY_MS + 500), [span_of(tape, 0, 100)])
    assert Model(tape).play(plan).asked == []
    assert plan.is_complete


@settings(max_examples=100)
@given(st.data(), tapes(st.integers(1, 3000)), st.integers(1, 4), st.booleans())
def test_ids_that_the_exchange_does_not_have_are_reported_missing_and_never_complete(
    data: st.DataObject, whole: Tape, open_questions: int, is_closed: bool
) -> None:
    """Beyond the first page of a cold window; the next test is about that one."""
    resumed = data.draw(st.integers(1, len(whole)))
    gone = data.draw(st.sets(st.integers(resumed, len(whole) - 1), max_size=5)) if resumed < len(whole) else set()
    absent = {whole.ids[n] for n in gone}
    tape = Tape(whole.frame.filter(~pl.col("a").is_in(list(absent))))
    window = TimeSpan(whole.times[0], whole.times[-1] + 1 if is_closed else None)
    plan = BackfillPlan(window, [span_of(whole, 0, resumed)], first_is_proven=True)
    Model(tape, Random(3), open_questions).play(plan)

    inside = {i for i in absent if i < tape.ids[-1]}
    assert ids_of(plan.received) == set(tape.ids)
    assert ids_in(plan.missing) == inside
    assert plan.is_complete == (not inside)
    plan.top_up()
    model = Model(tape).play(plan)
    assert ids_in(plan.missing) == inside
    assert not any(isinstance(query, Page) for query in model.asked), "asked again within hours"


@given(st.integers(1, 998), st.integers(1001, 3000))
def test_an_id_absent_from_the_first_page_costs_no_other_trade(absent: int, rows: int) -> None:
    """An id missing in the first page must not keep the rest from being fetched."""
    tape = Tape.of(0, range(DAY_MS, DAY_MS + rows), absent={absent})
    plan = BackfillPlan(TimeSpan(DAY_MS), now_ms=DAY_MS + 9 * PAGE_MS)
    Model(tape).play(plan)
    assert ids_of(plan.received) == set(tape.ids)
    assert ids_in(plan.missing) == {absent}
    assert not plan.is_complete


@pytest.mark.parametrize("rows", [1200, 3000])
def test_however_many_ids_are_absent_every_other_trade_comes(rows: int) -> None:
    """Every second id of a thousand: each page is asked for twice, and nothing is given up."""
    absent = set(range(101, 1101, 2))
    tape = Tape.of(0, range(DAY_MS, DAY_MS + rows), absent=absent)
    plan = BackfillPlan(TimeSpan(DAY_MS))
    model = Model(tape).play(plan)
    assert ids_of(plan.received) == set(tape.ids)
    assert ids_in(plan.missing) == absent
    assert not plan.failures
    assert not plan.is_complete
    assert len(model.asked) <= 2 * (rows // 1000 + 1) + 4


@pytest.mark.parametrize("longest", [20_000, 1_000_000])
@pytest.mark.parametrize("open_questions", [1, 4])
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_jump_of_ids_costs_a_handful_of_requests_however_long(
    longest: int, open_questions: int, newest_first: bool
) -> None:
    """An answer that names the next id settles the whole jump."""
    times = range(DAY_MS, DAY_MS + 3000)
    ids = [n if n < 1500 else n + longest for n in range(3000)]
    tape = Tape(trade_frame(ids, times))
    plan = BackfillPlan(TimeSpan(DAY_MS), newest_first=newest_first)
    model = Model(tape, Random(1), open_questions).play(plan)
    assert ids_of(plan.received) == set(ids)
    assert plan.missing == (IdRange(1500, 1500 + longest - 1),)
    assert plan.absent.ranges == plan.missing
    assert len(model.asked) <= 3 + 4 + 4 + open_questions * (1 + 2 * newest_first)


@settings(max_examples=100)
@given(st.data(), tapes(st.integers(1, 2500)), st.integers(1, 4), st.integers(1, 1200))
def test_a_neighbour_that_lags_behind_costs_questions_and_no_trade(
    data: st.DataObject, tape: Tape, open_questions: int, behind: int
) -> None:
    """The exchange answers from a database that may lag: the last trade before the start is named too early."""
    window = TimeSpan(data.draw(st.sampled_from(tape.times)))

    def earlier(query: Query, rows: pl.DataFrame) -> pl.DataFrame:
        if not isinstance(query, Before) or rows.is_empty():
            return rows
        at = max(0, tape.ids.index(rows["a"][0]) - behind)
        return tape.frame[at : at + 1]

    plan = BackfillPlan(window)
    Model(tape, Random(4), open_questions, lie=earlier).play(plan)
    assert ids_of(plan.received) >= tape.ids_in(window)
    assert plan.is_complete
    first_id = min(tape.ids_in(window))
    assert plan.proven_first_id in {None, first_id}


def test_an_exchange_that_knows_no_time_before_the_window_is_asked_for_the_first_after_it() -> None:
    plan = BackfillPlan(TimeSpan(DAY_MS))
    before, head, newest = plan.take(), plan.take(), plan.take()
    assert before == Before(DAY_MS)
    assert head == Since(DAY_MS)
    assert newest == Newest(0)
    assert plan.take() is None
    plan.failed(before, "nothing")
    plan.answered(newest, Found(IdRange(9, 9), DAY_MS + 4, DAY_MS + 4, 1))
    assert not plan.is_complete
    plan.answered(head, Found(IdRange(5, 5), DAY_MS, DAY_MS, 1))
    row_before, tail = plan.take(), plan.take()
    assert row_before == At(4)
    assert tail == Tail(5, known_id=9)
    plan.answered(tail, Found(IdRange(5, 9), DAY_MS, DAY_MS + 4, 5))
    assert not plan.is_complete
    plan.answered(row_before, Found(IdRange(4, 4), DAY_MS - 1, DAY_MS - 1, 1))
    while (again := plan.take()) is not None:
        assert isinstance(again, Again)
        at_ms = DAY_MS + again.trade_id - 5
        plan.answered(again, Found(IdRange(again.trade_id, again.trade_id), at_ms, at_ms, 1))
    assert plan.is_complete
    assert plan.proven_first_id == 5


def test_a_marker_before_the_window_does_not_hide_the_first_trade_behind_it() -> None:
    """A marker keeps another trade's time: here it stands behind the first trade of the day."""
    plan = BackfillPlan(TimeSpan(DAY_MS), [StoredSpan(IdRange(8, 9), DAY_MS + 3, DAY_MS + 4)])
    before, newest = plan.take(), plan.take()
    assert before == Before(DAY_MS)
    assert newest == Newest(9)
    plan.answered(newest, Found(IdRange(9, 9), DAY_MS + 4, DAY_MS + 4, 1))
    plan.answered(before, Found(IdRange(6, 6), DAY_MS - 1, DAY_MS - 1, 1, is_marker=True))
    head = plan.take()
    assert head == Since(DAY_MS)
    plan.answered(head, Found(IdRange(5, 5), DAY_MS, DAY_MS, 1))
    assert plan.missing == (IdRange(5, 7),)
    page = plan.take()
    assert page == Page(IdRange(5, 7))
    plan.answered(page, Found(IdRange(5, 7), DAY_MS, DAY_MS + 2, 3))
    assert plan.proven_first_id == 5


def test_a_neighbour_that_was_not_named_is_asked_for_again_in_the_next_round() -> None:
    """Else the day of a running daemon is never sealed."""
    tape = Tape.even(10, first_id=5)
    plan = BackfillPlan(TimeSpan(DAY_MS))
    model = Model(tape, lie=lambda query, rows: tape.frame.tail(1) if type(query) in {Before, At} else rows)
    model.play(plan)
    assert [each.reason for each in plan.failures] == ["nothing proves with which trade the window begins"]
    assert not plan.is_complete
    assert not plan.first_is_proven
    plan.top_up()
    model.lie = lambda _, rows: rows
    model.play(plan)
    assert plan.first_is_proven


FIRSTS: dict[str, Callable[[pl.DataFrame, Tape], pl.DataFrame]] = {
    "a later one": lambda _, tape: tape.frame[1700:1701],
    "empty": lambda rows, _: rows.clear(),
    "right": lambda rows, _: rows,
}
NEIGHBOURS: dict[str, Callable[[pl.DataFrame, Tape], pl.DataFrame]] = {
    "empty": lambda rows, _: rows.clear(),
    "not before the window": lambda _, tape: tape.frame.tail(1),
    "an older one": lambda _, tape: tape.frame.head(1),
    "right": lambda rows, _: rows,
}


@pytest.mark.parametrize("open_questions", [1, 3])
@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("times", [1, 99])
def test_two_wrong_answers_about_the_start_prove_no_start(
    neighbour: str, first: str, times: int, open_questions: int
) -> None:
    """Whatever is wrong with the neighbour and the first trade together: the trade before the first one decides."""
    tape, left = Tape.even(4000, start_ms=DAY_MS - 5000, first_id=700), {Before: times, Since: times}

    def lie(query: Query, rows: pl.DataFrame) -> pl.DataFrame:
        if not isinstance(query, Before | Since) or not left[type(query)]:
            return rows
        left[type(query)] -= 1
        return NEIGHBOURS[neighbour](rows, tape) if isinstance(query, Before) else FIRSTS[first](rows, tape)

    plan = BackfillPlan(TimeSpan(DAY_MS), now_ms=tape.times[-1] + 500)
    model = Model(tape, Random(1), open_questions, lie=lie).play(plan)
    if plan.is_complete:
        assert ids_of(plan.received) >= tape.ids_in(TimeSpan(DAY_MS))
        lies_on = times > 1 and "right" not in {neighbour, first}
        assert plan.proven_first_id in ({1200, None} if lies_on else {1200})
    else:
        assert plan.failures
        assert times > 1
        assert "right" not in {neighbour, first}
    if (neighbour, first) == ("an older one", "right"):
        assert min(model.kept) == 1200, "no trade of before the window is asked for"
    assert len(model.asked) <= (32 if times > 1 else 14)


def test_where_nothing_was_traded_before_the_window_two_answers_say_so() -> None:
    tape = Tape.even(50, start_ms=DAY_MS + 100, first_id=700)
    plan = BackfillPlan(TimeSpan(DAY_MS))
    model = Model(tape).play(plan)
    assert plan.is_complete
    assert plan.proven_first_id == 700
    assert model.asked.count(At(699)) == 1


def test_where_the_neighbour_fails_before_the_first_page_comes_empty_the_first_trade_is_asked_for() -> None:
    """Else nothing of the window was wanted, and the round was complete with nothing stored."""
    tape = Tape(trade_frame([7, 8], [DAY_MS + 5 * PAGE_MS, DAY_MS + 6 * PAGE_MS]))
    plan = BackfillPlan(TimeSpan(DAY_MS), now_ms=DAY_MS + 7 * PAGE_MS)
    neighbour, page = plan.take(), plan.take()
    assert isinstance(neighbour, Before)
    assert isinstance(page, Since)
    plan.failed(neighbour, "2 rows where 1 were asked for")
    plan.answered(page, Found(None, 0, 0, 0))
    Model(tape).play(plan)
    assert ids_of(plan.received) == {7, 8}


def test_a_cold_day_costs_exactly_its_pages_and_three_ends() -> None:
    """The last page is the tail as well."""
    model = Model(Tape.even(50_002), open_questions=5).play(BackfillPlan(TimeSpan(DAY_MS)))
    assert Counter(type(query) for query in model.asked) == {Before: 1, Since: 1, Newest: 1, Page: 50, Tail: 1}
    assert max(model.kept.values()) == 1


@pytest.mark.parametrize("step_ms", [50, 10_000, 2 * PAGE_MS])
def test_a_day_that_began_long_ago_costs_its_pages_and_three_ends_however_few_trades_there_are(step_ms: int) -> None:
    times = range(DAY_MS, DAY_MS + 8 * PAGE_MS + 1, step_ms)
    plan = BackfillPlan(TimeSpan(DAY_MS), now_ms=times[-1] + 1)
    model = Model(Tape.of(0, times)).play(plan)
    assert plan.is_complete
    assert ids_of(plan.received) == set(range(len(times)))
    assert max(model.kept.values()) == 1
    assert len(model.asked) == max(ENOUGH, 3 + -(-len(times) // PAGE_ROWS))


def test_a_day_that_began_with_silence_is_opened_by_its_neighbour_or_by_the_very_first_id() -> None:
    quiet = [DAY_MS + 2 * PAGE_MS + n * 60_000 for n in range(100)]
    for tape in (Tape.of(0, [DAY_MS - 5, *quiet]), Tape.of(0, quiet), Tape.of(7, quiet)):
        plan = BackfillPlan(TimeSpan(DAY_MS), now_ms=quiet[-1] + 5000)
        model = Model(tape).play(plan)
        assert ids_of(plan.received) == tape.ids_in(plan.window)
        assert plan.is_complete
        assert plan.first_is_proven
        assert len(model.asked) == ENOUGH


@pytest.mark.parametrize("rows", [1000, 1001, 2500])
def test_a_closed_window_after_which_nothing_was_traded_ends_with_the_newest_trade(rows: int) -> None:
    tape = Tape.even(rows)
    plan = BackfillPlan(TimeSpan(DAY_MS + 1, DAY_MS + 86_400_000))
    model = Model(tape).play(plan)
    assert plan.is_complete
    assert ids_of(plan.received) == set(tape.ids) - {0}
    assert [type(query) for query in model.asked[:3]] == [Before, Since, Newest]
    assert len(model.asked) <= 5 + -(-(rows - 1) // PAGE_ROWS)


def test_another_sequence_of_ids_is_found_out() -> None:
    """Later trades with lower ids: nothing follows the stored ones, and yet the newest is not the last of them."""
    stored = [StoredSpan(IdRange(0, 99), DAY_MS, DAY_MS + 99)]
    another = Tape.of(0, range(DAY_MS + 60_000, DAY_MS + 60_050))
    for tape, is_believed in ((Tape.even(100), True), (another, False)):
        plan = BackfillPlan(TimeSpan(DAY_MS), stored, first_is_proven=True)
        Model(tape).play(plan)
        assert plan.is_complete == is_believed
        assert bool(plan.failures) != is_believed


def test_an_exchange_that_has_trades_and_names_no_newest_one_is_a_failure() -> None:
    tape = Tape.even(2000)
    plan = BackfillPlan(TimeSpan(DAY_MS))
    Model(tape, lie=lambda query, rows: rows.clear() if isinstance(query, Newest) else rows).play(plan)
    assert not plan.is_complete
    assert [failure.reason for failure in plan.failures] == ["the exchange has trades and names no newest one"]


@pytest.mark.parametrize("kind", [Since, Before, Tail, Newest])
def test_an_incomplete_plan_always_says_why(kind: type) -> None:
    """Whatever question is answered with nothing at all, although trades are stored."""
    tape = Tape.even(3000)
    plan = BackfillPlan(TimeSpan(DAY_MS + 5), [span_of(tape, 10, 600)])
    Model(tape, lie=lambda query, rows: rows.clear() if isinstance(query, kind) else rows).play(plan)
    assert plan.is_complete or plan.failures or plan.missing


@given(st.data(), tapes(st.integers(1, 500)))
def test_joined_spans_hold_the_same_ids_and_never_adjoin(data: st.DataObject, tape: Tape) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(tape)), min_size=2, max_size=8)))
    spans = [span_of(tape, low, high) for low, high in pairwise(cuts) if data.draw(st.booleans())]
    result = joined(data.draw(st.permutations(spans)))
    assert IdSet.of(span.ids for span in result) == IdSet.of(span.ids for span in spans)
    assert len(result) == len(IdSet.of(span.ids for span in spans).ranges)
    for span in result:
        start, stop = tape.ids.index(span.ids.first_id), tape.ids.index(span.ids.last_id) + 1
        assert span == span_of(tape, start, stop)


# -- what is absent, postponed, or out of reach


def without(tape: Tape, absent: set[int]) -> Tape:
    return Tape(tape.frame.filter(~pl.col("a").is_in(list(absent))))


def coverage_of(ids: set[int]) -> IdSet:
    return IdSet.of(IdRange(each, each) for each in ids)


@settings(max_examples=80)
@given(st.data(), tapes(st.integers(30, 1500)), st.integers(1, 4))
def test_ids_known_to_be_absent_or_postponed_are_never_asked_for_and_only_the_latter_are_missing(
    data: st.DataObject, tape: Tape, open_questions: int
) -> None:
    """The window is complete without the absent ones, and is not while others are postponed."""
    inner = st.sampled_from(tape.ids[10:-10])
    absent = data.draw(st.sets(inner, max_size=8))
    postponed = data.draw(st.sets(inner, max_size=8)) - absent
    window = TimeSpan(tape.times[0])
    plan = BackfillPlan(window, absent=coverage_of(absent), postponed=coverage_of(postponed))
    model = Model(without(tape, absent | postponed), Random(data.draw(st.integers(0, 9))), open_questions).play(plan)
    pages = [query.ids for query in model.asked if isinstance(query, Page)]
    assert not ids_in(tuple(pages)) & (absent | postponed)
    assert ids_of(plan.received) == set(tape.ids) - absent - postponed
    assert ids_in(plan.missing) == postponed
    assert plan.is_complete == (not postponed)
    assert not plan.failures


@settings(max_examples=60)
@given(st.data(), tapes(st.integers(30, 1500)))
def test_ids_passed_over_are_asked_around_reported_and_certified(data: st.DataObject, tape: Tape) -> None:
    """They are missing until they are known to be absent; everything else of the window is received."""
    start = data.draw(st.integers(5, len(tape) - 10))
    absent = set(tape.ids[start : start + data.draw(st.integers(1, 5))])
    plan = BackfillPlan(TimeSpan(tape.times[0]))
    Model(without(tape, absent)).play(plan)
    assert ids_of(plan.received) == set(tape.ids) - absent
    assert ids_in(plan.missing) == absent
    assert ids_of(plan.absent) >= absent
    assert not plan.is_complete
    plan.certify(coverage_of(absent).ranges)
    assert plan.missing == ()
    assert plan.is_complete


def test_a_first_id_that_is_absent_for_good_is_proven_all_the_same() -> None:
    """The neighbour names the one before it; the day begins behind it."""
    tape = Tape.of(7, [DAY_MS - 1, *range(DAY_MS, DAY_MS + 100)])
    for absent, proven in ((coverage_of({8, 9}), 8), (IdSet(), None)):
        plan = BackfillPlan(TimeSpan(DAY_MS), absent=absent)
        Model(without(tape, {8, 9})).play(plan)
        assert plan.proven_first_id == proven


@pytest.mark.parametrize("closed", [True, False])
def test_a_window_whose_ends_are_proven_is_asked_for_nothing_but_its_holes(closed: bool) -> None:
    tape = Tape.even(3000)
    stop_ms = tape.times[-1] + 1 if closed else None
    stored = [span_of(tape, 0, 900), span_of(tape, 1000, 3000)]
    window = TimeSpan(DAY_MS, stop_ms)
    plan = BackfillPlan(window, stored, first_is_proven=True, last_is_proven=closed)
    model = Model(tape).play(plan)
    assert plan.is_complete
    assert [type(query) for query in model.asked] == ([Page] if closed else [Newest, Page, Tail])


def test_of_days_that_are_over_the_id_behind_the_last_is_asked_for() -> None:
    tape = Tape.even(3000, start_ms=DAY_MS + MS_PER_DAY - 15_000)
    plan = BackfillPlan(TimeSpan(DAY_MS, DAY_MS + MS_PER_DAY), now_ms=DAY_MS + 2 * MS_PER_DAY)
    model = Model(tape).play(plan)
    assert plan.is_complete
    assert (plan.last_id, plan.beyond_id) == (1499, 1500)
    assert len(model.asked) == ENOUGH


@settings(max_examples=60)
@given(st.data(), st.integers(1, 4), st.booleans())
def test_what_is_too_old_is_given_up_at_once_with_all_that_is_older(
    data: st.DataObject, open_questions: int, newest_first: bool
) -> None:
    """A refusal is never asked for twice, and every trade behind it comes: the edge is found by halves."""
    tape = Tape.even(6000)
    reach = data.draw(st.integers(0, 6000))
    stored = [span_of(tape, 0, 1), span_of(tape, 5999, 6000)]
    plan = BackfillPlan(TimeSpan(DAY_MS), stored, first_is_proven=True, newest_first=newest_first)
    dice = Random(data.draw(st.integers(0, 9)))
    model, questions, refused = Model(tape), list[Query](), 0
    for _ in range(STEPS):
        while len(questions) < open_questions and (query := plan.take()) is not None:
            questions.append(query)
        if not questions:
            break
        query = questions.pop(dice.randrange(len(questions)))
        if (isinstance(query, Page) and query.ids.first_id < reach) or (
            isinstance(query, Tail) and query.first_id < reach
        ):
            plan.unanswered(query, "-4166")
            refused += 1
        else:
            model.reply(plan, query)
    assert plan.is_done
    # 13 halves, what was on its way at the first refusal, and the tail.
    assert refused <= open_questions + 14
    assert plan.is_complete == (refused == 0)
    assert bool(plan.failures) == (refused > 0)
    assert ids_of(plan.received) == {0, 5999} | set(range(max(1, reach), 6000))
    plan.top_up()
    model.asked.clear()
    model.play(plan)
    assert len(model.asked) == 1, "what was refused is not asked for again"


def test_a_neighbour_out_of_reach_leaves_the_first_id_unproven_and_the_window_whole() -> None:
    tape = Tape.even(500)
    plan = BackfillPlan(TimeSpan(DAY_MS), [span_of(tape, 0, 400)])
    query = plan.take()
    assert isinstance(query, Before)
    plan.unanswered(query, "-4166")
    Model(tape).play(plan)
    assert plan.is_complete
    assert plan.proven_first_id is None
    assert not plan.failures


@pytest.mark.parametrize("open_questions", [1, 4])
@pytest.mark.parametrize("seed", range(6))
def test_answers_that_begin_too_late_again_and_again_hide_no_trade(seed: int, open_questions: int) -> None:
    """Of every third page the first half is passed over, a page of a single id included: the next id is the one that
    is known to follow, so that such an answer agrees with another one that has passed over the id."""
    dice, tape = Random(seed), Tape.even(8000, first_id=40)

    def lie(query: Query, rows: pl.DataFrame) -> pl.DataFrame:
        if isinstance(query, Page | Tail) and dice.random() < 0.3:
            return dice.choice([tape.frame.filter(pl.col("a") >= query.first_id + max(1, query.rows // 2)), rows])[
                : query.rows
            ]
        if isinstance(query, Page) and rows.height > 2 and dice.random() < 0.3:
            return pl.concat([rows[: rows.height // 2], rows[rows.height // 2 + 1 :]])
        return rows

    plan = BackfillPlan(TimeSpan(DAY_MS + 2000))
    model = Model(tape, dice, open_questions, lie=lie)
    for _ in range(3):
        model.play(plan)
        if plan.is_complete:
            break
        assert ids_of(plan.absent) == set(), "a lie is no absence"
        plan.top_up()
    assert plan.is_complete
    assert ids_of(plan.received) == tape.ids_in(plan.window)


@pytest.mark.parametrize("rows", [999, 1000, 1001, 1998, 1999])
@pytest.mark.parametrize("open_questions", [1, 4])
def test_no_trade_behind_the_first_one_after_a_closed_window_is_kept(rows: int, open_questions: int) -> None:
    """Where the time goes back over the end between two pages, the second one seems to lie in the window."""
    times = [DAY_MS + n for n in range(rows)] + [DAY_MS + 5001, DAY_MS + 4999] + [DAY_MS + 6000 + n for n in range(50)]
    tape = Tape(trade_frame(range(100, 100 + len(times)), times))
    for seed in range(4):
        model = Model(tape, Random(seed), open_questions)
        plan = BackfillPlan(TimeSpan(DAY_MS, DAY_MS + 5000))
        model.play(plan)
        assert max(model.kept) == 100 + rows - 1
        assert plan.is_complete
        assert plan.beyond_id == 100 + rows


@pytest.mark.parametrize("times", [1, 99])
def test_where_later_trades_are_stored_no_empty_answers_prove_that_nothing_was_before(times: int) -> None:
    """As after the rows of today came first: both questions about the start were answered with nothing."""
    tape, left = Tape.even(4000, first_id=700), {Before: times, Since: times}

    def lie(query: Query, rows: pl.DataFrame) -> pl.DataFrame:
        if isinstance(query, Before | Since) and left[type(query)]:
            left[type(query)] -= 1
            return rows.clear()
        return rows

    plan = BackfillPlan(TimeSpan(DAY_MS + 5000), [span_of(tape, 2500, 3000)])
    Model(tape, lie=lie).play(plan)
    assert plan.is_complete == (times == 1)
    assert bool(plan.failures) == (times > 1)
    if times == 1:
        assert plan.proven_first_id == 1200


@pytest.mark.parametrize("kind", [Since, Tail, Page])
@pytest.mark.parametrize("held", [0, 100])
def test_one_answer_with_the_times_of_another_day_ends_no_closed_window(kind: type[Query], held: int) -> None:
    """Its rows would seem to lie behind the window."""
    tape, lies = Tape.even(3000, first_id=700), [kind]

    def lie(query: Query, rows: pl.DataFrame) -> pl.DataFrame:
        if type(query) not in lies or rows.is_empty():
            return rows
        lies.clear()
        later = rows.with_columns(pl.col("T") + MS_PER_DAY)
        try:
            AnswerCheck(query)(later)
        except UnexpectedAnswer:
            return rows
        return later

    spans = [span_of(tape, 0, held)] if held else []
    for open_questions in (1, 4):
        plan = BackfillPlan(TimeSpan(DAY_MS, DAY_MS + 20_000), spans)
        Model(tape, Random(1), open_questions, lie=lie).play(plan)
        assert plan.is_complete
        assert ids_of(plan.received) == tape.ids_in(plan.window)
        assert plan.beyond_id == 2700
        lies.append(kind)


def test_what_was_proven_of_the_first_trade_takes_one_question_more() -> None:
    tape, shown = Tape.even(50, first_id=700), NewestShown()
    shown.recall(ShownEnd(749, DAY_MS + 490, 749, DAY_MS + 490, first_id=700, empty_from_ms=DAY_MS - MS_PER_DAY))
    spans = [span_of(tape, 0, 50)]
    plan = BackfillPlan(TimeSpan(DAY_MS - 1000), spans, now_ms=DAY_MS + 500, shown=shown)
    asked = Model(tape, now_ms=DAY_MS + 500).play(plan).asked
    assert plan.is_complete
    assert [type(query) for query in asked if not isinstance(query, Newest | Tail)] == [Since]
    assert plan.proven_first_id == 700


def test_a_wrong_proof_of_the_first_trade_does_not_last() -> None:
    tape, shown = Tape.even(50, first_id=700), NewestShown()
    shown.recall(ShownEnd(749, DAY_MS + 490, 749, DAY_MS + 490, first_id=710, empty_from_ms=DAY_MS - MS_PER_DAY))
    plan = BackfillPlan(TimeSpan(DAY_MS - 1000), [span_of(tape, 10, 50)], now_ms=DAY_MS + 500, shown=shown)
    Model(tape, now_ms=DAY_MS + 500).play(plan)
    assert plan.is_complete
    assert plan.proven_first_id == 700
    assert ids_of(plan.received) == set(tape.ids)
