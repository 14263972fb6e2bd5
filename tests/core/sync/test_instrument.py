"""One instrument's sync as a state machine: events in, actions out, by no clock but the test's."""

from datetime import date, timedelta

from msgspec.structs import replace

from backfilld.core.backfill.questions import Before, Found, Newest, Query, Since, Tail
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import DayStart
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.core.sync import events
from backfilld.core.sync.events import Action, Instant
from backfilld.core.sync.instrument import InstrumentSync
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.state import Phase
from backfilld.core.timespan import StoredSpan
from backfilld.errors import DayLocked
from tests.fakes import BTC, DAY, DAY_MS, ETH

NOON_S = 43_200.0
ONE_DAY = timedelta(days=1)


def at(seconds: float, *, is_heard: bool = True) -> Instant:
    """So long after the beginning of DAY."""
    now_ms = DAY_MS + int(seconds * 1000)
    return Instant(now_ms, now_ms if is_heard else None, seconds)


def certificate(day: date, first_id: int, last_id: int, *, opened: bool = False, closed: bool = False) -> Certificate:
    start_ms = DAY_MS + (day - DAY).days * MS_PER_DAY
    return Certificate(day, (StoredSpan(IdRange(first_id, last_id), start_ms, start_ms + 1000),), opened, closed)


def names(actions: list[Action]) -> list[str]:
    return [type(each).__name__ for each in actions if not isinstance(each, events.Log)]


def begun(**changed: object) -> InstrumentSync:
    """A sync of BTC that waits for its day files."""
    sync = InstrumentSync(BTC, RunSpec((BTC,), 3, **changed), at(NOON_S))  # type: ignore[arg-type]
    (load,) = sync.begin(at(NOON_S))
    assert isinstance(load, events.LoadDays)
    return sync


def resting(**changed: object) -> InstrumentSync:
    """The same, through a round that found three trades today."""
    sync = begun(**changed)
    for event in (events.DaysLoaded({DAY - ONE_DAY: None, DAY: None}), events.Described()):
        sync.on(event, at(NOON_S))
    answers: dict[type[Query], Found] = {
        Before: Found(IdRange(9, 9), DAY_MS - 5, DAY_MS - 5, 1),
        Since: Found(IdRange(10, 10), DAY_MS + 5, DAY_MS + 5, 1),
        Tail: Found(IdRange(10, 12), DAY_MS + 5, DAY_MS + 9, 3),
        Newest: Found(IdRange(12, 12), DAY_MS + 9, DAY_MS + 9, 1),
    }
    while (query := sync.take()) is not None:
        sync.on(events.Answered(query, answers.get(type(query), Found(None, 0, 0, 0))), at(NOON_S))
    assert sync.phase is Phase.SAVING
    sync.on(events.DayStored(certificate(DAY, 10, 12, opened=True)), at(NOON_S))
    assert sync.on(events.Flushed(), at(NOON_S))[-1] == events.Flush(frozenset({DAY})), (
        "after a first round today's too"
    )
    assert names(sync.on(events.Flushed(), at(NOON_S)))[-1] == "EndRound"
    return sync


def test_nothing_is_asked_before_the_days_are_loaded() -> None:
    sync = begun()
    assert sync.rank() is None
    assert names(sync.on(events.DaysLoaded({DAY - ONE_DAY: None, DAY: None}), at(NOON_S))) == ["Describe"]
    assert sync.take() == Before(DAY_MS)


def test_a_round_ends_when_all_is_on_disk() -> None:
    sync = resting()
    assert sync.phase is Phase.RESTING
    assert sync.is_complete
    assert sync.outcome(NOON_S).trades == 3


def test_after_the_first_round_the_files_of_days_that_are_over_are_written_and_todays_may_wait() -> None:
    sync = resting()
    sync.on(events.RoundDue(), at(NOON_S + 30))
    newest = Found(IdRange(12, 12), DAY_MS + 9, DAY_MS + 9, 1)
    while (query := sync.take()) is not None:
        sync.on(events.Answered(query, newest), at(NOON_S + 30))
    sync.on(events.DayStored(certificate(DAY, 10, 13, opened=True)), at(NOON_S + 30))
    assert names(sync.on(events.Flushed(), at(NOON_S + 30)))[-1] == "EndRound"


def test_what_came_and_no_day_holds_is_not_complete_and_is_asked_for_again() -> None:
    sync = resting()
    sync.on(events.RoundDue(), at(NOON_S + 30))
    newest = Found(IdRange(12, 14), DAY_MS + 9, DAY_MS + 11, 3)
    while (query := sync.take()) is not None:
        sync.on(events.Answered(query, newest), at(NOON_S + 30))
    yesterday, today = certificate(DAY - ONE_DAY, 14, 14), certificate(DAY, 10, 12, opened=True)
    for record in (yesterday, today):
        sync.on(events.DayStored(record), at(NOON_S + 30))
    sync.on(events.Flushed(), at(NOON_S + 30))
    sync.on(events.Flushed(), at(NOON_S + 30))
    assert sync.phase is Phase.RESTING
    assert not sync.is_complete
    assert "ids 13 to 13 came and are not stored" in sync.outcome(NOON_S + 30).reasons
    assert names(sync.on(events.RoundDue(), at(NOON_S + 60)))[0] == "Flush", "it plans again from what is stored"


def test_a_file_that_no_key_opens_ends_the_round_and_is_looked_at_again_at_the_next() -> None:
    sync = begun()
    assert names(sync.on(events.DaysUnreadable(DayLocked("no key opens it")), at(NOON_S))) == ["EndRound"]
    assert sync.outcome(NOON_S).exit_code == 78
    assert names(sync.on(events.RoundDue(), at(NOON_S + 30))) == ["LoadDays"]


def test_an_altered_day_alone_is_read_again() -> None:
    sync = resting()
    assert names(sync.on(events.DaysAltered(frozenset({DAY})), at(NOON_S))) == ["Flush"]
    (load,) = [each for each in sync.on(events.Flushed(), at(NOON_S)) if isinstance(each, events.LoadDays)]
    assert load.days == (DAY,)


def test_a_change_of_days_that_are_not_looked_at_is_nothing() -> None:
    assert names(resting().on(events.DaysAltered(frozenset({DAY - 9 * ONE_DAY})), at(NOON_S))) == []


def test_the_window_slides_and_only_the_new_day_is_loaded() -> None:
    sync = resting()
    sync.on(events.DayStored(certificate(DAY, 10, 12, opened=True, closed=True)), at(NOON_S))
    after_midnight = at(2 * NOON_S + 60)
    assert names(sync.on(events.RoundDue(), after_midnight))[-1] == "Flush"
    (load,) = [each for each in sync.on(events.Flushed(), after_midnight) if isinstance(each, events.LoadDays)]
    assert load.days == (DAY + ONE_DAY,)
    sync.on(events.DaysLoaded({DAY + ONE_DAY: None}), after_midnight)
    assert sync.attempt.window.start_ms == DAY_MS + MS_PER_DAY


def test_no_archive_day_is_taken_by_a_clock_that_no_answer_has_confirmed() -> None:
    sync = InstrumentSync(BTC, RunSpec((BTC,), 3, days=1, uses_archive=True), at(NOON_S, is_heard=False))
    sync.begin(at(NOON_S, is_heard=False))
    days = (DAY - 2 * ONE_DAY, DAY - ONE_DAY, DAY)
    assert names(sync.on(events.DaysLoaded(dict.fromkeys(days)), at(NOON_S, is_heard=False))) == ["Describe"]
    doubted = replace(at(NOON_S, is_heard=False), is_doubted=True)
    assert sync.on(events.Described(), doubted) == []
    newest = sync.take()
    assert newest == Newest(0)
    assert sync.take() is None, "where a day begins depends on which day it is"
    last_ms = DAY_MS + 2 * MS_PER_DAY + 1
    assert sync.on(events.Answered(newest, Found(IdRange(40, 40), last_ms, last_ms, 1)), doubted) == []
    later = at(NOON_S + 2 * 86_400)
    sync.on(events.ClockHeard(), later)
    sync.on(events.Flushed(), later)
    sync.on(events.DaysLoaded({DAY + ONE_DAY: None, DAY + 2 * ONE_DAY: None}), later)
    before, first = sync.take(), sync.take()
    assert before == Before(DAY_MS + MS_PER_DAY)
    assert first is not None
    sync.on(events.Answered(before, Found(IdRange(20, 20), 5, 5, 1)), later)
    found = Found(IdRange(30, 30), DAY_MS + 2 * MS_PER_DAY, DAY_MS + 2 * MS_PER_DAY, 1)
    (taken,) = sync.on(events.Answered(first, found), later)[-1:]
    assert isinstance(taken, events.TakeArchive)
    assert taken.days == (DAY + ONE_DAY,)
    assert sync.attempt.plan.last_id == 40, "what was named before counts"


def test_after_the_archive_the_plan_is_made_from_the_records_that_came() -> None:
    sync = begun(days=1, uses_archive=True)
    days = (DAY - 2 * ONE_DAY, DAY - ONE_DAY, DAY)
    assert "TakeArchive" not in names(sync.on(events.DaysLoaded(dict.fromkeys(days)), at(NOON_S)))
    before, first = sync.take(), sync.take()
    assert before == Before(DAY_MS - MS_PER_DAY)
    assert first is not None
    assert names(sync.on(events.Answered(before, Found(IdRange(0, 0), 5, 5, 1)), at(NOON_S))) == []
    (taken,) = sync.on(events.Answered(first, Found(IdRange(10, 12), DAY_MS, DAY_MS + 2, 3)), at(NOON_S))[-1:]
    assert taken == events.TakeArchive((DAY - ONE_DAY,), frozenset({DayStart(DAY - ONE_DAY, 1), DayStart(DAY, 10)}))
    record = certificate(DAY - ONE_DAY, 1, 9, opened=True, closed=True)
    assert names(sync.on(events.ArchiveDayEnded(DAY - ONE_DAY, record), at(NOON_S))) == ["Prove", "Flush"]
    assert "LoadDays" not in names(sync.on(events.Flushed(), at(NOON_S)))
    assert sync.phase is Phase.ASKING
    assert sync.attempt.plan.received.rows == 9


def test_a_removed_instrument_saves_and_leaves() -> None:
    sync = resting()
    assert names(sync.on(events.SpecReplaced(RunSpec((ETH,), 3)), at(NOON_S))) == ["LookAtFiles", "Flush"]
    assert names(sync.on(events.Flushed(), at(NOON_S))) == ["Leave"]
    assert sync.phase is Phase.GONE


def test_a_day_that_this_process_has_cut_is_forgotten_with_what_is_doubted_and_one_that_was_there_is_not() -> None:
    """A trade of another symbol seemed to begin today: the rows of today went to the day before."""
    there, cut = (
        certificate(DAY - timedelta(days=1), 100, 199).proven_by([DayStart(DAY - timedelta(days=1), 100)]),
        certificate(DAY, 200, 299),
    )
    sync = begun(days=1)
    sync.on(events.DaysLoaded({there.day: there, DAY: None, DAY - timedelta(days=2): None}, None), at(NOON_S))
    sync.on(events.DayStored(cut, 0), at(NOON_S))
    sync.attempt.plan.doubts.doubt(9_000_000)
    sync.attempt.is_stale = True
    actions = sync.on(events.ClockHeard(), at(NOON_S)) + sync.on(events.Flushed(), at(NOON_S))
    assert [each.day for each in actions if isinstance(each, events.Distrust)] == [cut.day]
