"""Whether a pipeline is alive: it moved, or was to rest, not long ago."""

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.liveness import Liveness, Waits

LOOKS = st.lists(
    st.tuples(
        st.floats(0.01, 40.0),  # seconds since the last look
        st.booleans(),  # whether it moved since
        st.one_of(st.just(float("-inf")), st.floats(-100.0, 100.0)),  # until when it rests, from now
    ),
    min_size=1,
    max_size=40,
)


@given(st.floats(0.5, 60.0), LOOKS)
def test_it_is_alive_while_it_was_seen_to_move_or_to_rest_within_the_patience(
    patience_s: float, looks: list[tuple[float, bool, float]]
) -> None:
    liveness, now, steps = Liveness(patience_s), 0.0, 0
    signs: list[float] = []
    for passed_s, moves, rests_s in looks:
        now += passed_s
        steps += moves
        if moves or not signs:
            signs.append(now)
        signs.append(min(now, now + rests_s))
        assert liveness.is_alive(now, steps, now + rests_s) == (now - max(signs) <= patience_s)


@given(st.floats(1.0, 60.0), st.floats(0.1, 0.9), st.integers(1, 50))
def test_what_neither_moves_nor_rests_is_dead_after_the_patience_and_alive_again_when_it_moves(
    patience_s: float, every: float, looks: int
) -> None:
    liveness = Liveness(patience_s)
    verdicts = [liveness.is_alive(n * every * patience_s, "stuck", float("-inf")) for n in range(looks + 1)]
    assert verdicts == [n * every * patience_s <= patience_s for n in range(looks + 1)]
    assert liveness.is_alive(looks * patience_s, "moved", float("-inf"))


@given(st.floats(1.0, 60.0), st.floats(1.0, 1e6))
def test_a_rest_counts_from_its_end(patience_s: float, rest_s: float) -> None:
    """However long it is, nothing is amiss until the patience after it is over; and one that is over long ago is
    none."""
    liveness = Liveness(patience_s)
    assert all(liveness.is_alive(part * rest_s, 0, rest_s) for part in (0.0, 0.5, 1.0))
    assert liveness.is_alive(rest_s + 0.9 * patience_s, 0, rest_s)
    assert not liveness.is_alive(rest_s + 1.1 * patience_s, 0, rest_s)


def test_a_state_that_changes_while_it_rests_and_stays_after_it_is_seen() -> None:
    liveness = Liveness(10.0)
    assert liveness.is_alive(0.0, 1, 30.0)
    assert liveness.is_alive(29.0, 2, 30.0)
    assert liveness.is_alive(40.0, 2, 30.0)
    assert not liveness.is_alive(40.1, 2, 30.0)


def test_the_oldest_wait_is_named_whatever_else_ends() -> None:
    waits = Waits()
    with waits.wait("the first", 0.0), waits.wait("a large one", 0.0, takes_s=100.0):
        for now in range(40):
            with waits.wait("another", float(now)):
                assert waits.overdue(float(now), 40.0) is None
        assert waits.overdue(41.0, 40.0) == "the first takes longer than 40 s"
    with waits.wait("a large one", 0.0, takes_s=100.0):
        assert waits.overdue(139.0, 40.0) is None
        assert waits.overdue(141.0, 40.0) is not None
    assert waits.overdue(1e9, 0.0) is None
