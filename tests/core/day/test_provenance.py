"""What is known of a day besides its rows: sources, absent and suspected ids, conflicts, and the neighbours."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.certificate import ADOPTED, REST, Certificate, Source, Sourced, Suspicion
from backfilld.core.day.certificate import (
    Provenance as Known,  # pytest would take a name of Test... for a class of tests
)
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange
from tests.core.day.test_certificate import record

ids = st.sets(st.integers(0, 30), min_size=1)
SOURCES = [REST, ADOPTED, Source("archive", "aa" * 32), Source("archive", "bb" * 32)]


def ranges_of(chosen: set[int]) -> tuple[IdRange, ...]:
    return tuple(IdRange(each, each) for each in sorted(chosen))


def ids_of(ranges: Iterable[IdRange]) -> set[int]:
    return {each for part in ranges for each in range(part.first_id, part.last_id + 1)}


def record_of(stored: set[int]) -> Certificate:
    return record(*((part.first_id, part.last_id) for part in IdSet.of(ranges_of(stored)).ranges))


@given(ids, st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_an_id_is_stored_or_absent_or_missing_and_never_two_of_them(
    stored: set[int], absent: set[int], conflicting: set[int]
) -> None:
    certificate = record_of(stored).with_provenance(Known(absent=ranges_of(absent), conflicting=ranges_of(conflicting)))
    assert ids_of(certificate.absent) == absent - stored
    assert ids_of(certificate.holes) == set(range(min(stored), max(stored))) - stored - absent
    assert ids_of(certificate.conflicting) == stored & conflicting
    assert certificate.conflicts == len(stored & conflicting)


@given(
    ids, st.sets(st.integers(0, 30)), st.lists(st.tuples(st.sets(st.integers(0, 30)), st.integers(0, 9)), max_size=4)
)
def test_a_suspicion_is_kept_as_it_was_first_raised_until_the_id_is_stored_or_absent(
    stored: set[int], absent: set[int], raised: list[tuple[set[int], int]]
) -> None:
    suspected = tuple(Suspicion(each, asked_ms) for chosen, asked_ms in raised for each in ranges_of(chosen))
    certificate = record_of(stored).with_provenance(Known(absent=ranges_of(absent), suspected=suspected))
    first: dict[int, int] = {}
    for chosen, asked_ms in raised:
        for each in chosen - stored - absent:
            first[each] = min(asked_ms, first.get(each, asked_ms))
    found = [(each, suspicion.asked_ms) for suspicion in certificate.suspected for each in ids_of([suspicion.ids])]
    assert sorted(found) == sorted(first.items())


@given(
    ids,
    st.lists(st.tuples(st.sets(st.integers(0, 30)), st.sampled_from(SOURCES)), max_size=4),
    st.sampled_from(SOURCES),
)
def test_every_id_stored_has_one_source_the_first_that_is_known(
    stored: set[int], known: list[tuple[set[int], Source]], source: Source
) -> None:
    sources = tuple(Sourced(name, each) for chosen, name in known for each in ranges_of(chosen))
    certificate = record_of(stored).with_provenance(Known(source=source, sources=sources))
    truth = {each: next((name for chosen, name in known if each in chosen), source) for each in stored}
    found = [(each, part.source) for part in certificate.sources for each in sorted(ids_of([part.ids]))]
    assert found == sorted(truth.items()), "in order, each id once"
    for earlier, later in pairwise(certificate.sources):
        assert earlier.source != later.source or earlier.ids.last_id + 1 < later.ids.first_id, "joined where possible"
    again = certificate.with_provenance(Known(sources=certificate.sources, source=ADOPTED))
    assert again.sources == certificate.sources


@given(ids, st.sets(st.integers(-5, 35)), st.booleans(), st.booleans())
def test_neighbours_are_looked_for_beyond_absent_ids(
    stored: set[int], absent: set[int], opened: bool, closed: bool
) -> None:
    """What a record proves it proves again to whoever reads only its starts and its absent ids."""
    certificate = record_of(stored).with_provenance(Known(absent=ranges_of(absent)))
    certificate = replace(certificate, opened=opened, closed=closed)
    before, after = min(stored) - 1, max(stored) + 1
    while before in absent:
        before -= 1
    while after in absent:
        after += 1
    assert certificate.previous_last_id == (before if opened else None)
    assert certificate.next_first_id == (after if closed else None)
    again = record_of(stored).with_provenance(Known(absent=certificate.absent, day_starts=certificate.proven_starts()))
    assert (again.opened, again.closed) == (opened, closed)


def test_a_day_is_sealed_over_absent_ids_and_not_over_suspected_ones() -> None:
    open_ended = record((5, 9), (12, 14), opened=True, closed=True)
    assert not open_ended.with_provenance(Known(suspected=(Suspicion(IdRange(10, 11), 0),))).sealed
    assert not open_ended.with_provenance(Known(absent=(IdRange(10, 10),))).sealed
    assert open_ended.with_provenance(Known(absent=(IdRange(10, 11),))).sealed
