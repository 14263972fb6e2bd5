"""What others will still use of a window: enough for what they do, and not for ever after what they did."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.weight.foreign_usage import ForeignUsage

INTERVAL_MS = 60_000
FIRST = 1000
"""The number of the first window that is looked at."""
STALE_PART = 0.1
LAST_PART = 0.25
WINDOWS_REMEMBERED = 10
PARTS = st.floats(0, 1, exclude_max=True)


def at(window: float) -> float:
    """The instant at which so many windows have passed."""
    return window * INTERVAL_MS


def watched(totals: dict[int, float], *, first: int = FIRST, last: int | None = None) -> ForeignUsage:
    """Every window was looked at in its first moment and in its last, and ``totals`` used in between."""
    others = ForeignUsage(INTERVAL_MS)
    for number in range(first, (max(totals) if last is None else last) + 1):
        others.saw(number, 0, at(number))
        others.saw(number, totals.get(number, 0), at(number + 1) - 1)
    return others


# -- a steady neighbour


@given(st.integers(10, 5000), st.integers(1, 4), st.lists(PARTS, min_size=1, max_size=6), PARTS)
def test_of_steady_use_what_was_seen_and_what_is_expected_are_the_windows_whole(
    total: int, windows: int, looks: list[float], now: float
) -> None:
    """However often it is looked at, and from the first window that was watched from its start on."""
    others = ForeignUsage(INTERVAL_MS)
    others.saw(FIRST, 0, at(FIRST))
    for number in range(FIRST, FIRST + windows):
        others.saw(number, 0, at(number))
        for part in sorted(looks):
            others.saw(number, total * part, at(number + part))
        others.saw(number, total, at(number + 1))
    number = FIRST + windows
    others.saw(number, total * now, at(number + now))
    whole = others.seen(number) + others.expected(number, at(number + now))
    assert total - 2 <= whole <= total + 2


@given(st.integers(100, 5000), PARTS, st.lists(st.floats(0, 1), min_size=2, max_size=10))
def test_what_is_reserved_stands_for_a_tenth_of_a_window_and_then_shrinks_until_somebody_looks(
    total: int, look: float, later: list[float]
) -> None:
    others = watched({FIRST: total, FIRST + 1: total})
    number = FIRST + 2
    others.saw(number, total * look, at(number + look))
    reserved = others.expected(number, at(number + look))
    stale = look + STALE_PART
    expected = [others.expected(number, at(number + part)) for part in sorted(later) if part >= look]
    assert all(after <= before for before, after in pairwise([reserved, *expected]))
    for part in sorted(later):
        if look <= part <= min(stale, 1 - LAST_PART):
            assert others.expected(number, at(number + part)) >= reserved - 1
    if stale < 1:
        assert others.expected(number, at(number + 1)) == pytest.approx(total * STALE_PART, abs=1.5)


@given(st.integers(100, 5000), PARTS)
def test_a_window_that_has_not_begun_is_expected_to_be_like_the_last(total: int, now: float) -> None:
    others = watched({FIRST: total, FIRST + 1: total})
    assert others.expected(FIRST + 2, at(FIRST + 1 + now)) == pytest.approx(total, abs=2)


# -- bursts


@given(st.integers(100, 5000), st.integers(1, WINDOWS_REMEMBERED + 3), PARTS)
def test_a_burst_is_expected_again_for_ten_windows(burst: int, ago: int, now: float) -> None:
    """Whole until the last quarter of a window, then less and less; and after ten windows no more."""
    others = watched({FIRST + 2: burst}, last=FIRST + 2 + ago - 1)
    number = FIRST + 2 + ago
    others.saw(number, 0, at(number))
    expected = others.expected(number, at(number + now))
    if ago > WINDOWS_REMEMBERED:
        assert expected == 0
        return
    assert expected >= int(burst * min(1.0, (1 - now) / LAST_PART))
    if ago > 2:
        # Two windows ago or less it is a rate as well.
        assert expected <= burst * min(1.0, (1 - now) / LAST_PART) + 1


@given(st.integers(100, 5000), st.integers(4, 9), st.floats(0, 1))
def test_of_a_burst_that_has_come_only_the_rest_is_expected(burst: int, ago: int, came: float) -> None:
    others = watched({FIRST: burst}, last=FIRST + ago - 1)
    number = FIRST + ago
    others.saw(number, 0, at(number))
    others.saw(number, burst * came, at(number + 0.7))
    rest = burst * (1 - came)
    at_their_rate = burst * came / 1.7 * 0.3
    assert others.expected(number, at(number + 0.7)) == pytest.approx(max(rest, at_their_rate), abs=2)


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_of_several_bursts_the_largest_is_expected(one: int, other: int) -> None:
    others = watched({FIRST: one, FIRST + 3: other}, last=FIRST + 7)
    others.saw(FIRST + 8, 0, at(FIRST + 8))
    assert others.expected(FIRST + 8, at(FIRST + 8)) == max(one, other)


# -- what counts as seen


@given(st.lists(st.tuples(st.integers(FIRST, FIRST + 3), st.floats(-500, 5000), PARTS), min_size=1))
def test_what_was_seen_of_the_newest_window_never_falls_and_no_other_window_is_known(
    looks: list[tuple[int, float, float]],
) -> None:
    """Answers come in any order, and a count of ours may be ahead of the server's."""
    others = ForeignUsage(INTERVAL_MS)
    newest, most = 0, 0.0
    for number, used, part in looks:
        others.saw(number, used, at(number + part))
        most = max(most if number <= newest else 0.0, used if number >= newest else 0.0)
        newest = max(newest, number)
        assert others.seen(newest) == int(most)
        assert others.seen(newest - 1) == others.seen(newest + 1) == 0
        assert others.expected(newest - 1, at(newest)) == 0
        assert others.expected(newest, at(newest + part)) >= 0


@given(st.integers(0, 5000), PARTS, PARTS)
def test_what_was_used_before_our_first_look_is_known_but_not_expected_again(
    used: int, first: float, now: float
) -> None:
    """It may be our own, of a process that is gone."""
    others = ForeignUsage(INTERVAL_MS)
    others.saw(FIRST, used, at(FIRST + first))
    assert others.seen(FIRST) == used
    assert others.expected(FIRST, at(FIRST + max(first, now))) == 0
    others.saw(FIRST, used, at(FIRST + 1) - 1)
    others.saw(FIRST + 1, 0, at(FIRST + 1))
    assert others.expected(FIRST + 1, at(FIRST + 1)) == 0


@given(st.integers(100, 5000), st.floats(STALE_PART + 0.01, 0.99))
def test_a_window_that_was_watched_in_part_counts_as_if_it_had_gone_on_so(used: int, watched_part: float) -> None:
    others = ForeignUsage(INTERVAL_MS)
    others.saw(FIRST, 0, at(FIRST))
    others.saw(FIRST, used, at(FIRST + watched_part))
    others.saw(FIRST + 1, 0, at(FIRST + 1))
    assert others.expected(FIRST + 1, at(FIRST + 1)) == pytest.approx(used / watched_part, abs=1)


@given(st.integers(100, 5000), st.floats(0, STALE_PART - 0.01))
def test_a_window_that_was_hardly_watched_counts_as_if_that_were_the_least_that_tells(
    used: int, watched_part: float
) -> None:
    """A burst in its first moment would count for a hundred of them; and one that spends all at once sees no more."""
    others = ForeignUsage(INTERVAL_MS)
    others.saw(FIRST, 0, at(FIRST))
    others.saw(FIRST, used, at(FIRST + watched_part))
    others.saw(FIRST + 1, 0, at(FIRST + 1))
    assert others.expected(FIRST + 1, at(FIRST + 1)) == pytest.approx(used / STALE_PART, abs=1)


def test_before_the_first_look_nothing_is_known_nor_expected() -> None:
    others = ForeignUsage(INTERVAL_MS)
    assert others.seen(FIRST) == others.expected(FIRST, at(FIRST)) == 0


@given(st.integers(1, 5000), st.floats(0.0001, STALE_PART))
def test_what_comes_in_the_first_moments_is_not_taken_for_more_than_ten_times_itself(used: int, look: float) -> None:
    others = ForeignUsage(INTERVAL_MS)
    others.saw(FIRST, 0, at(FIRST))
    others.saw(FIRST, used, at(FIRST + look))
    assert others.expected(FIRST, at(FIRST + look)) <= used / STALE_PART + 1


@given(st.integers(100, 5000), st.integers(WINDOWS_REMEMBERED + 2, 1000))
def test_what_was_done_long_ago_is_not_expected_though_nobody_has_looked_since(total: int, ago: int) -> None:
    """A daemon that is topped up seldom, or has slept."""
    others = watched({FIRST: total, FIRST + 1: total})
    number = FIRST + 1 + ago
    others.saw(number, 0, at(number))
    assert others.expected(number, at(number)) == 0


# -- what is kept to look with


@given(st.integers(0, 6000), st.integers(1, 40), st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=10))
def test_a_twentieth_at_most_is_kept_to_look_with_and_given_out_in_whole_requests(
    allowed: int, cost: int, parts: list[float]
) -> None:
    """All of it in time to be used: nothing is kept in the last tenth of a window, nor ever held back again."""
    others = ForeignUsage(INTERVAL_MS)
    kept = [others.kept_to_look(FIRST, at(FIRST + part), allowed, cost) for part in sorted(parts)]
    assert all(after <= before for before, after in pairwise(kept))
    assert all(each % cost == 0 and 0 <= each <= allowed / 20 for each in kept)
    assert others.kept_to_look(FIRST, at(FIRST), allowed, cost) > allowed / 20 - cost - 1
    assert others.kept_to_look(FIRST, at(FIRST + 0.9), allowed, cost) == 0
