"""Laws of the sequence: whatever a stream does to its trades, each goes out once, by id, and nothing past a hole."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.live.sequence import FARTHEST_AHEAD, Sequence
from backfilld.core.live.trades import LiveTrade, frame_of, is_plausible, neighbour_of, trades_of
from backfilld.core.model import IdRange


def trade(trade_id: int, **changed: object) -> LiveTrade:
    values = {"T": 1_767_225_600_000 + trade_id, "a": trade_id, "p": 1.5, "q": 2.0, "f": trade_id, "l": trade_id}
    return LiveTrade(**(values | {"m": False} | changed))  # type: ignore[arg-type]


def ids(trades: list[LiveTrade]) -> list[int]:
    return [each.a for each in trades]


@given(st.integers(0, 2**32), st.integers(1, 300), st.floats(0, 0.5), st.floats(0, 0.5), st.integers(1, 40))
def test_a_stream_that_drops_doubles_and_shuffles_comes_out_once_and_by_id_with_pages_for_its_holes(
    seed: int, rows: int, dropped: float, doubled: float, farthest: int
) -> None:
    dice = random.Random(seed)
    sent = [each for each in range(rows) if dice.random() >= dropped]
    sent += [each for each in sent if dice.random() < doubled]
    sent.sort(key=lambda each: each + dice.random() * farthest)
    sequence, out = Sequence(0), []
    for now, each in enumerate(sent):
        ready = sequence.take([trade(each)], float(now))
        out += ids(ready)
        assert out == list(range(len(out))), "nothing goes out past a hole"
        if dice.random() < 0.1 and sequence.hole is not None and sequence.next_id is not None:
            page = range(sequence.next_id, min(rows, sequence.next_id + dice.randint(1, 50)))
            out += ids(sequence.take([trade(asked) for asked in page], float(now)))
    while sequence.hole is not None:
        out += ids(sequence.take([trade(each) for each in range(sequence.hole.first_id, rows)], 1e9))
    highest = max(sent, default=-1)
    assert out[: highest + 1] == list(range(highest + 1))
    assert sequence.waiting == 0


def test_the_clock_of_a_hole_is_absolute_from_its_first_sight() -> None:
    sequence = Sequence(5)
    assert sequence.take([trade(8)], 1.0) == []
    for now in range(2, 50):
        sequence.take([trade(8 + now)], float(now))
    assert sequence.hole == IdRange(5, 7)
    assert sequence.hole_since == 1.0
    assert ids(sequence.take([trade(5), trade(6), trade(7)], 60.0)) == [5, 6, 7, 8]
    assert sequence.hole == IdRange(9, 9)
    assert sequence.hole_since == 2.0


def test_giving_up_goes_on_behind_the_hole() -> None:
    sequence = Sequence(5)
    sequence.take([trade(7), trade(8), trade(10)], 1.0)
    hole, ready = sequence.give_up()
    assert (hole, ids(ready)) == (IdRange(5, 6), [7, 8])
    assert sequence.hole == IdRange(9, 9)
    with pytest.raises(ValueError, match="no hole"):
        Sequence(5).give_up()


def test_early_trades_are_bounded_and_what_was_dropped_is_part_of_the_hole() -> None:
    sequence = Sequence(0, most_early=10)
    sequence.take([trade(each) for each in range(1, 100)], 1.0)
    assert sequence.waiting == 10
    assert sequence.tally.dropped == 89
    assert ids(sequence.take([trade(0)], 2.0)) == list(range(11))
    assert sequence.hole == IdRange(11, 99)
    assert sequence.hole_since == 1.0
    assert ids(sequence.take([trade(each) for each in range(11, 100)], 3.0)) == list(range(11, 100))
    assert sequence.hole is None
    assert sequence.hole_since is None


def test_before_the_beginning_is_known_the_newest_wait_and_then_go_out_from_there() -> None:
    sequence = Sequence(most_early=4)
    assert sequence.take([trade(each) for each in range(10)], 1.0) == []
    assert sequence.waiting == 4
    assert ids(sequence.begin(7)) == [7, 8, 9]
    assert sequence.hole is None
    late = Sequence()
    late.take([trade(3), trade(FARTHEST_AHEAD * 9)], 1.0)
    assert late.begin(5) == []
    assert late.hole is None


def test_an_impossible_id_and_a_duplicate_change_nothing() -> None:
    sequence = Sequence(5)
    assert sequence.take([trade(5 + FARTHEST_AHEAD + 1), trade(4), trade(6), trade(6)], 1.0) == []
    assert (sequence.tally.implausible, sequence.tally.duplicates, sequence.waiting) == (1, 2, 1)


def test_ids_that_rest_shows_beyond_make_a_hole() -> None:
    sequence = Sequence(5)
    sequence.expect(5, 1.0)
    assert sequence.hole is None
    sequence.expect(9, 2.0)
    assert sequence.hole == IdRange(5, 8)
    assert sequence.hole_since == 2.0
    assert sequence.give_up() == (IdRange(5, 8), [])
    assert sequence.next_id == 9


HOUR_MS = 3_600_000


@given(st.integers(0, 2**32), st.floats(0, 0.9), st.integers(1, 60))
def test_trades_that_cannot_stand_where_their_ids_are_never_go_out_and_rest_brings_the_true_ones(
    seed: int, wrong: float, farthest: int
) -> None:
    """The rows of another hour, day or symbol, early or late; REST has all of the tape."""
    dice, tape = random.Random(seed), [trade(each) for each in range(200)]
    lies: list[dict[str, object]] = [
        {"T": tape[0].T - HOUR_MS}, {"T": tape[0].T + HOUR_MS}, {"p": 60.0, "f": 9**9, "l": 9**9}, {"f": 0, "l": 0},
        {"p": 0.0, "q": 0.0, "f": -1, "l": -1},
    ]  # fmt: skip
    sequence, out = Sequence(), list[LiveTrade]()
    out += sequence.begin(50, neighbour_of(tape[49]))
    sent = sorted(tape[50:], key=lambda each: each.a + dice.random() * farthest)
    for now, each in enumerate(sent):
        told = trade(each.a, **dice.choice(lies)) if dice.random() < wrong else each
        out += sequence.take([told], float(now), latest_ms=tape[-1].T + 1000)
        if dice.random() < 0.1 and sequence.next_id is not None:
            out += sequence.fill(tape[sequence.next_id : sequence.next_id + dice.randint(1, 50)], float(now))
    out += sequence.fill(tape[50 + len(out) :], 1e9)
    assert out == tape[50:]
    assert sequence.hole is None


def test_an_exchange_whose_own_pages_break_the_rule_is_followed_by_its_stream_all_the_same() -> None:
    """All trades name the same fills. A stream alone cannot switch the rule off."""
    tape = [trade(each, f=7, l=7) for each in range(20)]
    sequence = Sequence(0)
    for each in tape[1:5]:
        assert sequence.take([each, trade(each.a, f=0, l=0)], 1.0) == []
    assert sequence.fill(tape[:1], 2.0) == tape[:1]
    assert sequence.take(tape[1:6], 3.0) == []
    assert sequence.fill(tape[1:6], 4.0) == tape[1:6]
    assert sequence.take(tape[6:], 5.0) == tape[6:]


def test_a_stream_does_not_switch_the_rule_off_by_trades_after_which_those_of_rest_cannot_come() -> None:
    sequence, tape = Sequence(0), [trade(each) for each in range(20)]
    for at in range(0, 10, 2):
        assert len(sequence.take([trade(at, l=10**9)], 1.0)) == 1
        assert sequence.fill(tape[at + 1 : at + 2], 2.0) == tape[at + 1 : at + 2]
    assert sequence.take([trade(10, f=0, l=0)], 3.0) == []


def test_what_rest_brings_goes_before_what_the_stream_has_brought_of_the_same_ids() -> None:
    sequence = Sequence(5)
    sequence.take([trade(6, p=1.6), trade(7, p=1.7), trade(8)], 1.0)
    assert sequence.fill([trade(5), trade(6), trade(7)], 2.0) == [trade(each) for each in (5, 6, 7, 8)]


def test_trades_become_frames_and_come_back() -> None:
    trades = [trade(each, M=each % 2 == 0) for each in (3, 4, 7)]
    assert trades_of(frame_of(trades)) == trades


@pytest.mark.parametrize(
    "changed",
    [
        {"p": float("nan")}, {"p": float("inf")}, {"p": -1.0}, {"p": 0.0}, {"q": -1.0}, {"q": float("nan")},
        {"f": 9}, {"f": -1}, {"T": 1_767_225_600}, {"a": -1}, {"l": 2**63}, {"a": 2**53 + 1, "l": 2**54},
    ],
)  # fmt: skip
def test_a_trade_that_cannot_be_is_known(changed: dict[str, object]) -> None:
    assert is_plausible(trade(5))
    assert is_plausible(trade(5, p=0.0, q=0.0, f=-1, l=-1))
    assert not is_plausible(trade(5, **changed))
