"""The plan of a fill by many machines, and what REST is asked of it."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.fleet import planned, tasks_of, within_lookback
from backfilld.core.model import Market
from tests.fakes import BTC

FIRST = date(2025, 1, 20)


@given(st.sets(st.integers(0, 120)), st.integers(0, 120), st.integers(0, 120))
def test_tasks_have_each_listed_day_of_the_span_once_and_their_neighbours(
    listed: set[int], start: int, stop: int
) -> None:
    days = {FIRST + timedelta(days=number): 100 + number for number in listed}
    first, last = FIRST + timedelta(days=min(start, stop)), FIRST + timedelta(days=max(start, stop))
    tasks = list(tasks_of(BTC, days, first, last))
    assert [day for task in tasks for day in task.days] == [day for day in sorted(days) if first <= day <= last]
    for task in tasks:
        assert all(day.replace(day=1) == task.month for day in task.days)
        assert task.bytes == sum(days[day] for day in task.days)
        earlier = [day for day in days if day < task.days[0]]
        later = [day for day in days if day > task.days[-1]]
        assert (task.before, task.after) == (max(earlier, default=None), min(later, default=None))
    plan = planned(tasks)
    assert [task.bytes for task in plan.tasks] == sorted((task.bytes for task in tasks), reverse=True)
    assert plan.files == sum(len(task.days) for task in tasks)


def test_a_task_without_days_that_are_there_keeps_the_others() -> None:
    (task,) = tasks_of(BTC, {date(2025, 2, day): 10 for day in range(1, 11)}, date(2025, 2, 1), date(2025, 2, 28))
    left = task.without([date(2025, 2, day) for day in (1, 5, 6, 20)])
    assert [day.day for day in left.days] == [2, 3, 4, 7, 8, 9, 10]
    assert left.bytes == 70


@pytest.mark.parametrize(("market", "asked"), [(Market.SPOT, 30), (Market.UM, 3), (Market.CM, 2)])
def test_rest_is_asked_for_days_within_what_the_market_documents(market: Market, asked: int) -> None:
    """At noon the futures' two days, or one, reach into the day before."""
    now = datetime(2025, 3, 1, 12, tzinfo=UTC)
    days = [now.date() - timedelta(days=number) for number in range(29, -1, -1)]
    assert within_lookback(days, market, now.timestamp() * 1000) == days[-asked:]
