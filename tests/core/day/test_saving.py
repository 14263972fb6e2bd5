"""When the day file is rewritten: what that costs over a day, and how old the file can be."""

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.saving import GROWTH, Unsaved, is_rewrite_due

SAVE_S = 300.0


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=200))
def test_a_backfill_encodes_each_trade_at_most_two_and_a_half_times(saves: list[int]) -> None:
    """Whatever the checkpoints bring, the rewrites together, the last one too, encode at most 2.5 times the rows."""
    file_rows = journal_rows = encoded = 0
    for rows in saves:
        journal_rows += rows
        if is_rewrite_due(Unsaved(journal_rows, 0), file_rows, SAVE_S):
            file_rows, journal_rows = file_rows + journal_rows, 0
            encoded += file_rows
    encoded += file_rows + journal_rows if journal_rows else 0
    assert encoded <= (1 + (GROWTH + 1) / GROWTH) * sum(saves)


@given(st.lists(st.floats(0.1, 120), min_size=1, max_size=100))
def test_the_file_is_never_older_than_save_s_and_one_save(pauses_s: list[float]) -> None:
    """However the saves of a day are spaced, what the file lacks is at most SAVE_S and one pause old."""
    oldest_at, now = None, 0.0
    for pause_s in pauses_s:
        now += pause_s
        oldest_at = now if oldest_at is None else oldest_at
        assert now - oldest_at <= SAVE_S + pause_s
        if is_rewrite_due(Unsaved(1, now - oldest_at), 1_000_000, SAVE_S):
            oldest_at = None


def test_a_day_is_not_rewritten_for_a_few_new_rows() -> None:
    """Between two rewrites a top-up costs what is new."""
    assert not is_rewrite_due(Unsaved(300, SAVE_S - 1), 1000, SAVE_S)


def test_the_first_rows_of_a_day_make_its_file_at_once() -> None:
    """Other programs see a day from its first checkpoint on."""
    assert is_rewrite_due(Unsaved(1, 0), 0, SAVE_S)
