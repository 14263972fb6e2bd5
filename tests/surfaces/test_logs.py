"""Log lines: JSON for machines, sentences for a terminal, and nothing below the level."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import structlog

from backfilld.surfaces.logs import configure_logs, set_level


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


def test_auto_is_the_console_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    configure_logs("auto", "info")
    structlog.get_logger().info("day_saved", trades=85000)
    out = capsys.readouterr().out
    assert "day_saved" in out
    assert "\x1b[" in out
    assert not out.startswith("{")


def test_the_console_has_no_colours_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("console", "info")
    structlog.get_logger().info("day_saved", trades=85000)
    out = capsys.readouterr().out
    assert "day_saved" in out
    assert "trades=85000" in out
    assert "\x1b[" not in out


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


def test_a_stdout_that_is_no_file_is_no_journal(
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
