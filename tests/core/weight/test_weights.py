"""What headers teach of the weight of a request, and what they must not be taken to teach."""

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backfilld.core.markets import RULES
from backfilld.core.model import Market
from backfilld.core.weight.weights import LESSONS, Endpoint, WeightTable

SPOT = RULES[Market.SPOT].weights
WEIGHTS = st.integers(1, 40)


def table(learned: dict[str, int] | None = None) -> WeightTable:
    return WeightTable(SPOT, learned)


def reports(kinds: list[str], weights: dict[str, int], others: list[int]) -> list[tuple[int, str]]:
    """The counts that a server reports: each request its weight, after what ``others`` used before it."""
    used, seen = 0, []
    for kind, theirs in zip(kinds, others, strict=True):
        used += theirs + weights[kind]
        seen.append((used, kind))
    return seen


def teach(taught: WeightTable, seen: list[tuple[int, str]], window: object = 1) -> list[bool]:
    return [taught.reported(window, used, kind) for used, kind in seen]


KINDS = st.lists(st.sampled_from([str(kind) for kind in Endpoint]), min_size=20, max_size=60)


@given(KINDS, st.integers(0, 2**16))
def test_while_the_documented_weights_are_true_a_quiet_window_teaches_nothing(kinds: list[str], seed: int) -> None:
    """Endpoints mixed, answers in any order."""
    seen = reports(kinds, dict(SPOT), [0] * len(kinds))
    Random(seed).shuffle(seen)
    learner = table()
    assert not any(teach(learner, seen))
    assert not learner.learned


@given(
    st.lists(st.integers(0, 30) | st.sampled_from([3, 7]), min_size=2, max_size=80),
    st.integers(0, 2**16),
    st.integers(4, 12),
)
@example([7] * (2 * LESSONS - 1), 1, 4)
def test_no_more_is_learned_than_the_least_that_was_seen_between_two_requests(
    others: list[int], seed: int, weight: int
) -> None:
    """The smallest step bounds the weight from above: with one undisturbed pair, no neighbour can raise it."""
    kind = Endpoint.TRADES
    undisturbed = [min(others), 0, *others]
    seen = reports([kind] * len(undisturbed), {kind: weight}, undisturbed)
    first_two, rest = seen[:2], seen[2:]
    Random(seed).shuffle(rest)
    learner = table()
    teach(learner, first_two + rest)
    assert learner[kind] <= max(weight, SPOT[kind])


@given(st.integers(1, 60), st.integers(0, 2**16))
def test_a_larger_weight_is_learned_exactly_from_so_many_steps_in_any_order(weight: int, seed: int) -> None:
    kind = Endpoint.TRADES
    seen = reports([kind] * (LESSONS + 1), {kind: weight}, [0] * (LESSONS + 1))
    Random(seed).shuffle(seen)
    learner = table()
    news = teach(learner, seen)
    assert learner[kind] == max(weight, SPOT[kind])
    assert news == [False] * LESSONS + [weight > SPOT[kind]], "it is reported once, when it is learned"


def test_one_step_fewer_teaches_nothing() -> None:
    learner = table()
    kind = Endpoint.TRADES
    assert not any(teach(learner, reports([kind] * LESSONS, {kind: 8}, [0] * LESSONS)))
    assert learner[kind] == SPOT[kind]


@given(st.lists(st.integers(1, 30), min_size=LESSONS, max_size=60).filter(lambda theirs: min(theirs) < max(theirs)))
def test_steps_that_differ_teach_nothing_until_the_smallest_has_come_often(theirs: list[int]) -> None:
    """A neighbour that always uses something makes each step too large, but not each the same."""
    kind = Endpoint.TRADES
    learner = table()
    teach(learner, reports([kind] * (len(theirs) + 1), {kind: SPOT[kind]}, [0, *theirs]))
    steps = [SPOT[kind] + each for each in theirs]
    assert learner[kind] in {SPOT[kind], *(step for step in set(steps) if steps.count(step) >= LESSONS)}


@given(st.integers(2, 40))
def test_windows_are_not_mixed(count: int) -> None:
    """The counts of two windows lie anywhere to each other: their differences say nothing."""
    learner = table()
    for number in range(count):
        assert not learner.reported(number, number * 9, Endpoint.TRADES)
    assert not learner.learned


@given(WEIGHTS, st.integers(0, 2**16))
def test_the_weight_of_one_endpoint_is_not_learned_for_another(weight: int, seed: int) -> None:
    """A step is due to the later of the two requests."""
    random = Random(seed)
    kinds = [str(random.choice(list(Endpoint))) for _ in range(20 * LESSONS)] + [str(Endpoint.TRADES)]
    learner = table()
    teach(learner, reports(kinds, {Endpoint.TRADES: weight, Endpoint.INFO: SPOT[Endpoint.INFO]}, [0] * len(kinds)))
    assert learner[Endpoint.INFO] == SPOT[Endpoint.INFO]
    assert learner[Endpoint.TRADES] == max(weight, SPOT[Endpoint.TRADES])


@given(st.dictionaries(st.sampled_from(["aggTrades", "exchangeInfo"]), st.integers(1, 60)))
def test_what_was_learned_before_is_kept_where_it_is_larger_than_documented(learned: dict[str, int]) -> None:
    taught = table(learned)
    for kind in Endpoint:
        assert taught[kind] == max(SPOT[kind], learned.get(kind, 0))
    assert all(weight > SPOT[kind] for kind, weight in taught.learned.items())


def test_what_was_learned_can_grow_and_be_unlearned() -> None:
    kind = Endpoint.TRADES
    learner = table({kind: 8})
    teach(learner, reports([kind] * (LESSONS + 1), {kind: 12}, [0] * (LESSONS + 1)))
    assert learner[kind] == 12
    assert learner.unlearn()
    assert learner[kind] == SPOT[kind]
    assert not learner.unlearn(), "there was nothing left to unlearn"


@pytest.mark.parametrize("market", Market)
def test_every_market_documents_every_endpoint(market: Market) -> None:
    assert RULES[market].weights.keys() == set(Endpoint)
    assert WeightTable(RULES[market].weights)["never heard of"] == 1
