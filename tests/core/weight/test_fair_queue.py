"""Whose turn it is: the laws of a fair queue, under any sequence of joining and leaving."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.weight.fair_queue import FairQueue, Rank

Item = tuple[Rank, str, int]
"""Rank, claimant, and the place at which it joined."""

JOINS = st.tuples(st.sampled_from(Rank), st.sampled_from("abcd"))
STEPS = st.lists(st.none() | JOINS, max_size=60)
"""Somebody joins, or the next one leaves (None)."""


def played(steps: list[tuple[Rank, str] | None]) -> Iterator[tuple[list[Item], Item]]:
    """Who waited at each turn, and whose it was; in the end all that still wait have theirs."""
    turns: FairQueue[Item] = FairQueue()
    waiting: list[Item] = []
    for number, step in enumerate([*steps, *[None] * len(steps)]):
        if step is not None:
            item = (*step, number)
            turns.add(item, *step)
            waiting.append(item)
        elif waiting:
            first = turns.first()
            taken = turns.pop()
            assert taken == first, "who looks first takes what was shown"
            yield list(waiting), taken
            waiting.remove(taken)
        assert len(turns) == len(waiting)
    assert not waiting, "everybody who joined has had a turn"


@given(STEPS)
def test_what_is_wanted_now_goes_before_what_is_wanted_for_completeness(steps: list[tuple[Rank, str] | None]) -> None:
    for waiting, (rank, _, _) in played(steps):
        assert rank == min(each for each, _, _ in waiting)


@given(STEPS)
def test_a_claimant_is_served_in_the_order_of_its_asking(steps: list[tuple[Rank, str] | None]) -> None:
    for waiting, taken in played(steps):
        own = [number for *claim, number in waiting if claim == list(taken[:2])]
        assert taken[2] == min(own)


@given(STEPS)
def test_nobody_of_its_rank_has_two_turns_while_a_claimant_waits(steps: list[tuple[Rank, str] | None]) -> None:
    """However much the others ask for, and whenever they come."""
    since: dict[tuple[Rank, str], Counter[str]] = {}
    for waiting, (rank, claimant, _) in played(steps):
        claims = {(each, name) for each, name, _ in waiting}
        since = {claim: since.get(claim, Counter()) for claim in claims}
        since.pop((rank, claimant))
        for other in since:
            if other[0] == rank:
                since[other][claimant] += 1
                assert since[other][claimant] <= 1


@given(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
def test_claimants_take_turns_in_the_order_of_their_coming(claimants: list[str]) -> None:
    turns: FairQueue[str] = FairQueue()
    for claimant in claimants:
        for _ in range(3):
            turns.add(claimant, Rank.TODAY, claimant)
    assert [turns.pop() for _ in range(len(turns))] == claimants * 3


def test_a_claimant_with_nothing_left_joins_anew_behind_the_others() -> None:
    turns: FairQueue[str] = FairQueue()
    for name in ("a", "b", "c"):
        turns.add(name, Rank.TOP_UP, name)
    assert turns.pop() == "a"
    turns.add("a again", Rank.TOP_UP, "a")
    assert [turns.pop() for _ in range(3)] == ["b", "c", "a again"]


def test_where_nothing_waits_nothing_is_first_and_nothing_can_be_taken() -> None:
    turns: FairQueue[str] = FairQueue()
    assert turns.first() is None
    with pytest.raises(IndexError, match="nothing waits"):
        turns.pop()
