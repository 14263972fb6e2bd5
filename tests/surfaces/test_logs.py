"""Log lines: JSON for machines, sentences for a terminal, and nothing below the level."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from string import Formatter

import pytest
import structlog
from structlog.typing import EventDict

from backfilld.surfaces.log_repeats import Repeats
from backfilld.surfaces.log_sentences import SENTENCES, sentence
from backfilld.surfaces.logs import configure_logs, set_level
from tests.test_events import PROMISED


@pytest.fixture(autouse=True)
def restored_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


def test_a_json_line_has_event_level_instant_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json", "info")
    before = datetime.now(UTC)
    structlog.get_logger().bind(instrument="spot:BTCUSDT").info("day_saved", trades=85000, file="x.parquet")
    (line,) = lines(capsys)
    instant = str(line.pop("timestamp"))
    assert instant.endswith("Z")
    assert before <= datetime.fromisoformat(instant) <= datetime.now(UTC)
    assert line == {
        "event": "day_saved",
        "level": "info",
        "instrument": "spot:BTCUSDT",
        "trades": 85000,
        "file": "x.parquet",
    }


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_what_is_below_the_level_is_not_written(
    capsys: pytest.CaptureFixture[str], level: str, heard: list[str]
) -> None:
    configure_logs("json", level)
    log = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("happened")
    assert [line["level"] for line in lines(capsys)] == heard


def test_auto_is_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("auto", "info")
    structlog.get_logger().info("happened")
    assert lines(capsys)[0]["event"] == "happened"


SAVED = {"instrument": "spot:BTCUSDT", "day": "2025-11-07", "trades": 85_000, "file": "x", "bytes": 172_000, "ms": 1.0}


def test_auto_is_sentences_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    configure_logs("auto", "info")
    structlog.get_logger().info("day_saved", **SAVED)
    structlog.get_logger().warning("files_changed", instrument="um:ETHUSDT", days=["2025-11-07"])
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d spot:BTCUSDT saved 2025-11-07: 85,000 trades, 172 kB", first)
    assert second.startswith("\x1b[33m")
    assert "warning: um:ETHUSDT another program changed 2025-11-07" in second


def test_the_console_has_no_colours_in_a_pipe_or_with_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logs("console", "info")
    structlog.get_logger().error("disk_failed", error="full", trades_held=1)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    configure_logs("console", "info")
    structlog.get_logger().error("disk_failed", error="full", trades_held=1)
    out = capsys.readouterr().out
    assert out.count("error: the disk fails: full") == 2
    assert "\x1b[" not in out


def test_a_terminal_gets_no_line_that_is_longer_than_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    configure_logs("auto", "info")
    structlog.get_logger().error("reload_refused", error="a reason of several words " * 5)
    written = capsys.readouterr().out.splitlines()
    assert len(written) > 2
    assert all(len(line) <= 60 for line in written)
    assert all(line.startswith(" " * 9) for line in written[1:])


def test_what_tells_a_person_nothing_is_for_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    for level in ("info", "debug"):
        configure_logs("auto", level)
        structlog.get_logger().info("cache_opened", dir="/srv")
        assert capsys.readouterr().out.endswith("opened the cache /srv\n" if level == "debug" else "")


def test_a_json_line_begins_with_time_level_and_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json", "info")
    structlog.get_logger().bind(instrument="spot:BTCUSDT").info("day_saved", trades=1)
    assert list(lines(capsys)[0]) == ["timestamp", "level", "event", "instrument", "trades"]


def test_a_sentence_needs_only_fields_that_its_event_has() -> None:
    """A placeholder that no event has would make its line fall back to bare fields."""
    context = {"instrument", "market", "day"}
    assert len(PROMISED.keys() & SENTENCES.keys()) > 50
    for name, template in SENTENCES.items():
        named = {field for _, field, _, _ in Formatter().parse(template) if field}
        assert named - context <= PROMISED.get(name, set()), name


def test_foreign_sentences_and_lists_of_reasons_read_on() -> None:
    assert sentence({"event": "request_retried", "error": "Server disconnected."}) == "Server disconnected; asks again"
    incomplete = {"event": "backfill_incomplete", "reasons": ["a is gone", "b", "c", "d", "e"]}
    assert sentence(incomplete) == "incomplete: a is gone; b; c; and 2 more"
    still = {"event": "request_retried", "error": "no answer within 20 s", "repeated": 11, "for_s": 40.4}
    assert sentence(still) == "11 tries in 40 s: no answer within 20 s"


def test_an_event_without_a_sentence_is_its_name_and_fields() -> None:
    assert sentence({"event": "day_saved", "level": "info", "trades": 5}) == "day saved trades=5"


def outage(clock: list[float], until_s: int, every_s: float) -> list[EventDict]:
    """What is written of requests that fail all the time, of two instruments, at one host."""
    repeats, written = Repeats(lambda: clock[0]), []
    began = clock[0]
    while clock[0] < began + until_s:
        for name in ("request_retried", "request_failed"):
            for symbol in ("spot:A", "spot:B"):
                text = f"http://127.0.0.1:1 is out of reach: attempt {clock[0]}"
                with suppress(structlog.DropEvent):
                    written.append(repeats(None, "warning", {"event": name, "error": text, "instrument": symbol}))
        with suppress(structlog.DropEvent):
            lost = {"event": "live_lost", "market": "spot", "reason": "ws://127.0.0.1:1: refused", "next_s": 1}
            written.append(repeats(None, "warning", lost))
        clock[0] += every_s
    return written


def test_an_outage_is_one_line_and_one_at_each_doubling() -> None:
    written = outage([100.0], 60, 0.5)
    assert [(line["event"], line.get("for_s")) for line in written] == [
        ("request_retried", None),
        ("request_retried", 30),
    ]
    assert [line.get("repeated") for line in written] == [None, 241]
    assert len(outage([0.0], 3600, 1.0)) <= 10


def dropped(repeats: Repeats, event: EventDict) -> bool:
    try:
        repeats(None, "warning", event)
    except structlog.DropEvent:
        return True
    return False


@pytest.mark.parametrize("verb", ["is out of reach: refused", "did not answer aggTrades within 20 s"])
def test_a_host_that_is_gone_is_one_trouble_whatever_is_asked_of_it(verb: str) -> None:
    """Whichever instrument, and whichever way it fails."""
    repeats = Repeats(lambda: 0.0)
    first = "http://127.0.0.1:1 did not answer exchangeInfo within 20 s"
    assert not dropped(repeats, {"event": "request_retried", "market": "spot", "error": first})
    for symbol in ("spot:A", "spot:B"):
        text = f"http://127.0.0.1:1 {verb}"
        assert dropped(repeats, {"event": "request_failed", "instrument": symbol, "error": text})
    assert repeats.out_of_reach_s() == {"spot": 0.0}


def test_a_lost_stream_is_one_trouble_of_its_market_until_it_is_steady() -> None:
    clock = [0.0]
    repeats = Repeats(lambda: clock[0])

    def lost(reason: str) -> EventDict:
        return {"event": "live_lost", "market": "spot", "reason": reason, "next_s": 1}

    assert not dropped(repeats, lost("no close frame received"))
    assert dropped(repeats, lost("ws://127.0.0.1:1: refused"))
    assert (repeats.out_of_reach_s(), repeats.without_stream_s()) == ({}, {"spot": 0.0})
    repeats(None, "info", {"event": "live_connected", "market": "spot"})
    assert repeats.without_stream_s() == {}
    clock[0] = 5.0
    assert dropped(repeats, lost("it was connected for five seconds"))
    assert repeats.without_stream_s() == {"spot": 5.0}
    repeats(None, "info", {"event": "live_connected", "market": "spot"})
    clock[0] = 60.0
    assert not dropped(repeats, lost("after nearly a minute of peace"))
    assert repeats.without_stream_s() == {"spot": 0.0}


def test_the_same_host_makes_one_line_of_instruments_that_are_incomplete_but_in_a_single_run() -> None:
    repeats = Repeats(lambda: 0.0)
    events: list[EventDict] = [
        {"event": "backfill_incomplete", "instrument": each, "reasons": [f"http://h:1 is out of reach: {each}"]}
        for each in ("spot:A", "spot:B")
    ]
    assert [dropped(repeats, event) for event in events] == [False, True]
    repeats.keeps_outcomes = True
    assert [dropped(repeats, event) for event in events] == [False, False]
    missing: EventDict = {"event": "backfill_incomplete", "instrument": "spot:A", "reasons": ["ids 1 to 2 are missing"]}
    repeats.keeps_outcomes = False
    assert [dropped(repeats, dict(missing)) for _ in range(2)] == [False, False]


def test_what_a_host_that_is_out_of_reach_leaves_incomplete_gets_no_line_of_its_own() -> None:
    repeats = Repeats(lambda: 0.0)
    error = "http://h:1 is out of reach: refused"
    incomplete: EventDict = {"event": "backfill_incomplete", "instrument": "um:A", "reasons": [error]}
    assert not dropped(repeats, {"event": "request_retried", "instrument": "um:A", "error": error})
    assert dropped(repeats, dict(incomplete))
    other: EventDict = {"event": "backfill_incomplete", "instrument": "um:A", "reasons": ["ids 1 to 2 are missing"]}
    assert not dropped(repeats, other)
    repeats.keeps_outcomes = True
    assert not dropped(repeats, dict(incomplete))


def test_a_host_that_answered_and_fails_again_is_a_new_outage() -> None:
    clock = [0.0]
    repeats = Repeats(lambda: clock[0])
    failure: EventDict = {"event": "request_retried", "error": "https://a.example is out of reach: refused"}
    assert repeats(None, "warning", dict(failure)) == failure
    with pytest.raises(structlog.DropEvent):
        repeats(None, "warning", dict(failure))
    repeats(None, "info", {"event": "host_reached", "host": "https://a.example", "seconds": 3.0})
    assert repeats(None, "warning", dict(failure)) == failure
    clock[0] = 10_000.0
    assert repeats(None, "warning", dict(failure)) == failure


def test_a_port_that_is_taken_for_an_hour_is_a_few_lines() -> None:
    clock, repeats = [0.0], Repeats(lambda: clock[0])
    failure: EventDict = {"event": "endpoint_failed", "error": "api_listen = 127.0.0.1:1: it must be free"}
    written = 0
    while clock[0] < 3600:
        written += not dropped(repeats, dict(failure))
        clock[0] += 10
    assert 2 <= written <= 9


def test_other_failures_and_facts_are_never_dropped() -> None:
    repeats = Repeats(lambda: 0.0)
    for host in ("a", "b"):
        assert repeats(None, "warning", {"event": "request_retried", "error": f"https://{host} is out of reach"})
    for symbol in ("A", "B"):
        assert repeats(None, "error", {"event": "request_failed", "error": f"-1121 {symbol} is not listed"})
    for _ in range(3):
        assert repeats(None, "warning", {"event": "day_quarantined", "reason": "cut"})


def test_any_value_and_any_script_can_be_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Paths and days as text, symbols as they are written."""
    configure_logs("json", "info")
    structlog.get_logger().info("happened", path=Path("a/b"), day=date(2025, 11, 7), symbol="币安人生USDT")
    out = capsys.readouterr().out
    assert "币安人生USDT" in out
    line = json.loads(out)
    assert (line["path"], line["day"]) == ("a/b", "2025-11-07")


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json", "info")
    try:
        int("first\nsecond")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(capsys)
    assert line["event"] == "failed"
    assert "ValueError" in json.dumps(line)


def test_a_line_goes_to_what_stdout_is_at_that_moment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A progress bar takes stdout's place while it is drawn: lines must stand above it."""
    configure_logs("json", "info")
    log = structlog.get_logger()
    log.info("before")
    with (tmp_path / "other").open("w") as other:
        monkeypatch.setattr(sys, "stdout", other)
        log.info("during")
    monkeypatch.undo()
    assert [line["event"] for line in lines(capsys)] == ["before"]
    assert json.loads((tmp_path / "other").read_text())["event"] == "during"


def test_the_level_can_be_changed_for_loggers_that_stand(capsys: pytest.CaptureFixture[str]) -> None:
    """Also for those that were bound before: a sync keeps its logger for days."""
    configure_logs("json", "warning")
    log = structlog.get_logger().bind(instrument="spot:BTCUSDT")
    log.info("quiet")
    set_level("debug")
    log.debug("loud")
    set_level("error")
    log.warning("quiet again")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


PROGRAM = """
import structlog
from backfilld.surfaces.logs import configure_logs
configure_logs("auto", "debug")
for level in ("debug", "info", "warning", "error", "critical"):
    getattr(structlog.get_logger(), level)("happened", level_wanted=level)
"""


@pytest.mark.parametrize("stream", ["journal", "another", "none", "garbage"])
def test_lines_that_go_to_the_journal_begin_with_their_priority(stream: str, tmp_path: Path) -> None:
    """JOURNAL_STREAM names device and inode of the stream; a stdout that was redirected elsewhere is none."""
    out = tmp_path / "out"
    with out.open("w") as stdout:
        found = os.fstat(stdout.fileno())
        streams = {
            "journal": f"{found.st_dev}:{found.st_ino}",
            "another": f"{found.st_dev}:{found.st_ino + 1}",
            "garbage": "garbage",
        }
        environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        if stream in streams:
            environment["JOURNAL_STREAM"] = streams[stream]
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, stdout=stdout, check=True)
    written = out.read_text().splitlines()
    prefixes = [line[:3] for line in written]
    if stream == "journal":
        assert prefixes == ["<7>", "<6>", "<4>", "<3>", "<2>"]
        written = [line[3:] for line in written]
    assert [json.loads(line)["level"] for line in written] == ["debug", "info", "warning", "error", "critical"]


def test_a_stdout_that_is_not_a_file_is_not_the_journal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a test runner, or where it was closed."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    configure_logs("json", "info")
    structlog.get_logger().info("happened")
    assert lines(capsys)[0]["event"] == "happened"


def test_an_exception_in_the_journal_is_one_line_with_its_frames(tmp_path: Path) -> None:
    """A line that broke in two would be two entries, the second without a priority."""
    program = (
        PROGRAM
        + """
try:
    raise ExceptionGroup("group", [ValueError("first\\nsecond"), KeyError("x")])
except ExceptionGroup:
    structlog.get_logger().exception("failed")
"""
    )
    out = tmp_path / "out"
    with out.open("w") as stdout:
        found = os.fstat(stdout.fileno())
        environment = os.environ | {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        subprocess.run([sys.executable, "-c", program], env=environment, stdout=stdout, check=True)
    written = out.read_text().splitlines()
    assert len(written) == 6
    assert written[-1].startswith("<3>{")
    assert "ValueError" in json.dumps(json.loads(written[-1][3:])["exception"])
