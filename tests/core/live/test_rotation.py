"""The connections of a group: the new one first, never more than two, never faster than the exchange allows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld.core.live.rotation import (
    CONNECTS,
    CONNECTS_S,
    LONGEST_BACKOFF_S,
    OVERLAP_S,
    RENEW_JITTER_S,
    RENEW_S,
    Close,
    ConnectLimit,
    Open,
    Rotation,
)
from backfilld.core.model import Instrument

URLS = ("wss://first", "wss://second")
BTC, ETH = Instrument.parse("spot:BTCUSDT"), Instrument.parse("spot:ETHUSDT")


def standing(now: float = 0.0) -> Rotation:
    """One with connection 1 open, which has brought BTC and ETH."""
    rotation = Rotation(URLS, ConnectLimit())
    assert rotation.actions(now, 0.5) == [Open(1, "wss://first")]
    rotation.opened(1, now)
    rotation.heard(1, BTC)
    rotation.heard(1, ETH)
    assert rotation.actions(now, 0.5) == []
    return rotation


def test_a_connection_is_renewed_before_a_day_the_new_one_first_and_closed_when_the_new_one_brings_all() -> None:
    rotation = standing()
    renew_at = RENEW_S - RENEW_JITTER_S * 0.5
    assert rotation.due_at(0.0) == renew_at
    assert rotation.actions(renew_at - 1, 0.5) == []
    assert rotation.actions(renew_at, 0.5) == [Open(2, "wss://first")]
    rotation.opened(2, renew_at + 1)
    rotation.heard(1, BTC)
    rotation.heard(1, ETH)
    rotation.heard(2, ETH)
    assert rotation.actions(renew_at + 2, 0.5) == []
    rotation.heard(2, BTC)
    assert rotation.actions(renew_at + 3, 0.5) == [Close(1)]
    assert rotation.numbers == (2,)


def test_a_quiet_instrument_keeps_the_old_connection_open_for_the_overlap_only() -> None:
    rotation = standing()
    rotation.ending(1)
    assert rotation.actions(10.0, 0.5) == [Open(2, "wss://first")]
    rotation.opened(2, 11.0)
    rotation.heard(1, BTC)
    assert rotation.actions(12.0, 0.5) == []
    assert rotation.due_at(12.0) == 11.0 + OVERLAP_S
    assert rotation.actions(11.0 + OVERLAP_S, 0.5) == [Close(1)]


def test_a_connection_that_was_cut_is_replaced_at_once_at_the_same_address() -> None:
    rotation = standing()
    rotation.lost(1, 5.0, 0.5)
    assert rotation.actions(5.1, 0.5) == [Open(2, "wss://first")]


def test_one_that_never_brought_anything_is_tried_later_and_elsewhere() -> None:
    rotation, now, urls = Rotation(URLS, ConnectLimit()), 0.0, []
    waits = []
    for _ in range(10):
        (opened,) = rotation.actions(now, 0.0)
        assert isinstance(opened, Open)
        urls.append(opened.url)
        rotation.lost(opened.number, now, 0.99)
        waits.append(rotation.due_at(now) - now)
        now = rotation.due_at(now)
    assert urls[:4] == ["wss://first", "wss://second", "wss://first", "wss://second"]
    assert waits[0] < 1 < waits[3] < waits[5]
    assert max(waits) <= LONGEST_BACKOFF_S


def test_a_dead_stream_goes_to_the_next_address_and_the_dead_connection_closes_as_soon_as_that_stands() -> None:
    rotation = standing()
    rotation.dead()
    assert rotation.actions(70.0, 0.5) == [Open(2, "wss://second")]
    assert rotation.actions(70.5, 0.5) == []
    rotation.opened(2, 71.0)
    assert rotation.actions(71.0, 0.5) == [Close(1, is_renewal=False)]


def test_losing_the_old_one_during_a_renewal_costs_nothing() -> None:
    rotation = standing()
    rotation.ending(1)
    rotation.actions(10.0, 0.5)
    rotation.opened(2, 11.0)
    rotation.lost(1, 11.5, 0.5)
    assert rotation.numbers == (2,)
    assert rotation.is_open
    assert rotation.actions(12.0, 0.5) == []


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 40), st.sampled_from(["open", "lose", "hear", "end", "dead", "wait"]), st.integers(0, 1)
        ),
        max_size=400,
    )
)
def test_never_more_than_two_and_never_faster_than_allowed(steps: list[tuple[float, str, int]]) -> None:
    rotation, now = Rotation(URLS, ConnectLimit()), 0.0
    connects: list[float] = []
    for wait_s, what, which in steps:
        now += wait_s
        numbers = rotation.numbers
        number = numbers[which % len(numbers)] if numbers else 0
        match what:
            case "open":
                rotation.opened(number, now)
            case "lose":
                rotation.lost(number, now, 0.0)
            case "hear":
                rotation.heard(number, BTC)
            case "end":
                rotation.ending(number)
            case "dead":
                rotation.dead()
        actions = rotation.actions(now, 0.0)
        connects += [now for each in actions if isinstance(each, Open)]
        assert len(rotation.numbers) <= 2
        assert rotation.numbers or rotation.due_at(now) > now
        assert sum(at > now - CONNECTS_S for at in connects) <= CONNECTS
    if steps:
        assert connects


def test_an_outage_of_days_is_survived() -> None:
    rotation, now = Rotation(URLS, ConnectLimit()), 0.0
    for _ in range(3000):
        for action in rotation.actions(now, 0.5):
            assert isinstance(action, Open)
            rotation.lost(action.number, now, 0.5)
        now = rotation.due_at(now)
    assert now < 2 * 86_400, "it is tried every half minute"


def test_connections_that_bring_something_and_end_at_once_leave_one_to_be_had_soon() -> None:
    """A storm spends what the exchange allows evenly: when it is over, nobody waits for minutes."""
    rotation, now, connects = Rotation(URLS, ConnectLimit()), 0.0, list[float]()
    while now < 3600.0:
        for action in rotation.actions(now, 0.5):
            assert isinstance(action, Open)
            connects.append(now)
            rotation.opened(action.number, now)
            rotation.heard(action.number, BTC)
            rotation.lost(action.number, now, 0.5)
        assert rotation.due_at(now) <= now + 3.1
        now = rotation.due_at(now)
    assert all(later - earlier >= CONNECTS_S for earlier, later in zip(connects, connects[CONNECTS:], strict=False))
