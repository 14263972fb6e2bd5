"""When a day is complete, and what is proven of its ends."""

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.certificate import Certificate, day_starts
from backfilld.core.day.start import DayStart
from backfilld.core.day.stored_window import stored_in
from backfilld.core.model import MS_PER_DAY, IdRange, day_of, day_start_ms
from backfilld.core.timespan import StoredSpan, TimeSpan
from tests.fakes import DAY, DAY_MS, Tape, starts_at
from tests.strategies import midnights, span_of

NEXT = DAY + timedelta(days=1)


def record(*ids: tuple[int, int], day: date = DAY, opened: bool = False, closed: bool = False) -> Certificate:
    start = day_start_ms(day)
    spans = tuple(StoredSpan(IdRange(first, last), start + first, start + last) for first, last in ids)
    return Certificate(day, spans, opened, closed)


def records_of(tape: Tape, *, opened: bool = False) -> list[Certificate]:
    """The whole tape, by day."""
    edges = [0, *(n for n in range(1, len(tape)) if day_of(tape.times[n - 1]) != day_of(tape.times[n])), len(tape)]
    return [
        Certificate(day_of(tape.times[start]), (span_of(tape, start, stop),), opened=opened)
        for start, stop in pairwise(edges)
    ]


def test_a_day_is_sealed_when_both_ends_are_proven_and_no_id_is_missing() -> None:
    assert record((5, 9), opened=True, closed=True).sealed
    assert not record((5, 9), opened=True).sealed
    assert not record((5, 9), closed=True).sealed
    assert not record((5, 9), (11, 12), opened=True, closed=True).sealed


def test_a_record_knows_its_rows_ends_and_holes() -> None:
    two = record((5, 9), (12, 12))
    assert (two.rows, two.first_id, two.last_id, two.last_ms) == (6, 5, 12, DAY_MS + 12)
    assert two.holes == (IdRange(10, 11),)
    assert two.coverage.ranges == (IdRange(5, 9), IdRange(12, 12))


@given(st.sets(st.integers(0, 20)), st.booleans(), st.booleans())
def test_day_starts_prove_the_end_they_touch_and_nothing_is_ever_unproven(
    ids: set[int], opened: bool, closed: bool
) -> None:
    before = record((5, 9), opened=opened, closed=closed)
    starts = starts_at(DAY, *ids)
    after = before.proven_by(starts)
    assert after.opened == (opened or 5 in ids)
    assert after.closed == (closed or 10 in ids)
    assert after.spans == before.spans
    assert after.proven_by(starts) == after
    own = {DayStart(DAY, 5)} if after.opened else set()
    assert after.proven_starts() == own | ({DayStart(NEXT, 10)} if after.closed else set())
    assert before.proven_by(after.proven_starts()) == after


@given(midnights(40), st.data())
def test_adjoining_days_prove_true_day_starts_whatever_the_order(times: list[int], data: st.DataObject) -> None:
    """An id begins a day if and only if the one before it lies in an earlier day."""
    tape = Tape.of(7, times)
    truth = {DayStart(day_of(times[n]), 7 + n) for n in range(1, len(times)) if day_of(times[n - 1]) < day_of(times[n])}
    assert day_starts(data.draw(st.permutations(records_of(tape)))) == truth


def test_days_with_a_hole_between_them_prove_nothing() -> None:
    assert day_starts([record((5, 9)), record((11, 12), day=NEXT)]) == set()
    assert day_starts([]) == set()


@given(midnights(40), st.integers(-10, 3 * MS_PER_DAY), st.one_of(st.none(), st.integers(1, 2 * MS_PER_DAY)))
def test_stored_in_gives_the_spans_that_reach_into_the_window(times: list[int], start: int, length: int | None) -> None:
    tape = Tape.of(7, times)
    window = TimeSpan(DAY_MS + start, None if length is None else DAY_MS + start + length)
    stored = stored_in(window, reversed(records_of(tape, opened=True)))
    spans, first_is_proven = list(stored.spans), stored.first_is_proven
    ids = {i for span in spans for i in range(span.ids.first_id, span.ids.last_id + 1)}
    assert tape.ids_in(window) <= ids
    for span in spans:
        assert span.last_ms >= window.start_ms
        assert window.stop_ms is None or span.first_ms < window.stop_ms
    assert [span.ids for span in spans] == sorted(span.ids for span in spans)
    if first_is_proven:
        wanted = tape.ids_in(window)
        assert not wanted or min(ids) <= min(wanted)


def test_the_first_id_is_proven_by_the_opened_record_of_the_windows_own_day() -> None:
    window = TimeSpan(DAY_MS)
    assert stored_in(window, [record((5, 9), opened=True)]).first_is_proven
    assert not stored_in(window, [record((5, 9))]).first_is_proven
    assert not stored_in(window, [record((5, 9), day=NEXT, opened=True)]).first_is_proven, (
        "the day before is not stored"
    )
    assert not stored_in(window, []).first_is_proven
    later = TimeSpan(DAY_MS + 8)
    assert not stored_in(later, [record((5, 6), (8, 9), opened=True)]).first_is_proven, (
        "the span that is opened ended before"
    )
