"""A day is a range of ids: whatever the times, the pages and their sequence, no two days hold the same id."""

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from random import Random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.division import (
    OUT_OF_ORDER_MS,
    divided,
    first_row_from,
    is_near_midnight,
    placed,
    starts_within,
)
from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import MS_PER_DAY, day_of
from tests.fakes import DAY, DAY_MS, trade_frame
from tests.strategies import midnights

NEXT, NEXT_MS = DAY + ONE_DAY, DAY_MS + MS_PER_DAY


@st.composite
def inverted(draw: st.DrawFn) -> pl.DataFrame:
    """Trades around two midnights, of which up to a handful beside each have a time on the other side; a few are
    filler rows with the time of any other trade."""
    dice = Random(draw(st.integers(0, 2**32)))
    times = []
    for midnight in (NEXT_MS, NEXT_MS + MS_PER_DAY):
        around = sorted(midnight + dice.randint(-3000, 3000) for _ in range(dice.randint(2, 12)))
        for _ in range(dice.randint(0, 4)):
            at, other = dice.randrange(len(around)), dice.randrange(len(around))
            around[at], around[other] = around[other], around[at]
        times += around
    markers = {n for n in range(len(times)) if dice.random() < 0.05}
    return trade_frame(range(100, 100 + len(times)), times, {100 + n for n in markers})


def ranges_of(days: dict[date, set[int]]) -> None:
    """No two days hold the same id, or one between those of another day."""
    ordered = [days[day] for day in sorted(days) if days[day]]
    assert all(max(before) < min(after) for before, after in pairwise(ordered)), days


@dataclass
class Stored:
    """A day that is stored."""

    day: date
    first_id: int
    last_id: int


class Disk:
    """The merger's and the writer's way of placing rows, on nothing but dictionaries."""

    def __init__(self) -> None:
        self.days: dict[date, set[int]] = {}
        self.starts: set[DayStart] = set()

    def save(self, trades: pl.DataFrame) -> None:
        parts = divided(trades, self.starts)
        self.starts |= starts_within(parts, self.starts)
        for day, rows in parts:
            earlier = max((each for each in self.days if each < day), default=None)
            later = min((each for each in self.days if each > day), default=None)
            for each, moved in placed(
                rows,
                day,
                None if earlier is None else Stored(earlier, min(self.days[earlier]), max(self.days[earlier])),
                None if later is None else Stored(later, min(self.days[later]), max(self.days[later])),
            ):
                self.days.setdefault(each, set()).update(moved["a"])


@given(inverted(), st.data())
def test_no_two_days_hold_the_same_id_however_rows_come(tape: pl.DataFrame, data: st.DataObject) -> None:
    """Pages of any size in any sequence, some of them handed over together, some twice."""
    cuts = sorted(data.draw(st.sets(st.integers(1, tape.height - 1))))
    pages = [tape[start:stop] for start, stop in pairwise([0, *cuts, tape.height])]
    order = data.draw(st.permutations(range(len(pages))))
    disk = Disk()
    for number in [*order, *data.draw(st.lists(st.sampled_from(range(len(pages))), max_size=3))]:
        disk.save(pages[number])
    assert sorted(each for ids in disk.days.values() for each in ids) == tape["a"].to_list()
    ranges_of(disk.days)


@given(inverted(), st.data())
def test_once_the_starts_are_known_every_split_gives_the_same_days(tape: pl.DataFrame, data: st.DataObject) -> None:
    whole = divided(tape)
    starts = starts_within(whole) | {DayStart(whole[0][0], tape["a"][0])}
    cuts = sorted(data.draw(st.sets(st.integers(1, tape.height - 1))))
    found: dict[date, set[int]] = {}
    for start, stop in pairwise([0, *cuts, tape.height]):
        for day, rows in divided(tape[start:stop], starts):
            found.setdefault(day, set()).update(rows["a"])
    assert found == {day: set(rows["a"]) for day, rows in whole}


def test_filler_rows_alone_are_of_the_day_that_has_begun() -> None:
    filler = trade_frame([7, 8], [NEXT_MS + 5, NEXT_MS + 6]).with_columns(
        p=pl.lit(0.0), q=pl.lit(0.0), f=pl.lit(-1, pl.Int64), l=pl.lit(-1, pl.Int64)
    )
    assert days_of(filler, DayStart(DAY, 3)) == [(DAY, [7, 8])]
    assert days_of(filler, DayStart(DAY, 3), DayStart(NEXT, 8)) == [(DAY, [7]), (NEXT, [8])]
    assert days_of(filler, DayStart(DAY, 3), DayStart(NEXT, 7)) == [(NEXT, [7, 8])]
    assert days_of(filler) == [(NEXT, [7, 8])], "nothing else is known of them"


@given(midnights(60))
def test_where_time_never_goes_back_each_row_is_of_the_day_of_its_time(times: list[int]) -> None:
    parts = divided(trade_frame(range(3, 3 + len(times)), times))
    assert [day for day, _ in parts] == sorted({day_of(at) for at in times})
    assert all({day_of(at) for at in rows["T"]} == {day} for day, rows in parts)


def days_of(trades: pl.DataFrame, *starts: DayStart) -> list[tuple[date, list[int]]]:
    return [(day, rows["a"].to_list()) for day, rows in divided(trades, starts)]


def test_a_day_begins_with_the_first_row_behind_its_midnight_though_time_goes_back() -> None:
    tape = trade_frame([1, 2, 3, 4], [NEXT_MS - 5, NEXT_MS + 1, NEXT_MS - 1, NEXT_MS + 2])
    assert days_of(tape) == [(DAY, [1]), (NEXT, [2, 3, 4])]
    assert days_of(tape[2:]) == [(DAY, [3]), (NEXT, [4])], "nothing is known of the row before"
    assert days_of(tape[2:3], DayStart(NEXT, 2)) == [(NEXT, [3])]
    assert days_of(tape, DayStart(NEXT, 4)) == [(DAY, [1, 2, 3]), (NEXT, [4])]
    assert days_of(tape[1:2], DayStart(NEXT, 4)) == [(DAY, [2])]


def test_one_time_that_is_far_off_ends_no_day() -> None:
    times = [DAY_MS + n for n in range(10)]
    tape = trade_frame(range(10), [*times[:4], NEXT_MS + 7, *times[5:]])
    assert days_of(tape) == [(DAY, list(range(10)))]
    assert first_row_from(tape["T"], NEXT_MS) is None
    assert first_row_from(tape["T"], DAY_MS - 1) == 0


def test_a_start_of_a_day_without_trades_is_the_start_of_the_first_that_has_some() -> None:
    third = DAY + timedelta(days=2)
    tape = trade_frame([7, 8], [NEXT_MS + MS_PER_DAY, NEXT_MS + MS_PER_DAY])
    parts = divided(tape, {DayStart(DAY, 7)})
    assert [day for day, _ in parts] == [third]
    assert starts_within(parts, {DayStart(DAY, 7)}) == {DayStart(third, 7)}
    assert starts_within(parts, {DayStart(DAY, 8)}) == set()


def test_only_rows_near_a_midnight_are_moved_to_another_day() -> None:
    """A file of another day with these ids is a contradiction, and must not draw the rows of this one."""
    tape = trade_frame([5, 6, 7], [DAY_MS + 1, DAY_MS + 2 * OUT_OF_ORDER_MS, NEXT_MS - 1])
    earlier, later = Stored(DAY - ONE_DAY, 1, 6), Stored(NEXT, 6, 9)
    assert [(day, rows["a"].to_list()) for day, rows in placed(tape, DAY, earlier, later)] == [
        (DAY - ONE_DAY, [5]),
        (DAY, [6]),
        (NEXT, [7]),
    ]
    assert is_near_midnight(tape, DAY)
    assert not is_near_midnight(tape[1:2], DAY)
