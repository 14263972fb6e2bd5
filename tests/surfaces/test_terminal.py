"""Real commands on a real terminal of 80 and 60 columns: nothing is cut, nothing is wrapped, no stale line stays."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import click
import polars as pl
import pytest

from backfilld.surfaces.cli import cli
from tests.clock import shift_to
from tests.surfaces.terminal import Terminal

WIDTHS = [80, 60]


@contextmanager
def exchange(*arguments: str, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """An exchange in a process of its own, which can be killed, and its URL."""
    command = [sys.executable, "-m", "binance_simulator", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


@contextmanager
def live_exchange(instrument: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """An exchange that trades on, in a process of its own, and the settings that lead to this instrument there."""
    market = instrument.partition(":")[0]
    command = [sys.executable, "-m", "binance_simulator", "--instrument", instrument]
    command += ["--trades", "3000", "--live-rate", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = json.loads(process.stdout.readline())
            environment = {f"BACKFILL_{market.upper()}_URL": found["url"], "BACKFILL_ARCHIVE_URL": found["url"]}
            yield process, environment | {f"BACKFILL_{market.upper()}_STREAM_URL": found["stream_urls"][market]}
        finally:
            process.kill()


class World(NamedTuple):
    """A directory with a cache of the three days before ``today``, and the settings for its exchange."""

    directory: Path
    environment: dict[str, str]
    today: date

    def dated(self, words: Iterable[str]) -> list[str]:
        """The words, ``today-3`` as the day."""
        return [
            str(self.today - timedelta(days=int(word.removeprefix("today-")))) if word.startswith("today-") else word
            for word in words
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory, today = tmp_path_factory.mktemp("t"), datetime.now(UTC).date()
    markets = ["--instrument", "spot:BTCUSDT", "--instrument", "um:ETHUSDT"]
    with exchange("--days", "4", "--daily-trades", "20000", *markets) as (_, url):
        environment = {f"BACKFILL_{name}_URL": url for name in ("SPOT", "UM", "CM", "ARCHIVE")}
        environment |= {"BACKFILL_CACHE_DIR": "cache", "BACKFILL_LIVE": "false"}
        environment |= {"BACKFILL_INSTRUMENTS": "spot:BTCUSDT um:ETHUSDT"}
        fill = [sys.executable, "-m", "backfilld", "fill", "--from", str(today - timedelta(days=3))]
        subprocess.run(fill, cwd=directory, env=os.environ | environment, check=True, capture_output=True, timeout=60)
        (directory / "old_files").mkdir()
        (day,) = (directory / "cache").glob(f"market=spot/*/*{today - timedelta(days=1)}.parquet")
        pl.read_parquet(day, hive_partitioning=False).write_parquet(directory / "old_files" / day.name)
        yield World(directory, environment, today)


def helps(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """The words that ask for help of a command, and of each below it."""
    yield (*path, "--help")
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from helps(each, *path, name)


MONTH = ["--instruments", "spot:BTCUSDT", "--from", "today-3", "--to", "today-1"]
MANY = "spot:1000000BOBUSDT,spot:1MBABYDOGEUSDT,um:BTCUSDT_261225,um:1000000MOGUSDT,cm:BTCUSD_261225,cm:ETHUSD_PERP"
BUCKET = {"BACKFILL_REMOTE_URL": "s3://trades", "BACKFILL_REMOTE_ENDPOINT": "http://127.0.0.1:1"}
BUCKET |= {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
"""A bucket that nobody answers for; ``make test-s3`` shows these commands with one that works."""
COMMANDS = {
    "status": ["status"],
    "status of one": ["status", "--instrument", "um:ETHUSDT"],
    "status check": ["status", "--check"],
    "dry run": ["fill", "--from", "today-4", "--to", "today-1", "--dry-run"],
    "fill": ["fill", "--from", "today-1"],
    "run once": ["run", "--once"],
    "verify": ["verify"],
    "verify against the archive": ["verify", "--against", "archive"],
    "verify and repair": ["verify", "--repair"],
    "adopt": ["adopt", "old_files", "--instrument", "spot:BTCUSDT"],
    "cleanup": ["cleanup", "--keep-days", "1", "--dry-run"],
    "rekey without encryption": ["rekey"],
    "rekey": ["rekey", "--decrypt"],
    "check-config": ["check-config"],
    "check-config of many": ["check-config", "--instrument", MANY],
    "connect": ["connect", "ccxt"],
    "connect binance-sdk": ["connect", "binance-sdk"],
    "connect freqtrade": ["connect", "freqtrade"],
    "chart": ["chart", "spot:BTCUSDT", "--day", "today-1", "--out", "day.html"],
    "export": ["export", "spot:BTCUSDT", "--from", "today-1", "--every", "1h", "--out", "bars.csv"],
    "export to stdout": ["export", "spot:BTCUSDT", "--from", "today-1", "--every", "6h"],
    "demo": ["demo", "--trades", "2000"],
    "fleet plan": ["fleet", "plan", *MONTH],
    "fleet fill": ["fleet", "fill", *MONTH],
    "fleet status": ["fleet", "status"],
    "push": ["push"],
    "pull": ["pull", "--from", "today-1", "--to", "today-1"],
    "catalog": ["catalog"],
    "status of the bucket": ["status", "--remote"],
    "verify the bucket": ["verify", "--remote"],
    "push without a bucket": ["push"],
    "wrong setting": ["run", "--once", "--instrument", "BTCUSDT"],
    "wrong date": ["fill", "--from", "22.11.2026"],
    "unreachable": ["run", "--once", "--instrument", "cm:BTCUSD_PERP"],
    "nothing": [],
    "version": ["--version"],
}
IN_BUCKET = {"fleet fill", "fleet status", "push", "pull", "catalog", "status of the bucket", "verify the bucket"}
FAILS = dict.fromkeys(("wrong setting", "wrong date", "unreachable"), 78) | dict.fromkeys(IN_BUCKET, 75)
FAILS |= {"status check": 75, "rekey without encryption": 78, "push without a bucket": 78}


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_fits_the_terminal(name: str, columns: int, world: World) -> None:
    bucket = BUCKET if name in IN_BUCKET | {"fleet plan"} else {}
    words = world.dated(COMMANDS[name])
    terminal = Terminal(columns, *words, cwd=world.directory, environment=world.environment | bucket)
    code = terminal.end()
    # A daemon that ended within a minute counts as one that is behind.
    assert code == FAILS.get(name, 0) or (name, code) == ("status check", 1), terminal.scrollback()
    assert_fits(terminal, columns)


HELPS = """
import json, sys
from backfilld.__main__ import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["backfilld", *words]
    try:
        main()
    except SystemExit as end:
        print(f"{' '.join(words)} ended with {end.code}")
"""


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_help_of_each_command_fits_the_terminal(columns: int, tmp_path: Path) -> None:
    """All in one process: most of a short command's time is its imports."""
    pages = list(helps(cli))
    terminal = Terminal(columns, json.dumps(pages), cwd=tmp_path, environment={}, program=("-c", HELPS))
    assert terminal.end() == 0
    lines = terminal.scrollback()
    assert [line for line in lines if "--help ended with" in line] == [f"{' '.join(p)} ended with 0" for p in pages]
    assert sum(line.startswith("Usage: ") for line in lines) == len(pages)
    assert_fits(terminal, columns)


def assert_fits(terminal: Terminal, columns: int) -> None:
    """Something stands there; nothing is cut, and nothing was ever wider than the terminal."""
    lines = terminal.scrollback()
    assert lines
    assert [line for line in lines if is_too_wide(line, columns)] == []
    assert not any("…" in line for line in [*lines, terminal.widest])
    assert not is_too_wide(terminal.widest, columns)


def is_too_wide(line: str, columns: int) -> bool:
    """Wider than the terminal, but for a path or another word that cannot be broken."""
    return len(line) > columns and len(line.split()) > 1


@pytest.mark.parametrize("columns", WIDTHS)
def test_two_markets_and_an_outage(columns: int, tmp_path: Path) -> None:
    """Each instrument has its row, the one whose host is gone says so, and at the end no row is left behind."""
    spot_options = ["--trades", "150000", "--latency", "0.05"]
    um_options = ["--instrument", "um:ETHUSDT", "--trades", "60000", "--latency", "0.05"]
    # Shortly after midnight today has few trades.
    noon = shift_to("12:00")
    with exchange(*spot_options, **noon) as (_, spot), exchange(*um_options, **noon) as (futures, um):
        environment = noon | {"BACKFILL_SPOT_URL": spot, "BACKFILL_UM_URL": um, "BACKFILL_ARCHIVE_URL": spot}
        environment |= {"BACKFILL_LIVE": "false", "BACKFILL_POLL_SECONDS": "1", "BACKFILL_CACHE_DIR": "cache"}
        arguments = ["run", "--instrument", "spot:BTCUSDT,um:ETHUSDT"]
        terminal = Terminal(columns, *arguments, cwd=tmp_path, environment=environment)
        terminal.wait(lambda lines: row(lines, "spot:BTCUSDT", "%") or row(lines, "spot:BTCUSDT", " of "))
        terminal.wait(lambda lines: row(lines, "spot:BTCUSDT", "complete, newest trade"))
        terminal.wait(lambda lines: row(lines, "um:ETHUSDT", "complete, newest trade"))
        futures.kill()
        terminal.wait(lambda lines: row(lines, "um:ETHUSDT", "out of reach for"))
        terminal.wait(lambda lines: row(lines, "spot:BTCUSDT", "complete, newest trade"))
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0, terminal.scrollback()
    lines = terminal.scrollback()
    assert not is_too_wide(terminal.widest, columns)
    assert not any("…" in line or "━" in line or "╌" in line for line in lines), lines
    assert not any(line.startswith(("spot:", "um:", "spot weight")) for line in lines), lines
    assert "backfilld 0" in lines[0]
    assert "stopped by SIGINT" in lines[-1]
    assert len([line for line in lines if "out of reach" in line]) <= 2, lines


@pytest.mark.parametrize("columns", WIDTHS)
def test_live_streams_and_an_outage(columns: int, tmp_path: Path) -> None:
    """REST and the stream of one market go at once: its row says so, the other stays live, the log has a few lines."""
    with live_exchange("um:ETHUSDT") as (futures, um), live_exchange("spot:BTCUSDT") as (_, spot):
        environment = um | spot | {"BACKFILL_CACHE_DIR": "cache", "BACKFILL_POLL_SECONDS": "2"}
        environment |= {"BACKFILL_GRACE_SECONDS": "30"}
        arguments = ["run", "--instrument", "spot:BTCUSDT,um:ETHUSDT"]
        terminal = Terminal(columns, *arguments, cwd=tmp_path, environment=environment)
        terminal.wait(lambda lines: row(lines, "um:ETHUSDT", "live") and row(lines, "spot:BTCUSDT", "live"))
        futures.kill()
        terminal.wait(lambda lines: row(lines, "um:ETHUSDT", "out of reach for"))
        assert row(terminal.shown(), "spot:BTCUSDT", "live")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0, terminal.scrollback()
    lines = terminal.scrollback()
    assert not is_too_wide(terminal.widest, columns)
    assert not any("…" in line or "╌" in line for line in lines), lines
    assert not any(line.startswith(("spot:", "um:", "spot weight")) for line in lines), lines
    assert "stopped by SIGINT" in lines[-1]
    trouble = [line for line in lines if "warning" in line or "error" in line]
    assert len(trouble) <= 4, lines


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_tail_until_ctrl_c(columns: int, tmp_path: Path) -> None:
    """Trades as they come, by a stream of its own."""
    with live_exchange("spot:BTCUSDT") as (_, spot):
        environment = spot | {"BACKFILL_CACHE_DIR": "cache"}
        terminal = Terminal(columns, "tail", "spot:BTCUSDT", cwd=tmp_path, environment=environment)
        terminal.wait(lambda lines: len(lines) > 3)
        terminal.process.send_signal(signal.SIGINT)
        terminal.end()
    assert not is_too_wide(terminal.widest, columns)
    assert all(" @ " in line for line in terminal.scrollback()), terminal.scrollback()


def row(lines: list[str], instrument: str, words: str) -> bool:
    """Whether there is a row of the instrument with these words."""
    return any(line.startswith(instrument) and words in line for line in lines)


def test_an_unreachable_host_is_a_few_lines(tmp_path: Path) -> None:
    """In the half minute that a single run tries: on a terminal and as JSON."""
    environment = {"BACKFILL_SPOT_URL": "http://127.0.0.1:1"}
    with subprocess.Popen(
        [sys.executable, "-m", "backfilld", "run", "--once"],
        cwd=tmp_path,
        env=os.environ | environment | {"BACKFILL_CACHE_DIR": "piped"},
        stdout=subprocess.PIPE,
        text=True,
    ) as piped:
        terminal = Terminal(
            80, "run", "--once", cwd=tmp_path, environment=environment | {"BACKFILL_CACHE_DIR": "cache"}
        )
        assert terminal.end() == 75
        lines = piped.communicate(timeout=60)[0].splitlines()
    assert len(terminal.scrollback()) <= 9, terminal.scrollback()
    warned = [line for line in map(json.loads, lines) if line["level"] != "info"]
    assert 1 <= len(warned) <= 4, warned
