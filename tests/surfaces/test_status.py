"""What status says of days, instruments and the daemon's work."""

import json
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from backfilld import BackfillCacheManager, scan
from backfilld.core.model import IdRange
from backfilld.errors import BackfillIncomplete
from backfilld.services.coverage import Coverage
from backfilld.services.day_statuses import day_statuses
from backfilld.services.stored_days import MARKS, InstrumentStatus, instrument_statuses
from backfilld.store.daemon_state import Activity, peek_activity, save_activity
from backfilld.store.layout import instrument_directory
from backfilld.surfaces.log_sentences import sentence
from backfilld.surfaces.status import print_status
from backfilld.surfaces.words import has_colours
from tests.fakes import starts_at
from tests.store.format.test_footer import OLDER, write_file
from tests.store.frames import SPOT, day_frame

FIRST = date(2025, 10, 30)


@pytest.fixture
def manager(tmp_path: Path) -> BackfillCacheManager:
    """From 30 October: sealed, partial, nothing, conflicted, bad, of a newer version, sealed without an absent id."""
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT))

    def hold(ago: int, *ids: int, sealed: bool = True, absent: tuple[IdRange, ...] = ()) -> date:
        day = FIRST + timedelta(days=ago)
        manager.append(day, day_frame(ids, day), starts_at(day, ids[0], ids[-1] + 1) if sealed else (), absent=absent)
        return day

    hold(0, 1000, 1001, 1002)
    hold(1, 1003, 1006, sealed=False)
    conflicted = hold(3, 1010, 1011)
    manager.append(conflicted, day_frame([1010], conflicted).with_columns(q=pl.lit(5.0)))
    bad = hold(4, 1012)
    manager.get_cache_path(bad).write_text("cut")
    newer = FIRST + timedelta(days=5)
    write_file(manager.get_cache_path(newer), day_frame([1013], newer), OLDER | {"schema": 9})
    hold(6, 1014, 1016, absent=(IdRange(1015, 1015),))
    return manager


def status_of(manager: BackfillCacheManager) -> InstrumentStatus:
    (status,) = instrument_statuses(list(day_statuses(manager.directory.parent.parent, SPOT)))
    return status


@pytest.mark.parametrize(
    ("hours", "words"),
    [(0.01, "less than a minute"), (0.5, "30 min"), (2.54, "2.5 h"), (47.9, "47.9 h"), (8712.13, "363 days")],
)
def test_an_age_stands_in_the_unit_that_a_person_would_take(hours: float, words: str) -> None:
    event = {"event": "gap_found", "trades": 5, "gap_hours": hours, "missing_ids": 0}
    assert sentence(event) == f"5 trades stored, the newest {words} old; none known to be missing"


@pytest.mark.parametrize("quiet", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_gets_none(quiet: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert has_colours()
    for name, value in quiet.items():
        monkeypatch.setenv(name, value)
    assert not has_colours()


def test_a_calendar_has_a_character_a_day_at_the_place_of_the_day(manager: BackfillCacheManager) -> None:
    status = status_of(manager)
    assert status.calendar == {"2025-10": " " * 29 + "#+", "2025-11": ".!xx#"}
    assert status.days == {"sealed": 2, "partial": 1, "missing": 1, "conflicted": 1, "bad": 2}
    assert set(status.days) <= set(MARKS)


def test_a_day_between_ids_that_adjoin_is_empty_and_one_between_others_is_missing(tmp_path: Path) -> None:
    """By status, by the page and by scan alike."""
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT))
    stored = {0: [1000, 1001], 2: [1002], 5: [1006, 1007], 8: [1009]}
    for ago, ids in stored.items():
        day = FIRST + timedelta(days=ago)
        manager.append(day, day_frame(ids, day), absent=(IdRange(1003, 1005),) if ago == 5 else ())
    status = status_of(manager)
    assert "".join(status.calendar.values()).strip() == "+-+--+..+"
    assert (status.days["empty"], status.days["missing"]) == (3, 2)
    seen = Coverage(tmp_path).look(SPOT)
    for day, each in seen.items():
        if each.mark in {"empty", "missing"}:
            held_back = pytest.raises(BackfillIncomplete, match="no file") if each.mark == "missing" else nullcontext()
            with held_back:
                assert scan(SPOT, day, day + timedelta(days=1), cache_dir=tmp_path).collect().is_empty()
    assert [each.mark for each in seen.values()].count("empty") == 3


def test_an_instrument_is_summed_up(manager: BackfillCacheManager) -> None:
    status = status_of(manager)
    sizes = [manager.get_cache_path(day).stat().st_size for day in manager.days()]
    assert (status.trades, status.missing, status.bytes) == (9, 2, sum(sizes))
    assert (status.first_at, status.last_at) == ("2025-10-30T00:00:01+00:00", "2025-11-05T00:00:01+00:00")


def test_a_day_tells_what_its_certificate_says(manager: BackfillCacheManager) -> None:
    days = {day.day: day for day in day_statuses(manager.directory.parent.parent, SPOT)}
    partial, conflicted, newest = days["2025-10-31"], days["2025-11-02"], days["2025-11-05"]
    assert (partial.holes, partial.missing, partial.state, partial.mark) == ([(1004, 1005)], 2, "holes", "partial")
    assert (conflicted.conflicts, conflicted.state, conflicted.mark) == (1, "sealed", "conflicted")
    assert (newest.absent, newest.missing, newest.sources) == (1, 0, ["rest"])
    assert "schema version 9" in (days["2025-11-04"].reason or "")


def test_json_has_instruments_beside_days(
    manager: BackfillCacheManager, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_status(tmp_path, tmp_path / ".backfilld", None, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert [day["day"] for day in document["days"]] == [day.isoformat() for day in manager.days()]
    assert document["instruments"][0]["calendar"]["2025-11"] == ".!xx#"
    assert (document["activity"], document["budgets"]) == (None, {})


def test_the_daemons_work_is_shown_where_it_is_stored(
    manager: BackfillCacheManager, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    activity = Activity(1_762_473_600_000, 75, 25, "the disk is full", 1_762_473_540_000)
    save_activity(tmp_path, activity)
    assert peek_activity(tmp_path) == activity
    print_status(tmp_path, tmp_path / ".backfilld", None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert "cache hit ratio 75.0%: 75 cached, 25 downloaded (as of 2025-11-07 00:00:00)" in lines
    assert "last error at 2025-11-06 23:59:00: the disk is full" in lines
    print_status(tmp_path, tmp_path / ".backfilld", None, as_json=True)
    assert json.loads(capsys.readouterr().out)["activity"]["hit_ratio"] == 0.75


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b'{"saved_ms": "x"}'])
def test_an_unreadable_word_of_the_daemons_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        save_activity(tmp_path, Activity(0))
        (tmp_path / ".backfilld" / "activity.json").write_bytes(content)
    assert peek_activity(tmp_path) is None


def test_no_trades_have_no_hit_ratio() -> None:
    assert Activity(0).hit_ratio is None
