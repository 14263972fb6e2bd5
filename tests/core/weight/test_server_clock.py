"""What is believed of the server's clock always contains the truth."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from backfilld.core.weight.server_clock import DRIFT, ServerClock

Observation = tuple[float, float, float, float]
OBSERVATIONS = st.lists(
    st.tuples(st.floats(0, 600_000), st.floats(0, 20_000), st.floats(0, 20_000), st.floats(-1, 1)), max_size=12
)
"""Quiet before it, time to the server, time back, and how fast the clocks part during all that, in parts of DRIFT."""
ROUNDING_MS = 0.01


@settings(max_examples=200)
@given(OBSERVATIONS, st.floats(-1e9, 1e9), st.floats(-999, 999), st.sampled_from([1, 1000]), st.floats(0, 3_600_000))
@example([(0.0, 0.0, 20_000.0, 1.0)], 0.0, 0.0, 1, 0.0)
def test_the_bounds_contain_the_servers_clock_at_every_instant_from_the_last_answer_on(
    observations: list[Observation], offset: float, error: float, precision: int, later: float
) -> None:
    local, server = 0.0, offset + error
    clock = ServerClock.assumed(local, offset)
    for quiet, there, back, drift in observations:
        pace = 1 + drift * DRIFT
        sent, arrived = local + quiet, local + quiet + there
        shown = server + (quiet + there) * pace
        local, server = arrived + back, shown + back * pace
        clock = clock.observed(sent, local, shown // precision * precision, precision)
        assert clock.earliest_ms(local) - ROUNDING_MS <= server <= clock.latest_ms(local) + ROUNDING_MS
    for pace in (1 - DRIFT, 1.0, 1 + DRIFT):
        now, truth = local + later, server + later * pace
        assert clock.earliest_ms(now) - ROUNDING_MS <= truth <= clock.latest_ms(now) + ROUNDING_MS


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 300), st.floats(0, 300)), min_size=2, max_size=20))
def test_more_answers_never_widen_what_is_known_but_for_drift(rounds: list[tuple[float, float, float]]) -> None:
    clock, local = ServerClock.assumed(0.0, 5e8), 0.0
    for quiet, there, back in rounds:
        width = clock.latest_ms(local) - clock.earliest_ms(local)
        sent, local = local + quiet, local + quiet + there + back
        clock = clock.observed(sent, local, sent + there + 5e8, 1)
        passed = quiet + there + back
        assert clock.latest_ms(local) - clock.earliest_ms(local) <= width + 2 * DRIFT * passed + ROUNDING_MS


@given(st.floats(-1e8, 1e8).filter(lambda step: abs(step) > 5000))
def test_a_clock_that_was_stepped_is_believed_again_after_one_answer(step: float) -> None:
    clock = ServerClock.assumed(0.0, 1e9).observed(100, 150, 1e9 + 120, 1)
    stepped = clock.observed(1000, 1050, 1e9 + 1020 + step, 1)
    assert stepped.earliest_ms(1050) <= 1e9 + 1050 + step <= stepped.latest_ms(1050)
    assert stepped.latest_ms(1050) - stepped.earliest_ms(1050) <= 52


def test_an_answer_that_comes_to_hand_late_does_not_make_the_newer_one_older() -> None:
    """Several fetchers report; an event may pass another."""
    newer = ServerClock.assumed(0.0, 0.0).observed(10_000_000, 10_000_010, 10_000_005, 1)
    both = newer.observed(5_000_000, 5_000_010, 5_000_005 - 5_000_005 * DRIFT / 2, 1)
    assert both.earliest_ms(10_000_010) <= 10_000_010 <= both.latest_ms(10_000_010)
    assert both.known_at_ms == 10_000_010


def test_the_best_guess_is_the_middle_of_the_bounds() -> None:
    clock = ServerClock.assumed(500.0, 1_000_500.0)
    assert clock.now_ms(700.0) == 1_000_700
    assert clock.earliest_ms(500.0) == 999_500
    assert clock.latest_ms(500.0) == 1_001_500
