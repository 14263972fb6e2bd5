"""Real commands on a real terminal of 80 and 60 columns: nothing is cut, nothing is wrapped, no stale line stays."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.surfaces.terminal import Terminal

TODAY = datetime.now(UTC).date()
YESTERDAY = str(TODAY - timedelta(days=1))
WIDTHS = [80, 60]


@contextmanager
def exchange(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """An exchange in a process of its own, which can be killed, and its URL."""
    command = [sys.executable, "-m", "binance_simulator", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory with a cache of three days, and the settings for its exchange."""
    directory = tmp_path_factory.mktemp("t")
    markets = ["--instrument", "spot:BTCUSDT", "--instrument", "um:ETHUSDT"]
    with exchange("--days", "4", "--daily-trades", "20000", *markets) as (_, url):
        environment = {f"BACKFILL_{name}_URL": url for name in ("SPOT", "UM", "CM", "ARCHIVE")}
        environment |= {"BACKFILL_CACHE_DIR": "cache", "BACKFILL_LIVE": "false"}
        environment |= {"BACKFILL_INSTRUMENTS": "spot:BTCUSDT um:ETHUSDT"}
        fill = [sys.executable, "-m", "backfilld", "fill", "--from", str(TODAY - timedelta(days=3))]
        subprocess.run(fill, cwd=directory, env=os.environ | environment, check=True, capture_output=True, timeout=60)
        yield directory, environment


COMMANDS = {
    "status": ["status"],
    "status of one": ["status", "--instrument", "um:ETHUSDT"],
    "dry run": ["fill", "--from", str(TODAY - timedelta(days=4)), "--to", YESTERDAY, "--dry-run"],
    "fill": ["fill", "--from", YESTERDAY],
    "run once": ["run", "--once"],
    "verify": ["verify"],
    "verify against the archive": ["verify", "--against", "archive"],
    "cleanup": ["cleanup", "--keep-days", "1", "--dry-run"],
    "check-config": ["check-config"],
    "chart": ["chart", "spot:BTCUSDT", "--day", YESTERDAY, "--out", "day.html"],
    "export": ["export", "spot:BTCUSDT", "--from", YESTERDAY, "--every", "1h", "--out", "bars.csv"],
    "export to stdout": ["export", "spot:BTCUSDT", "--from", YESTERDAY, "--every", "6h"],
    "demo": ["demo", "--trades", "2000"],
    "wrong setting": ["run", "--once", "--instrument", "BTCUSDT"],
    "wrong date": ["fill", "--from", "22.11.2026"],
    "unreachable": ["run", "--once", "--instrument", "cm:BTCUSD_PERP"],
    "help": ["--help"],
    **{
        f"help of {name}": [name, "--help"]
        for name in (
            *("run", "fill", "status", "verify", "adopt", "export", "chart", "tail"),
            *("demo", "check-config", "cleanup", "push", "pull", "catalog"),
        )
    },
}
FAILS = {"wrong setting": 78, "wrong date": 78, "unreachable": 78}


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_fits_the_terminal(name: str, columns: int, world: tuple[Path, dict[str, str]]) -> None:
    directory, environment = world
    terminal = Terminal(columns, *COMMANDS[name], cwd=directory, environment=environment)
    code = terminal.end()
    lines = terminal.scrollback()
    assert code == FAILS.get(name, 0), lines
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
    with exchange(*spot_options) as (_, spot), exchange(*um_options) as (futures, um):
        environment = {"BACKFILL_SPOT_URL": spot, "BACKFILL_UM_URL": um, "BACKFILL_ARCHIVE_URL": spot}
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
        assert terminal.end() == 0
    lines = terminal.scrollback()
    assert not is_too_wide(terminal.widest, columns)
    assert not any("…" in line or "━" in line or "╌" in line for line in lines), lines
    assert not any(line.startswith(("spot:", "um:", "spot weight")) for line in lines), lines
    assert "backfilld 0" in lines[0]
    assert "stopped by SIGINT" in lines[-1]
    assert len([line for line in lines if "out of reach" in line]) <= 2, lines


def row(lines: list[str], instrument: str, words: str) -> bool:
    """Whether there is a row of the instrument with these words."""
    return any(line.startswith(instrument) and words in line for line in lines)


def test_an_unreachable_host_is_a_few_lines(tmp_path: Path) -> None:
    """In the half minute that a single run tries: on a terminal and as JSON."""
    environment = {"BACKFILL_SPOT_URL": "http://127.0.0.1:1", "BACKFILL_CACHE_DIR": "cache"}
    terminal = Terminal(80, "run", "--once", cwd=tmp_path, environment=environment)
    assert terminal.end() == 75
    assert len(terminal.scrollback()) <= 9, terminal.scrollback()
    piped = subprocess.run(
        [sys.executable, "-m", "backfilld", "run", "--once"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    warned = [line for line in map(json.loads, piped.stdout.splitlines()) if line["level"] != "info"]
    assert 1 <= len(warned) <= 4, warned
