"""Ids that the exchange passes over: suspected at the first look, absent after a second one hours later."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.absences import SECOND_LOOK_MS, Absences, AbsentIds
from backfilld.core.day.certificate import Certificate, Suspicion, day_starts
from backfilld.core.day.certificate import (
    Provenance as Known,  # pytest would take a name of Test... for a class of tests
)
from backfilld.core.day.start import DayStart
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from tests.core.day.test_certificate import NEXT, record
from tests.fakes import DAY

NOW_MS = 10 * SECOND_LOOK_MS
AFTER = NEXT + timedelta(days=1)


def ids_of(ranges: Iterable[IdRange]) -> set[int]:
    return {each for part in ranges for each in range(part.first_id, part.last_id + 1)}


def coverage_of(ids: Iterable[int]) -> IdSet:
    return IdSet.of(IdRange(each, each) for each in ids)


def spans_of(ids: Iterable[int]) -> list[tuple[int, int]]:
    return [(each.first_id, each.last_id) for each in coverage_of(ids).ranges]


def noted(records: Mapping[date, Certificate], absences: Mapping[date, AbsentIds]) -> dict[date, Certificate]:
    """The records with what is said of them, as the store would write it."""
    certificates = dict(records)
    for day, absence in absences.items():
        old = certificates[day]
        known = Known(
            day_starts=old.proven_starts(),
            absent=(*old.absent, *absence.absent),
            suspected=(*old.suspected, *absence.suspected),
        )
        certificates[day] = old.with_provenance(known)
    return certificates


def suspected_in(records: Mapping[date, Certificate]) -> list[Suspicion]:
    return [each for record in records.values() for each in record.suspected]


def looked(records: Mapping[date, Certificate], missing: set[int], now_ms: int) -> dict[date, Certificate]:
    """One plan, from these records: what may be asked for is asked for, and the exchange has none of it."""
    absences = Absences(suspected_in(records), now_ms)
    asked = missing - ids_of(absences.postponed.ranges)
    absent = {each for record in records.values() for each in ids_of(record.absent)}
    return noted(records, absences.by_day(coverage_of(asked | absent), records.values(), now_ms))


days_of_ids = st.sets(st.integers(0, 60), min_size=3, max_size=60)


@given(days_of_ids, st.lists(st.tuples(st.sets(st.integers(0, 60)), st.integers(1, 3 * SECOND_LOOK_MS)), max_size=6))
def test_an_id_is_absent_only_after_two_looks_hours_apart(stored: set[int], looks: list[tuple[set[int], int]]) -> None:
    """Whatever is passed over, and whenever: what is absent was asked for twice, SECOND_LOOK_MS apart or more."""
    records, now_ms = {DAY: record(*spans_of(stored))}, NOW_MS
    asked_at: dict[int, list[int]] = {}
    for passed_over, wait_ms in looks:
        postponed = ids_of(Absences(suspected_in(records), now_ms).postponed.ranges)
        absent = ids_of(records[DAY].absent)
        missing = {each for each in passed_over - stored if each >= min(stored)}
        for each in missing - postponed - absent:
            asked_at.setdefault(each, []).append(now_ms)
            if len(asked_at[each]) > 1:
                first, *_, last = asked_at[each]
                assert last - first >= SECOND_LOOK_MS, "asked again in between"
        records = looked(records, missing - absent, now_ms)
        now_ms += wait_ms
    twice = {each for each, times in asked_at.items() if times[-1] - times[0] >= SECOND_LOOK_MS}
    assert ids_of(records[DAY].absent) == twice
    assert ids_of(each.ids for each in records[DAY].suspected) == asked_at.keys() - twice


@given(days_of_ids, st.data())
def test_what_is_passed_over_at_a_midnight_closes_the_day_before_and_opens_the_one_after(
    stored: set[int], data: st.DataObject
) -> None:
    """Two days with holes anywhere: the midnight between them is proven after two looks, and not by a suspicion."""
    cut = data.draw(st.sampled_from(sorted(stored)[1:]))
    before, after = ({each for each in stored if (each < cut) == is_before} for is_before in (True, False))
    records = {DAY: record(*spans_of(before)), NEXT: record(*spans_of(after), day=NEXT)}
    missing = set(range(min(stored), max(stored))) - stored

    once = looked(records, missing, NOW_MS)
    assert {each.first_id for each in day_starts(once.values())} == ({cut} if cut - 1 in stored else set())
    twice = looked(once, missing, NOW_MS + SECOND_LOOK_MS)
    assert ids_of(part for each in twice.values() for part in each.holes) == set()
    assert {each.first_id for each in day_starts(twice.values())} == {cut}
    first, last = (twice[day].proven_by({DayStart(NEXT, cut)}) for day in (DAY, NEXT))
    assert (first.closed, last.opened) == (True, True)
    assert (first.next_first_id, last.previous_last_id) == (last.first_id, first.last_id)


def test_ids_before_all_that_is_stored_are_the_first_days() -> None:
    records = {NEXT: record((10, 20), day=NEXT), AFTER: record((21, 30), day=AFTER)}
    found = Absences((), NOW_MS).by_day(coverage_of({8, 9}), records.values(), NOW_MS)
    assert found == {NEXT: AbsentIds(suspected=(Suspicion(IdRange(8, 9), NOW_MS),))}


def test_ids_behind_all_that_is_stored_are_the_last_days() -> None:
    records = {DAY: record((1, 9)), NEXT: record((10, 20), day=NEXT)}
    found = Absences((), NOW_MS).by_day(coverage_of({21, 22}), records.values(), NOW_MS)
    assert found == {NEXT: AbsentIds(suspected=(Suspicion(IdRange(21, 22), NOW_MS),))}


def test_ids_that_one_day_knows_to_be_absent_are_known_to_the_other_beside_them() -> None:
    """A file that was written when its neighbour was not there yet."""
    before = record((1, 9)).with_provenance(Known(absent=(IdRange(10, 11),)))
    found = Absences((), NOW_MS).by_day(coverage_of({10, 11}), [before, record((12, 20), day=NEXT)], NOW_MS)
    assert found == {NEXT: AbsentIds(absent=(IdRange(10, 11),))}


def test_ids_that_are_ripe_in_part_are_absent_in_part() -> None:
    stored = record((1, 4), (11, 20)).with_provenance(
        Known(suspected=(Suspicion(IdRange(5, 7), NOW_MS - SECOND_LOOK_MS),))
    )
    found = Absences(stored.suspected, NOW_MS).by_day(coverage_of(range(5, 11)), [stored], NOW_MS)
    assert found == {DAY: AbsentIds((IdRange(5, 7),), (Suspicion(IdRange(8, 10), NOW_MS),))}


def test_a_second_look_is_due_once_and_also_for_what_the_plan_itself_came_across() -> None:
    suspicion = Suspicion(IdRange(5, 7), NOW_MS)
    stored = record((1, 4), (8, 20)).with_provenance(Known(suspected=(suspicion,)))
    while_it_was_raised = Absences((), NOW_MS)
    assert not while_it_was_raised.is_due([stored], NOW_MS + SECOND_LOOK_MS - 1)
    assert while_it_was_raised.is_due([stored], NOW_MS + SECOND_LOOK_MS)
    assert not while_it_was_raised.is_due([replace(stored, suspected=())], NOW_MS + SECOND_LOOK_MS)
    asking = Absences((suspicion,), NOW_MS + SECOND_LOOK_MS)
    assert not asking.postponed
    assert not asking.is_due([stored], NOW_MS + 2 * SECOND_LOOK_MS), "it is asked for by this plan already"
    assert Absences((suspicion,), NOW_MS + 1).is_due([stored], NOW_MS + SECOND_LOOK_MS)


def test_a_suspicion_ripens_by_the_exchanges_time_alone() -> None:
    """While no answer has named it, every suspicion is postponed, however old the host's clock makes it."""
    suspicion = Suspicion(IdRange(5, 7), NOW_MS - 10 * SECOND_LOOK_MS)
    stored = record((1, 4), (8, 20)).with_provenance(Known(suspected=(suspicion,)))
    unheard = Absences((suspicion,), None)
    assert 6 in unheard.postponed
    assert unheard.is_due([stored], NOW_MS)
