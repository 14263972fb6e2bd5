"""When the day file is rewritten: what that costs over a day, how old the file can be, and whose turn it is."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.saving import GROWTH, REWRITE_SHARE, has_grown, is_rewrite_due, next_rewrite_at, turn_of

SAVE_S = 300.0


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=200))
def test_a_backfill_encodes_each_trade_at_most_two_and_a_half_times(saves: list[int]) -> None:
    """Whatever the checkpoints bring, the rewrites together, the last one too, encode at most 2.5 times the rows."""
    file_rows = journal_rows = encoded = 0
    for rows in saves:
        journal_rows += rows
        if is_rewrite_due(file_rows, SAVE_S) or has_grown(journal_rows, file_rows):
            file_rows, journal_rows = file_rows + journal_rows, 0
            encoded += file_rows
    encoded += file_rows + journal_rows if journal_rows else 0
    assert encoded <= (1 + (GROWTH + 1) / GROWTH) * sum(saves)


@given(st.text(), st.floats(0, 1e7), st.floats(0, 1e5))
def test_a_turn_comes_before_the_file_is_save_s_old_and_not_too_early(name: str, since_s: float, save_s: float) -> None:
    turn_s = turn_of(name, since_s, save_s)
    assert since_s + save_s / 2 - 1e-6 <= turn_s <= since_s + save_s


@given(st.text(), st.floats(0, 1e7), st.floats(0.1, 140))
def test_an_instrument_keeps_its_place_however_late_its_next_row_comes(
    name: str, since_s: float, pause_s: float
) -> None:
    """So that those that once took turns go on to; and it costs no more than a rewrite in save_s."""
    turn_s = turn_of(name, since_s, SAVE_S)
    assert turn_of(name, turn_s + pause_s, SAVE_S) == pytest.approx(turn_s + SAVE_S)


def test_hundreds_that_began_together_take_turns() -> None:
    turns = [turn_of(f"spot:S{number}USDT", 1234.5, SAVE_S) for number in range(300)]
    a_checkpoint = Counter(int(turn_s // 10) for turn_s in turns)
    assert max(a_checkpoint.values()) <= 40, "of 20 on average"


@given(st.lists(st.floats(0.001, 30), min_size=1))
def test_while_saves_wait_rewrites_take_a_tenth_of_the_time(rewrites_s: list[float]) -> None:
    now = 0.0
    for rewrite_s in rewrites_s:
        now = next_rewrite_at(now, now + rewrite_s)
    assert sum(rewrites_s) == pytest.approx(REWRITE_SHARE * now)


def test_a_day_is_not_rewritten_for_a_few_new_rows() -> None:
    """Between two rewrites a top-up costs what is new."""
    assert not is_rewrite_due(1000, SAVE_S)
    assert not has_grown(300, 1000)


def test_the_first_rows_of_a_day_make_its_file_at_once() -> None:
    """Other programs see a day from its first checkpoint on."""
    assert is_rewrite_due(0, SAVE_S)
