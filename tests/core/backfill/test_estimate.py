"""The forecast against the planner itself, on a model exchange: what is foretold is what is asked."""

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.backfill.estimate import ARCHIVE, HELD, NOWHERE, REST, Known, forecast
from backfilld.core.backfill.paging import WORTH_ASKING_AGAIN
from backfilld.core.backfill.plan import BackfillPlan
from backfilld.core.backfill.questions import Before
from backfilld.core.day.certificate import Certificate, day_starts, held_in
from backfilld.core.model import MS_PER_DAY, IdRange, day_of, day_start_ms, day_stop_ms
from backfilld.core.timespan import StoredSpan, TimeSpan
from tests.core.backfill.test_plan import Model
from tests.fakes import DAY, DAY_MS, Tape

PARTIAL = "partial"
WEIGHT = 4


@dataclass(frozen=True)
class World:
    """Days of a tape, and of each whether it is on disk, published, or to be had from REST alone."""

    tape: Tape
    window: TimeSpan
    now_ms: int
    states: dict[date, str]
    records: dict[date, Certificate]

    def known(self) -> Known:
        """What a forecast can know."""
        published = [day for day, state in self.states.items() if state == ARCHIVE and self.is_within(day)]
        return Known(self.window, self.now_ms, self.records, dict.fromkeys(published, 1000))

    def is_within(self, day: date) -> bool:
        """Whether the day is of the window."""
        return self.window.start_ms <= day_start_ms(day) < (self.window.stop_ms or self.now_ms)

    def last_ids(self, known: Known) -> dict[date, int]:
        """What the exchange would say."""
        edges = {edge for first, last in known.rest_runs() for edge in (first, last + timedelta(days=1))}
        return {day: self.last_id_before(day_start_ms(day)) for day in edges}

    def last_id_before(self, stop_ms: int) -> int:
        """The last id before that instant."""
        rows = self.tape.answer(Before(stop_ms))
        return -1 if rows.is_empty() else int(rows["a"][-1])

    def questions(self, known: Known, open_questions: int) -> int:
        """How many the planner asks once the published days are on disk."""
        records = self.with_taken(known)
        starts = day_starts(records.values())
        held = held_in(self.window, [record.proven_by(starts) for record in records.values()])
        plan = BackfillPlan(
            self.window,
            held.spans,
            first_is_proven=held.first_is_proven,
            last_is_proven=held.last_is_proven,
            now_ms=self.now_ms,
        )
        return len(Model(self.tape, Random(1), open_questions).play(plan).asked)

    def with_taken(self, known: Known) -> dict[date, Certificate]:
        """What is on disk with the published days: their first id is left to REST unless it follows what is held, but
        for the first day that was asked for."""
        records = dict(self.records)
        asked = min(day for day in known.days if day not in records) if known.sizes else None
        for day in sorted(known.sizes):
            ids = self.span(day).ids
            before = records.get(day - timedelta(days=1))
            follows = before is not None and before.last_id + 1 == ids.first_id
            first_id = ids.first_id if follows or (before is None and day == asked) else ids.first_id + 1
            if first_id <= ids.last_id:
                records[day] = Certificate(day, (self.part(first_id, ids.last_id),))
        return records

    def span(self, day: date) -> StoredSpan:
        """All that the exchange has of a day."""
        first_id = max(self.tape.ids[0], self.last_id_before(day_start_ms(day)) + 1)
        last_id = self.last_id_before(day_stop_ms(day))
        return self.part(first_id, last_id)

    def part(self, first_id: int, last_id: int) -> StoredSpan:
        """These ids."""
        base = self.tape.ids[0]
        return StoredSpan(IdRange(first_id, last_id), self.tape.times[first_id - base], self.tape.times[last_id - base])


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Some days before now, one beside the window at either end, and today up to now if it is wanted.

    No day is of a single trade: where that one is in doubt, so is the whole published day, which no forecast knows.
    """
    wanted = draw(st.integers(1, 6))
    counts = draw(
        st.lists(st.sampled_from([2, 3, 40, 999, 1000, 1001, 2500]), min_size=wanted + 3, max_size=wanted + 3)
    )
    days = [DAY + timedelta(days=n) for n in range(wanted + 3)]
    first_id = draw(st.sampled_from([0, 5000]))
    times = [
        day_start_ms(day) + MS_PER_DAY * n // rows for day, rows in zip(days, counts, strict=True) for n in range(rows)
    ]
    now_ms = day_stop_ms(days[-1]) if draw(st.booleans()) else day_stop_ms(days[wanted])
    window = TimeSpan(day_start_ms(days[1]), day_stop_ms(days[wanted]))
    tape = Tape.of(first_id, times).until(now_ms - 1)
    states = {
        day: draw(st.sampled_from([HELD, ARCHIVE, REST, REST, PARTIAL])) for day in days if day_start_ms(day) < now_ms
    }
    world = World(tape, window, now_ms, states, {})
    for day, state in states.items():
        if state in {HELD, PARTIAL}:
            world.records[day] = draw(records_of(world, day, state))
    return world


@st.composite
def records_of(draw: st.DrawFn, world: World, day: date, state: str) -> Certificate:
    """A sealed day, or parts of it."""
    whole = world.span(day)
    first_id, last_id = whole.ids.first_id, whole.ids.last_id
    if state == HELD or len(whole.ids) < 5:
        return Certificate(day, (whole,), opened=True, closed=True)
    low = draw(st.integers(first_id, first_id + len(whole.ids) // 4))
    high = draw(st.integers(last_id - len(whole.ids) // 4, last_id))
    middle = (low + high) // 2
    parts = [(low, middle - 1), (middle + 1, high)] if draw(st.booleans()) else [(low, high)]
    spans = tuple(world.part(*part) for part in parts)
    return Certificate(day, spans, opened=low == first_id, closed=high == last_id)


@settings(max_examples=300)
@given(worlds(), st.integers(1, 5))
def test_the_planner_asks_as_many_questions_as_were_foretold(world: World, open_questions: int) -> None:
    """Within 5 % or three: whether holes that lie close go into one page depends on the order of the answers."""
    known = world.known()
    foretold = forecast(known, world.last_ids(known), WEIGHT)
    asked = world.questions(known, open_questions)
    assert abs(foretold.requests - asked) <= max(WORTH_ASKING_AGAIN - 1, 0.05 * asked), (
        f"{foretold.requests} foretold, {asked} asked"
    )
    assert foretold.weight == WEIGHT * foretold.requests


@given(worlds())
def test_every_day_of_the_window_has_one_source_and_only_rest_sends_trades(world: World) -> None:
    known = world.known()
    foretold = forecast(known, world.last_ids(known), WEIGHT)
    assert list(foretold.days) == [DAY + timedelta(days=n + 1) for n in range(len(foretold.days))]
    assert foretold.bytes == 1000 * list(foretold.days.values()).count(ARCHIVE)
    held = {trade_id for each in world.records.values() for span in each.spans for trade_id in _ids(span)}
    of_rest = {
        trade_id for day, source in foretold.days.items() if source == REST for trade_id in _ids(world.span(day))
    }
    seams = sum(pair == (REST, ARCHIVE) for pair in pairwise(foretold.days.values()))
    assert foretold.trades == len(of_rest - held) + seams


def _ids(span: StoredSpan) -> range:
    return range(span.ids.first_id, span.ids.last_id + 1)


def test_what_is_sealed_on_disk_costs_nothing() -> None:
    days = [DAY + timedelta(days=n) for n in range(3)]
    records = {
        day: Certificate(
            day, (StoredSpan(IdRange(10 * n, 10 * n + 9), day_start_ms(day), day_start_ms(day) + 9),), True, True
        )
        for n, day in enumerate(days)
    }
    known = Known(TimeSpan(DAY_MS, day_stop_ms(days[-1])), day_stop_ms(days[-1]), records, {})
    foretold = forecast(known, {}, WEIGHT)
    assert (foretold.requests, foretold.trades, foretold.bytes) == (0, 0, 0)
    assert set(foretold.days.values()) == {HELD}


@pytest.mark.parametrize(("reach", "trades"), [(0, 3000), (2, 1000), (None, 0)])
def test_days_that_neither_can_bring_are_nowhere_and_cost_nothing(reach: int | None, trades: int) -> None:
    """The exchange has answered for the days from the one of number ``reach`` on."""
    days = [DAY + timedelta(days=n) for n in range(3)]
    stop = day_of(day_stop_ms(days[-1]))
    last_ids = {stop: 2999} if reach is None else {days[reach]: reach * 1000 - 1, stop: 2999}
    known = Known(TimeSpan(DAY_MS, day_stop_ms(days[-1])), day_stop_ms(stop), {}, {})
    foretold = forecast(known, last_ids, WEIGHT)
    assert foretold.trades == trades
    assert list(foretold.days.values()).count(NOWHERE) == 3 - trades // 1000
