"""Days whose rows wait in a journal: read together with the file, every row once, whatever a crash left of the two."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import backfilld
from backfilld.core.day.absences import NO_ABSENCES, AbsentIds
from backfilld.core.day.addition import Addition
from backfilld.core.day.certificate import STREAM
from backfilld.core.day.saving import LEAST_GROWTH_ROWS, turn_of
from backfilld.core.day.start import DayStart
from backfilld.core.frame import empty_trades
from backfilld.core.model import IdRange, Instrument
from backfilld.services.day_statuses import day_status
from backfilld.store.layout import instrument_directory, stamp_of
from backfilld.store.manager import Appended, BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.effort import effort
from tests.store.frames import DAY, day_frame

NEXT = DAY + timedelta(days=1)
SAVE_S = 300.0
BTC = Instrument.parse("spot:BTCUSDT")


@pytest.fixture
def manager(tmp_path: Path) -> BackfillCacheManager:
    """The days of one instrument in a cache."""
    return BackfillCacheManager(instrument_directory(tmp_path, BTC), BTC)


def appended(
    waiting: WaitingDays,
    manager: BackfillCacheManager,
    ids: range,
    now_s: float = 0.0,
    absence: AbsentIds = NO_ABSENCES,
) -> Appended:
    """Save rows with these ids."""
    return waiting.append(manager, Addition(BTC, DAY, day_frame(ids), absence=absence), now_s)


def assert_has(manager: BackfillCacheManager, ids: list[int]) -> None:
    """Every reader sees exactly these rows, each once and by id."""
    expected = day_frame(ids)
    certificate = manager.facts(DAY)
    assert certificate.rows == len(ids)
    assert_frame_equal(pl.concat([empty_trades(), *manager.row_groups(DAY)]), expected)
    found = manager.load_cached_trades(DAY)
    assert found is not None
    assert_frame_equal(found, expected)
    with pytest.warns(backfilld.IncompleteSpan):
        frame = backfilld.scan(BTC, DAY, DAY.replace(day=DAY.day + 1), cache_dir=root(manager), incomplete="warn")
    assert_frame_equal(frame.collect(), expected)
    assert frame.select(pl.len()).collect().item() == len(ids)
    assert frame.filter(pl.col("a") == ids[-1]).select("a").collect()["a"].to_list() == ids[-1:]


def root(manager: BackfillCacheManager) -> Path:
    """The cache of the manager."""
    return manager.directory.parent.parent


@contextmanager
def crash_before_the_journal_was_removed(manager: BackfillCacheManager) -> Iterator[None]:
    """What the block rewrites, and the journal as it was before."""
    path = manager.journal_path(DAY)
    body = path.read_bytes() if path.exists() else None
    yield
    if body is not None:
        path.write_bytes(body)


def test_a_top_up_leaves_the_file_alone_and_every_reader_sees_it(manager: BackfillCacheManager) -> None:
    """Between two rewrites only the journal grows."""
    waiting = WaitingDays(SAVE_S)
    assert not appended(waiting, manager, range(1000, 2000)).is_in_journal
    before = manager.get_cache_path(DAY).read_bytes()
    for start in (2000, 2100, 2200):
        saved = appended(waiting, manager, range(start, start + 100), now_s=1.0)
        assert saved.is_in_journal
        assert saved.record == manager.facts(DAY)
    assert manager.get_cache_path(DAY).read_bytes() == before
    assert_has(manager, [*range(1000, 2300)])
    assert waiting.due_at() == {(BTC, DAY): turn_of(str(BTC), 1.0, SAVE_S)}


def test_a_hole_is_filled_out_of_the_journal(manager: BackfillCacheManager) -> None:
    """Rows that come late stand at their place."""
    waiting = WaitingDays(SAVE_S)
    appended(waiting, manager, range(1000, 2000, 2))
    appended(waiting, manager, range(1001, 1101, 2))
    assert_has(manager, sorted([*range(1000, 2000, 2), *range(1001, 1101, 2)]))


def test_an_append_never_waits_for_a_rewrite_whose_turn_has_come(manager: BackfillCacheManager) -> None:
    """The writer rewrites it when nothing else waits; nothing is in the journal then."""
    waiting = WaitingDays(SAVE_S)
    appended(waiting, manager, range(1000, 2000))
    appended(waiting, manager, range(2000, 2010), now_s=10.0)
    assert appended(waiting, manager, range(2010, 2020), now_s=20.0 + SAVE_S).is_in_journal
    assert waiting.due_at() == {(BTC, DAY): turn_of(str(BTC), 10.0, SAVE_S)}
    waiting.save(manager, Addition(BTC, DAY))
    assert not manager.journal_path(DAY).exists()
    assert waiting.due_at() == {}
    assert_has(manager, [*range(1000, 2020)])


def test_nor_for_that_of_a_journal_that_has_grown(manager: BackfillCacheManager) -> None:
    """Hundreds of instruments grow alike after a midnight, when their files are short."""
    waiting, grown_id = WaitingDays(SAVE_S), 1100 + LEAST_GROWTH_ROWS
    appended(waiting, manager, range(1000, 1100))
    assert appended(waiting, manager, range(1100, grown_id - 1), now_s=7.0).is_in_journal
    assert waiting.due_at()[BTC, DAY] > 7.0 + SAVE_S / 2
    assert appended(waiting, manager, range(grown_id - 1, grown_id), now_s=14.0).is_in_journal
    assert waiting.due_at()[BTC, DAY] == 14.0


def test_rows_that_are_stored_already_are_compared(manager: BackfillCacheManager) -> None:
    """A conflict is found with the save that brings it, not with a later rewrite."""
    waiting = WaitingDays(SAVE_S)
    appended(waiting, manager, range(1000, 2000))
    appended(waiting, manager, range(2000, 2010))
    other = day_frame(range(2005, 2015)).with_columns(p=pl.lit(999.0))
    saved = waiting.append(manager, Addition(BTC, DAY, other), 1.0)
    assert saved.conflicts["a"].to_list() == [*range(2005, 2010)]
    assert saved.record.conflicting == (IdRange(2005, 2009),)


def test_notes_come_into_the_certificate(manager: BackfillCacheManager) -> None:
    """Absent ids and the source of rows survive a restart before any rewrite, and the rewrite."""
    waiting = WaitingDays(SAVE_S)
    appended(waiting, manager, range(1000, 2000))
    appended(waiting, manager, range(2001, 2005), absence=AbsentIds(absent=(IdRange(2000, 2000),)))
    waiting.append(manager, Addition(BTC, DAY, day_frame(range(2005, 2007)), source=STREAM), 1.0)
    for _ in range(2):
        certificate = manager.record(DAY)
        assert certificate is not None
        assert certificate.absent == (IdRange(2000, 2000),)
        assert certificate.sources[-1].source == STREAM
        assert certificate.sources[-1].ids == IdRange(2005, 2006)
        WaitingDays(SAVE_S).rewrite(manager, Addition(BTC, DAY))


def test_what_an_earlier_process_left_is_due_at_once(manager: BackfillCacheManager) -> None:
    """Nobody knows how long it has waited."""
    waiting = WaitingDays(SAVE_S)
    appended(waiting, manager, range(1000, 2000))
    appended(waiting, manager, range(2000, 2010))
    again = WaitingDays(SAVE_S)
    again.loaded(manager, DAY, 50.0)
    assert again.due_at() == {(BTC, DAY): 50.0}


@pytest.mark.parametrize("is_over", [False, True])
def test_a_deleted_day_does_not_come_back(manager: BackfillCacheManager, *, is_over: bool) -> None:
    """The journal goes with its file, also when the file is moved aside, and is moved itself if it is alone."""
    if is_over:
        hold_the_next_day(manager)
    for remove in (manager.delete, lambda day: manager.distrust(day, "a test")):
        waiting = WaitingDays(SAVE_S)
        appended(waiting, manager, range(1000, 2000))
        appended(waiting, manager, range(2000, 2010))
        remove(DAY)
        assert not manager.journal_path(DAY).exists()
        appended(WaitingDays(SAVE_S), manager, range(3000, 3010))
        assert manager.facts(DAY).rows == 10


def hold_the_next_day(manager: BackfillCacheManager) -> None:
    """DAY is over then."""
    manager.append(NEXT, day_frame([9000], NEXT))


def test_a_day_that_is_over_has_no_file_before_it_is_sealed(manager: BackfillCacheManager) -> None:
    hold_the_next_day(manager)
    waiting = WaitingDays(SAVE_S)
    for start in (1000, 2000, 3000):
        assert appended(waiting, manager, range(start, start + 1000), now_s=start).is_in_journal
    assert not manager.get_cache_path(DAY).exists()
    assert manager.days() == [DAY, NEXT]
    assert waiting.due_at() == {(BTC, DAY): math.inf}, "a shutdown writes it"
    assert_has(manager, [*range(1000, 4000)])
    status = day_status(manager, DAY)
    assert status is not None
    assert (status.state, status.trades) == ("whole", 3000)
    ends = frozenset({DayStart(DAY, 1000), DayStart(NEXT, 4010)})
    sealed = waiting.append(manager, Addition(BTC, DAY, day_frame(range(4000, 4010)), ends), 5000.0)
    assert sealed.record.sealed
    assert manager.rows_in_file(DAY) == 3010
    assert not manager.journal_path(DAY).exists()


def test_a_file_that_says_it_all_is_not_written_again(manager: BackfillCacheManager) -> None:
    waiting = WaitingDays(SAVE_S)
    appended(waiting, manager, range(1000, 1010))
    before = stamp_of(manager.get_cache_path(DAY))
    saved = waiting.save(manager, Addition(BTC, DAY))
    assert saved.is_in_journal
    assert stamp_of(manager.get_cache_path(DAY)) == before
    saved = waiting.save(manager, Addition(BTC, DAY, day_starts=frozenset({DayStart(DAY, 1000)})))
    assert saved.record.opened
    assert stamp_of(manager.get_cache_path(DAY)) != before


def test_a_journal_that_a_crash_tore_off_within_its_first_record_has_no_day(manager: BackfillCacheManager) -> None:
    hold_the_next_day(manager)
    appended(WaitingDays(SAVE_S), manager, range(1000, 1010))
    journal = manager.journal_path(DAY)
    whole = journal.read_bytes()
    for size in (0, 10, 30, len(whole) - 1):
        journal.write_bytes(whole[:size])
        assert manager.days() == [NEXT]
        assert manager.record(DAY) is None
    assert appended(WaitingDays(SAVE_S), manager, range(1000, 1020)).is_in_journal
    assert_has(manager, [*range(1000, 1020)])


@settings(max_examples=effort(quick=15, thorough=100))
@given(
    is_over=st.booleans(),
    steps=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 15), st.sampled_from(["append", "rewrite", "crash"]))),
)
def test_whatever_is_saved_and_whenever_it_crashes_every_row_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, *, is_over: bool, steps: list[tuple[int, int, str]]
) -> None:
    """Appends in any sequence, rewrites, and rewrites that a crash parts from the removal of the journal."""
    manager = BackfillCacheManager(instrument_directory(tmp_path_factory.mktemp("cache"), BTC), BTC)
    if is_over:
        hold_the_next_day(manager)
    waiting, ids = WaitingDays(SAVE_S), set(range(1000, 1100))
    appended(waiting, manager, range(1000, 1100))
    for start, count, step in steps:
        new = range(1060 + start, 1060 + start + count)
        ids |= {*new}
        if step == "append":
            appended(waiting, manager, new)
        elif step == "rewrite":
            waiting.rewrite(manager, Addition(BTC, DAY, day_frame(new)))
        else:
            with crash_before_the_journal_was_removed(manager):
                waiting.rewrite(manager, Addition(BTC, DAY, day_frame(new)))
            waiting = WaitingDays(SAVE_S)
    assert_has(manager, sorted(ids))


@pytest.mark.parametrize("how", ["removed", "emptied", "directory", "pipe", "other"])
def test_rows_that_somebody_took_from_the_journal_are_not_claimed_any_more(
    manager: BackfillCacheManager, how: str
) -> None:
    """They were, until the file was written next; a directory in place of the journal stopped the writer for good."""
    waiting = WaitingDays(SAVE_S)
    appended(waiting, manager, range(1000, 1040))
    assert appended(waiting, manager, range(1040, 1045)).is_in_journal
    journal = manager.journal_path(DAY)
    if how == "emptied":
        journal.write_bytes(b"")
    else:
        journal.unlink()
    if how == "other":
        journal.write_bytes(b"not a journal at all")
    elif how == "directory":
        journal.mkdir()
    elif how == "pipe":
        os.mkfifo(journal)
    after = appended(waiting, manager, range(1045, 1050))
    ids = [*range(1000, 1040), *range(1045, 1050)]
    assert after.record.rows == len(ids)
    assert_has(manager, ids)


@pytest.mark.parametrize("body", [b"backfilld journal 1\n" + bytes(90), b"text"])
def test_a_journal_that_somebody_puts_there_is_moved_aside(manager: BackfillCacheManager, body: bytes) -> None:
    """One of another version ended the pipeline."""
    waiting = WaitingDays(SAVE_S)
    appended(waiting, manager, range(1000, 1040))
    manager.journals.mkdir(parents=True, exist_ok=True)
    manager.journal_path(DAY).write_bytes(body)
    assert appended(waiting, manager, range(1040, 1045)).is_in_journal
    assert_has(manager, list(range(1000, 1045)))
