"""When quiet instruments are asked again: each ever more rarely, and all of them evenly over the time."""

from collections import Counter

import pytest

from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, Market
from backfilld.core.sync.rests import LONG_SILENCE_S, LONGEST_REST_S, phase_of, rest_s, rests_until
from backfilld.core.weight.weights import Endpoint

POLL_S = 30.0
NAMES = [Instrument(Market.SPOT, f"COIN{number}USDT") for number in range(500)]
WEIGHT = RULES[Market.SPOT].weights[Endpoint.TRADES]
MOST_A_MINUTE = 1_200
ROUND_S = 0.05
STARTED_S = 7_654_321.1
"""By a clock that has run for a while."""


def test_a_quiet_instrument_rests_longer_and_longer_and_never_beyond_the_bound() -> None:
    assert [rest_s(POLL_S, quiet) for quiet in range(6)] == [30.0, 60.0, 120.0, 240.0, LONGEST_REST_S, LONGEST_REST_S]
    assert rest_s(600.0, 3) == 600.0


def test_after_a_long_silence_it_rests_long_sooner_and_not_before_a_round_that_brought_nothing() -> None:
    assert [rest_s(POLL_S, quiet, LONG_SILENCE_S) for quiet in range(4)] == [
        30.0,
        240.0,
        LONGEST_REST_S,
        LONGEST_REST_S,
    ]
    assert [rest_s(POLL_S, quiet, LONG_SILENCE_S - 1) for quiet in range(3)] == [30.0, 60.0, 120.0]


@pytest.mark.parametrize("quiet", range(6))
@pytest.mark.parametrize("round_s", [0.0, ROUND_S, 7.0])
def test_a_rest_ends_between_a_poll_and_its_length_and_then_keeps_its_pace(quiet: int, round_s: float) -> None:
    rest = rest_s(POLL_S, quiet)
    for name in NAMES[:50]:
        began_s, taken = STARTED_S, []
        for _ in range(8):
            ends_s = rests_until(began_s, POLL_S, rest, phase_of(name))
            taken.append(ends_s - began_s)
            began_s = ends_s + round_s
        assert all(POLL_S - 1e-6 <= each <= rest + 1e-6 for each in taken)
        # The first ones may have begun after their phase.
        assert taken[-3:] == pytest.approx([max(POLL_S, rest - round_s * (quiet > 0))] * 3)


def weights_by_minute(span_s: float, silent_s: float, minutes: int) -> list[int]:
    """What all ask after a first round that ended within ``span_s`` of each other, and brings nothing from then on."""
    spent = Counter[int]()
    for number, name in enumerate(NAMES):
        now_s = began_s = span_s * number / len(NAMES)
        quiet = 0
        while now_s < minutes * 60:
            spent[int(now_s // 60)] += WEIGHT * (quiet > 0)
            rest = rest_s(POLL_S, quiet, silent_s + now_s - began_s)
            now_s = rests_until(STARTED_S + now_s + ROUND_S, POLL_S, rest, phase_of(name)) - STARTED_S
            quiet += 1
    return [spent[minute] for minute in range(minutes)]


@pytest.mark.parametrize("span_s", [0.0, 80.0, 400.0])
@pytest.mark.parametrize(("silent_s", "settled_min"), [(0.0, 8), (3600.0, 5)])
def test_five_hundred_quiet_instruments_take_little_weight_in_each_minute(
    span_s: float, silent_s: float, settled_min: int
) -> None:
    spent = weights_by_minute(span_s, silent_s, 60)
    assert max(spent[settled_min:]) <= MOST_A_MINUTE
    settled = spent[15:]
    even = WEIGHT * len(NAMES) * 60 / LONGEST_REST_S
    assert 0.85 * even <= min(settled) <= max(settled) <= 1.15 * even
