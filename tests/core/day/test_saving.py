"""When the day file is rewritten: what that costs over a day, and how old the file can be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.saving import GROWTH, Stage, Unsaved, is_rewrite_due

SAVE_S = 300.0


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=200))
def test_a_backfill_encodes_each_trade_at_most_two_and_a_half_times(saves: list[int]) -> None:
    """Whatever the checkpoints bring, the rewrites together encode at most 2.5 times the rows of the day."""
    file_rows = journal_rows = encoded = 0
    for rows in saves:
        journal_rows += rows
        if is_rewrite_due(Unsaved(1, journal_rows, 0), file_rows, Stage.BACKFILL, SAVE_S):
            file_rows, journal_rows = file_rows + journal_rows, 0
            encoded += file_rows
    if is_rewrite_due(Unsaved(int(journal_rows > 0), journal_rows, 0), file_rows, Stage.LAST, SAVE_S):
        encoded += file_rows + journal_rows
    assert encoded <= (1 + (GROWTH + 1) / GROWTH) * sum(saves)


@given(st.lists(st.floats(0.1, 120), min_size=1, max_size=100))
def test_the_file_is_never_older_than_save_s_and_one_save(pauses_s: list[float]) -> None:
    """However the saves of a steady day are spaced, what the file lacks is at most SAVE_S and one pause old."""
    oldest_at, now = None, 0.0
    for pause_s in pauses_s:
        now += pause_s
        oldest_at = now if oldest_at is None else oldest_at
        assert now - oldest_at <= SAVE_S + pause_s
        if is_rewrite_due(Unsaved(1, 1, now - oldest_at), 1_000_000, Stage.STEADY, SAVE_S):
            oldest_at = None


@pytest.mark.parametrize(("rows", "age_s"), [(1, 0.0), (10**7, SAVE_S - 1)])
def test_a_steady_day_is_not_rewritten_for_the_number_of_its_new_rows(rows: int, age_s: float) -> None:
    """Between two rewrites a top-up costs the same, however many rows came."""
    assert not is_rewrite_due(Unsaved(1, rows, age_s), 1000, Stage.STEADY, SAVE_S)


def test_the_first_rows_of_a_day_make_its_file_at_once() -> None:
    """Other programs see a day from its first checkpoint on."""
    assert is_rewrite_due(Unsaved(1, 1, 0), 0, Stage.BACKFILL, SAVE_S)


@pytest.mark.parametrize("stage", Stage)
def test_nothing_in_the_journal_needs_no_rewrite(stage: Stage) -> None:
    """Not even at the end, and however old the file is."""
    assert not is_rewrite_due(Unsaved(0, 0, 10 * SAVE_S), 0, stage, SAVE_S)


def test_an_entry_without_rows_is_written_at_the_end() -> None:
    """Proofs and absent ids that came without trades do not stay in the journal."""
    assert is_rewrite_due(Unsaved(1, 0, 0), 1000, Stage.LAST, SAVE_S)
