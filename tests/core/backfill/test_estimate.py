"""The estimate: each day has one source, what is missing is counted exactly, and requests follow from it."""

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.backfill.estimate import (
    ARCHIVE,
    HELD,
    NOWHERE,
    QUESTIONS_PER_FILL,
    QUESTIONS_PER_RUN,
    REST,
    Known,
    estimate,
)
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import IdRange, day_start_ms, day_stop_ms
from backfilld.core.timespan import StoredSpan, TimeSpan
from tests.fakes import DAY

PARTIAL = "partial"
WEIGHT = 4
FIRST_ID = 2_000_000


class World:
    """Days in a row, each with this many ids, and for each whether it is on disk, published, or with REST alone."""

    def __init__(self, days: list[tuple[str, int]]) -> None:
        self.days = {DAY + timedelta(days=n): each for n, each in enumerate(days)}
        self.bounds: dict[date, IdRange] = {}
        next_id = FIRST_ID
        for day, (_, rows) in self.days.items():
            self.bounds[day] = IdRange(next_id, next_id + rows - 1)
            next_id += rows

    def known(self) -> Known:
        last = max(self.days)
        certificates = {
            day: self.certificate(day, rows // 2 if state == PARTIAL else rows)
            for day, (state, rows) in self.days.items()
            if state in {HELD, PARTIAL}
        }
        sizes = {day: 1000 for day, (state, _) in self.days.items() if state == ARCHIVE}
        window = TimeSpan(day_start_ms(DAY), day_stop_ms(last))
        return Known(window, day_stop_ms(last) + 1, certificates, sizes)

    def certificate(self, day: date, rows: int) -> Certificate:
        ids = self.bounds[day]
        span = StoredSpan(IdRange(ids.first_id, ids.first_id + rows - 1), day_start_ms(day), day_stop_ms(day) - 1)
        is_whole = rows == len(ids)
        return Certificate(day, (span,), opened=True, closed=is_whole)

    def last_ids(self, known: Known, unanswered: int = 0) -> dict[date, int]:
        """What the exchange answers, but for the first ``unanswered`` days of the window."""
        found: dict[date, int] = {}
        for first, last in known.rest_runs():
            reached = max(first, DAY + timedelta(days=unanswered))
            if reached <= last:
                found |= {
                    reached: self.bounds[reached].first_id - 1,
                    last + timedelta(days=1): self.bounds[last].last_id,
                }
        return found


STATES = st.sampled_from([HELD, PARTIAL, ARCHIVE, REST])
WORLDS = st.lists(st.tuples(STATES, st.integers(2, 5_000)), min_size=1, max_size=12).map(World)


@given(WORLDS)
def test_what_is_missing_is_counted_exactly_and_costs_its_pages_and_a_few_questions(world: World) -> None:
    known = world.known()
    found = estimate(known, world.last_ids(known), WEIGHT)
    missing = {REST: lambda rows: rows, PARTIAL: lambda rows: rows - rows // 2}
    assert found.trades == sum(missing[state](rows) for state, rows in world.days.values() if state in missing)
    assert found.bytes == 1000 * sum(state == ARCHIVE for state, _ in world.days.values())
    runs = len(list(known.rest_runs()))
    least = found.trades / 1000
    states = [state for state, _ in world.days.values()]
    # Between an archive day and one that REST must bring whole, REST is asked which begins where.
    ends = sum({ARCHIVE, REST} == {*pair} for pair in pairwise(states))
    assert least <= found.requests - ends <= least + runs * (1 + QUESTIONS_PER_RUN) + QUESTIONS_PER_FILL
    assert found.weight == found.requests * WEIGHT


@given(WORLDS)
def test_each_day_has_the_source_that_it_will_come_from(world: World) -> None:
    known = world.known()
    found = estimate(known, world.last_ids(known), WEIGHT)
    assert found.days == {day: REST if state == PARTIAL else state for day, (state, _) in world.days.items()}


@given(WORLDS, st.integers(1, 12))
def test_days_that_nobody_answers_for_are_nowhere_and_no_trades_are_invented(world: World, unanswered: int) -> None:
    known = world.known()
    found = estimate(known, world.last_ids(known, unanswered), WEIGHT)
    lost = [day for n, day in enumerate(world.days) if n < unanswered and known.source(day) == REST]
    assert [day for day, source in found.days.items() if source == NOWHERE] == lost
    assert found.trades <= sum(rows for _, rows in world.days.values())
