"""What each command imports before it does its work: a start is as fast as its libraries, and the count of them is the
same on every machine."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backfilld.surfaces import startup
from tests.surfaces.commands import filled_cache

HEAVY = (
    "asyncio",
    "httpx",
    "msgspec",
    "numpy",
    "polars",
    "pyarrow",
    "pydantic",
    "rich",
    "structlog",
    "trio",
    "websockets",
)

PROGRAM = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr))
sys.argv[0] = "backfilld"
from backfilld.__main__ import main
main()
"""

ASKS_NOTHING: set[str] = set()
SETTINGS = {"msgspec", "pydantic"}
DAY_FILES = SETTINGS | {"numpy", "polars", "pyarrow", "rich", "structlog", "asyncio"}


def imported(cwd: Path, *arguments: str, **environment: str) -> tuple[set[str], str]:
    """Which of the heavy modules a command has imported when it ends, and what it has printed."""
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("BACKFILL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=cwd,
        env=clean | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return set(json.loads(done.stderr.splitlines()[-1])), done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["status", "--help"]])
def test_help_and_version_import_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    assert imported(tmp_path, *arguments)[0] == ASKS_NOTHING


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "backfilld sta", "COMP_CWORD": "1", "_BACKFILLD_COMPLETE": "bash_complete"}
    assert imported(tmp_path, **words) == (ASKS_NOTHING, "plain,status\n")


@pytest.mark.parametrize("arguments", [["check-config"], ["status"], ["status", "--json"], ["status", "--check"]])
def test_a_command_without_day_files_imports_no_more_than_the_settings_need(
    tmp_path: Path, arguments: list[str]
) -> None:
    assert imported(tmp_path, *arguments)[0] <= SETTINGS


@pytest.mark.parametrize("command", ["status", "verify"])
def test_what_reads_day_files_imports_neither_http_nor_an_event_loop(tmp_path: Path, command: str) -> None:
    filled_cache(tmp_path / "cache")
    found, _ = imported(tmp_path, command, "--cache-dir", "cache")
    assert "pyarrow" in found
    assert found <= DAY_FILES


def test_status_of_plain_days_reads_their_footers_by_itself(tmp_path: Path) -> None:
    for bad in (path for path in filled_cache(tmp_path / "cache").rglob("*.parquet") if path.stat().st_size < 10):
        bad.unlink()
    found, printed = imported(tmp_path, "status", "--cache-dir", "cache")
    assert "trades" in printed
    assert found <= SETTINGS


def test_a_daemon_starts_without_the_packages_that_it_does_not_use() -> None:
    """They are hidden while it imports its libraries, and there again afterwards: a progress bar needs one of them."""
    program = """
import sys
from backfilld.surfaces.startup import UNUSED, import_daemon
import_daemon()
print(*(name for name in UNUSED if name in sys.modules), "httpcore" in sys.modules, "trio" in sys.modules)
import rich.console
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr


@pytest.mark.parametrize(
    ("phase", "generation", "most", "is_frozen"),
    [("stop", 2, 0, True), ("stop", 2, 1 << 40, False), ("stop", 1, 0, False), ("start", 2, 0, False)],
)
def test_what_outlived_a_collection_is_left_out_of_the_next_ones_where_it_is_much(
    phase: str, generation: int, most: int, is_frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(startup, "MOST_LOOKED_AT", most)
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    startup._let_survivors_be(phase, {"generation": generation})
    assert bool(frozen) is is_frozen


def test_no_full_collection_of_garbage_looks_at_much_while_the_state_of_many_instruments_grows() -> None:
    program = """
import gc
from backfilld.surfaces.startup import settle
settle()
looked_at = []
def look(phase, collection):
    if phase == "start" and collection["generation"] == 2:
        looked_at.append(len(gc.get_objects()))
gc.callbacks.append(look)
state = [[number] for number in range(300_000)]
print(max(looked_at, default=0))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert int(done.stdout) <= 15_000, done.stderr
