"""The command line as a process: what it prints, what it deletes, and its exit codes."""

import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backfilld import BackfillCacheManager, Settings
from backfilld.store.lock import locked
from backfilld.surfaces.cli import cli, main
from tests.store.frames import day_frame
from tests.surfaces.commands import backfilld, filled_cache

# -- status


def test_status_as_json_tells_every_day_file(tmp_path: Path) -> None:
    done = backfilld("status", "--cache-dir", str(filled_cache(tmp_path / "cache")), "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["cache_dir"] == str(tmp_path / "cache")
    short = ("instrument", "day", "state", "trades", "missing", "first_id", "last_id")
    assert [tuple(day[name] for name in short) for day in document["days"]] == [
        ("spot:BTCUSDT", "2025-11-05", "sealed", 1234, 0, 1000, 2233),
        ("spot:BTCUSDT", "2025-11-06", "holes", 20, 10, 3000, 3029),
        ("spot:BTCUSDT", "2025-11-07", "bad", 0, 0, None, None),
        ("um:ETHUSDT", "2025-11-07", "whole", 5, 0, 5, 9),
    ]
    assert [day["reason"] is not None for day in document["days"]] == [False, False, True, False]
    assert all(day["bytes"] > 0 for day in document["days"])


def test_status_draws_a_calendar_and_lists_what_is_not_sealed_and_changes_nothing(tmp_path: Path) -> None:
    cache = filled_cache(tmp_path / "cache")
    before = sorted(cache.rglob("*"))
    done = backfilld("status", "--cache-dir", str(cache), cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("spot:BTCUSDT: 1 sealed, 1 partial, 1 bad; 1,254 trades, ")
    assert lines[1] == "  2025-11-05 00:00:01 to 2025-11-06 00:00:15 UTC; 10 ids missing"
    assert lines[2] == "  2025-11      #+x"
    rows = [line.split() for line in done.stdout.replace("│", " ").splitlines()]
    assert ["spot:BTCUSDT", "2025-11-06", "partial", "20", "10"] in [row[:5] for row in rows]
    assert ["spot:BTCUSDT", "2025-11-07", "bad"] in [row[:3] for row in rows]
    assert ["um:ETHUSDT", "2025-11-07", "partial", "5", "0"] in [row[:5] for row in rows]
    assert "2025-11-05" not in [row[1] for row in rows if len(row) > 5]
    assert sorted(cache.rglob("*")) == before


def test_status_in_a_pipe_shows_instruments_and_days_in_full(tmp_path: Path) -> None:
    """Without a terminal no width is known: nothing may be cut to fit one."""
    cache = str(filled_cache(tmp_path / "cache"))
    done = backfilld("status", "--cache-dir", cache, cwd=tmp_path, COLUMNS="")
    assert "…" not in done.stdout
    assert "spot:BTCUSDT" in done.stdout
    assert "2025-11-05" in done.stdout


def test_status_of_one_instrument_and_of_an_empty_cache(tmp_path: Path) -> None:
    cache = str(filled_cache(tmp_path / "cache"))
    only = backfilld("status", "--cache-dir", cache, "--instrument", "um:ETHUSDT", "--json", cwd=tmp_path)
    assert [day["instrument"] for day in json.loads(only.stdout)["days"]] == ["um:ETHUSDT"]
    (tmp_path / "empty").mkdir()
    empty = backfilld("status", "--cache-dir", "empty", cwd=tmp_path)
    assert (empty.returncode, empty.stdout) == (0, "empty has no day files\nno daemon runs\n")
    first = backfilld("status", cwd=tmp_path)
    assert (first.returncode, "has no day files" in first.stdout) == (0, True)
    assert not list(tmp_path.glob("context*"))


def test_status_reads_while_a_daemon_holds_the_cache(tmp_path: Path) -> None:
    cache = filled_cache(tmp_path / "cache")
    with locked(cache):
        assert backfilld("status", "--cache-dir", str(cache), cwd=tmp_path).returncode == 0


# -- cleanup


@pytest.fixture
def week(tmp_path: Path) -> BackfillCacheManager:
    """A cache with the last seven days, today among them."""
    manager = BackfillCacheManager(tmp_path / "cache" / "market=spot" / "symbol=BTCUSDT")
    today = datetime.now(UTC).date()
    for ago in range(7):
        manager.append(today - timedelta(days=ago), day_frame([1000], today - timedelta(days=ago)))
    return manager


def test_cleanup_deletes_what_is_older_and_names_it(tmp_path: Path, week: BackfillCacheManager) -> None:
    oldest = [week.get_cache_path(day) for day in week.days()]
    done = backfilld("cleanup", "--cache-dir", "cache", "--keep-days", "4", cwd=tmp_path)
    deleted = [line.removeprefix("deleted ") for line in done.stdout.splitlines() if line.startswith("deleted ")]
    gone = [str(path.relative_to(tmp_path)) for path in oldest if not path.exists()]
    assert done.returncode == 0
    assert deleted == gone
    assert len(gone) in {2, 3}  # three if midnight has passed meanwhile
    assert done.stdout.splitlines()[-1] == f"{len(gone)} day files older than 4 days deleted"


@pytest.mark.parametrize("keep_days", ["0", "7", "100000"])
def test_cleanup_that_keeps_all_deletes_nothing(tmp_path: Path, week: BackfillCacheManager, keep_days: str) -> None:
    done = backfilld("cleanup", "--cache-dir", "cache", "--keep-days", keep_days, cwd=tmp_path)
    assert done.returncode == 0
    assert len(week.days()) == 7


def test_cleanup_of_another_instrument_leaves_this_one(tmp_path: Path, week: BackfillCacheManager) -> None:
    arguments = ("--cache-dir", "cache", "--keep-days", "1", "--instrument", "um:ETHUSDT")
    assert backfilld("cleanup", *arguments, cwd=tmp_path).returncode == 0
    assert len(week.days()) == 7


def test_cleanup_waits_for_no_daemon(tmp_path: Path, week: BackfillCacheManager) -> None:
    """75: try again when it has ended. Nothing is deleted under its hands."""
    with locked(tmp_path / "cache"):
        done = backfilld("cleanup", "--cache-dir", "cache", "--keep-days", "1", cwd=tmp_path)
    assert done.returncode == 75
    assert done.stderr.startswith("backfilld: the cache cache is held by another backfilld, process ")
    assert len(week.days()) == 7


# -- check-config and help


def test_check_config_prints_what_is_in_force_as_toml(tmp_path: Path) -> None:
    """What it prints is a config file that means the same."""
    (tmp_path / "my.toml").write_text('days = 3\ninstruments = ["spot:币安人生USDT", "um:ETHUSDT"]\n')
    done = backfilld("check-config", "--config", "my.toml", cwd=tmp_path, BACKFILL_POLL_SECONDS="7")
    assert (done.returncode, done.stderr) == (0, "")
    assert 'instruments = ["spot:币安人生USDT", "um:ETHUSDT"]\n' in done.stdout
    (tmp_path / "printed.toml").write_text(done.stdout)
    expected = Settings(config=tmp_path / "my.toml", poll_seconds=7, live=False)
    assert Settings(config=tmp_path / "printed.toml") == expected
    assert not (tmp_path / "context_history_dir").exists()


@pytest.mark.parametrize("arguments", [("--help",), ("run", "-h"), ("status", "--help"), ("--version",)])
def test_help_and_version_are_answers_and_no_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = backfilld(*arguments, cwd=tmp_path, BACKFILL_DAYS="nonsense")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_reader_that_leaves_early_crashes_nothing(tmp_path: Path) -> None:
    """``backfilld check-config | head -1``: no traceback of a broken pipe."""
    command = f"{sys.executable} -m backfilld check-config | true"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr


def test_check_config_says_what_polling_costs_and_warns_above_the_share(tmp_path: Path) -> None:
    few = backfilld("check-config", "--instrument", "spot:BTCUSDT,um:ETHUSDT", cwd=tmp_path)
    assert "# spot: polls take at most 8 of 4,800 weight a minute\n" in few.stdout
    assert "WARNING" not in few.stdout
    often = backfilld("check-config", "--instrument", "um:ETHUSDT", cwd=tmp_path, BACKFILL_POLL_SECONDS="0.5")
    assert often.returncode == 0
    assert often.stdout.splitlines()[-1].startswith("# WARNING, futures: polls take at most 2,400 of 1,920 weight")


# -- refusals


BAD_CALLS: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "malformed instrument": (("run", "--instrument", "BTCUSDT"), {}, "instruments = BTCUSDT: write market:SYMBOL"),
    "instrument that leads out": (("run", "--instrument", "spot:../x"), {}, "a symbol is 1 to 60 letters"),
    "bad instrument of two": (("status", "--instrument", "spot:A", "--instrument", "x:B"), {}, "instrument 'x:B'"),
    "bad setting": (("run",), {"BACKFILL_DAYS": "many"}, "days = many: input should be a valid integer"),
    "bad instruments setting": (
        ("run",),
        {"BACKFILL_INSTRUMENTS": "moon:BTC"},
        "(from the environment, BACKFILL_INSTRUMENTS)",
    ),
    "url": (("run",), {"BACKFILL_SPOT_URL": "localhost:80"}, "spot_url = localhost:80: a base URL is http://"),
    "url with a path": (("run",), {"BACKFILL_UM_URL": "https://x/fapi"}, "um_url = https://x/fapi: a base URL is"),
    "config is a directory": (
        ("run", "--config", "directory"),
        {},
        "config directory: it cannot be read (Is a directory)",
    ),
    "config is missing": (
        ("check-config", "--config", "missing"),
        {},
        "config missing: it cannot be read (No such file",
    ),
    "config is no toml": (("run", "--config", "no.toml"), {}, "config no.toml: it is not TOML"),
    "config has an unknown key": (("run", "--config", "unknown.toml"), {}, "there is no setting day, did you mean"),
    "cache is a file": (("run", "--cache-dir", "file"), {}, "cache_dir = file: it must be a directory"),
    "cache to look at is missing": (
        ("status", "--cache-dir", "nope"),
        {},
        "cache_dir = nope: there is no such directory",
    ),
    "cache to clean is missing": (("cleanup", "--keep-days", "1"), {}, "there is no such directory"),
    "home of nobody": (("run", "--cache-dir", "~nobody-of-this-name/x"), {}, "cache_dir"),
    "no such option": (("run", "--nope"), {}, "No such option"),
    "no such command": (("fly",), {}, "No such command 'fly'"),
    "missing option": (("cleanup",), {}, "Missing option '--keep-days'"),
    "negative days": (("cleanup", "--keep-days", "-1"), {}, "Invalid value for '--keep-days'"),
    "too much": (("run", "now"), {}, "unexpected extra argument"),
    "day to come": (("chart", "spot:A", "--day", "2999-12-31"), {}, "--day 2999-12-31 lies in the future"),
    "last day of all": (("export", "spot:A", "--from", "2025-11-01", "--to", "9999-12-31"), {}, "lies in the future"),
    "day before the exchange": (
        ("chart", "spot:A", "--day", "0001-01-01"),
        {},
        "--day 0001-01-01 is before 2017-07-14",
    ),
    "digits of another script": (("fill", "--from", "２０２５-11-01"), {}, "is not a day; write one as"),  # noqa: RUF001
    "two where one is taken": (("tail", "btc/usdt,um:A"), {}, "instruments spot:BTCUSDT, um:A: this command takes one"),
    "tail from the future": (("tail", "spot:A", "--from", "2999-01-01"), {}, "start 2999-01-01 lies in the future"),
    "id that no trade has": (("tail", "spot:A", "--from-id", f"{2**70}"), {}, "a whole number from 0 to 2^53"),
    "lag that is no number": (("status", "--check", "--max-lag", "nan"), {}, "--max-lag nan: it must be a number"),
    "lag without check": (("status", "--max-lag", "30"), {}, "--max-lag goes with --check"),
    "deep without remote": (("verify", "--deep"), {}, "--deep goes with --remote"),
    "no such scheduler": (("fleet", "worker", "--scheduler", "x"), {}, "write tcp://HOST:8786 or tls://HOST:8786"),
    "no such client": (("connect", "x"), {}, "Invalid value for 'CLIENT': 'x' is not one of"),
    "demo in a file": (
        ("demo", "--trades", "1000", "--cache-dir", "file"),
        {},
        "cache_dir = file: it must be a directory",
    ),
    "too few trades": (("demo", "--trades", "10"), {}, "Invalid value for '--trades'"),
}


@pytest.mark.parametrize(("arguments", "environment", "said"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_what_the_operator_must_change_is_one_line_and_78(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "no.toml").write_text("days: 3")
    (tmp_path / "unknown.toml").write_text("day = 3")
    done = backfilld(*arguments, cwd=tmp_path, **environment)
    assert done.returncode == 78, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("backfilld: ")
    assert said in line


@pytest.mark.parametrize(
    ("ending", "code", "said"), [("none/x.csv", 1, "cannot write none/x.csv: No such file"), ("", 78, "--out is empty")]
)
def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path, ending: str, code: int, said: str) -> None:
    filled_cache(tmp_path / "cache")
    span = ("--from", "2025-11-05", "--to", "2025-11-05")
    done = backfilld("export", "spot:BTCUSDT", *span, "--out", ending, "--cache-dir", "cache", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert said in line


@pytest.mark.parametrize("arguments", [("--help",), ("check-config",), ("status", "--cache-dir", "cache")])
def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    filled_cache(tmp_path / "cache")
    command = [sys.executable, "-m", "backfilld", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == "backfilld: stdout cannot be written: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", ["check-config", "status --cache-dir cache"])
def test_a_closed_stdout_is_dev_null(tmp_path: Path, arguments: str) -> None:
    filled_cache(tmp_path / "cache")
    command = ["sh", "-c", f"exec '{sys.executable}' -m backfilld {arguments} <&- >&-"]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)


def test_what_fetches_a_missing_day_names_the_cache_that_was_named(tmp_path: Path) -> None:
    done = backfilld("chart", "spot:BTCUSDT", "--day", "2025-11-05", "--cache-dir", "my cache", cwd=tmp_path)
    fill = "backfilld fill --from 2025-11-05 --to 2025-11-05 --instrument spot:BTCUSDT --cache-dir 'my cache'"
    assert f"there is no trade to draw; {fill} fetches what is missing" in done.stderr


def test_a_worker_of_a_fleet_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['distributed'] = None; from backfilld.__main__ import main; main()"
    command = [sys.executable, "-c", program, "fleet", "worker", "--scheduler", "tcp://127.0.0.1:1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.splitlines()[-1].endswith("pip install 'backfilld[fleet]'")


def test_a_broken_dotenv_is_one_line_and_78(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"BACKFILL_DAYS=\xff\n")
    done = backfilld("check-config", cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode == 78


def test_a_cache_that_cannot_be_made_is_one_line_and_78(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = backfilld("run", "--once", "--cache-dir", "file/cache", cwd=tmp_path, BACKFILL_SPOT_URL="http://127.0.0.1:1")
    assert done.returncode == 78
    rule = "backfilld must be able to write to this directory: Not a directory"
    place = f"cache_dir = {tmp_path}/file/cache: {rule}"
    assert done.stderr.splitlines() == [f"backfilld: {place} (from --cache-dir)"]


def test_a_cache_that_another_process_uses_is_one_line_and_75(tmp_path: Path) -> None:
    with locked(tmp_path / "cache"):
        done = backfilld("run", "--cache-dir", "cache", cwd=tmp_path, BACKFILL_SPOT_URL="http://127.0.0.1:1")
    assert done.returncode == 75
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"backfilld: the cache {tmp_path}/cache is held by another backfilld, process ")
    first, *_, last = (json.loads(each) for each in done.stdout.splitlines())
    assert list(first)[:3] == list(last)[:3] == ["timestamp", "level", "event"]
    assert (first["event"], first["instruments"], first["cache_dir"]) == (
        "daemon_started", ["spot:BTCUSDT"], f"{tmp_path}/cache"
    )  # fmt: skip
    assert first["version"].count(".") == 2
    assert first["pid"] > 1
    assert (last["event"], last["exit_code"], last["outcome"]) == (
        "daemon_stopped", 75, line.removeprefix("backfilld: ")
    )  # fmt: skip


def test_a_demo_leaves_a_cache_of_real_trades_alone(tmp_path: Path) -> None:
    cache = filled_cache(tmp_path / "cache")
    before = sorted(cache.rglob("*"))
    done = backfilld("demo", "--trades", "1000", "--cache-dir", "cache", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert "it has day files already, and the demo's trades are invented" in done.stderr
    assert sorted(cache.rglob("*")) == before


def test_a_demo_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['starlette'] = None; from backfilld.__main__ import main; main()"
    command = [sys.executable, "-c", program, "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1].endswith("pip install 'backfilld[demo]'")
    assert "Traceback" not in done.stderr


def test_the_summaries_of_help_are_whole_at_60_columns(tmp_path: Path) -> None:
    done = backfilld("--help", cwd=tmp_path, COLUMNS="60")
    assert not [line for line in done.stdout.splitlines() if line.endswith("...") and "ARGS" not in line]
    assert max(map(len, done.stdout.splitlines())) <= 60


# -- what nobody has thought of


def test_what_the_system_refuses_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no traceback, whichever file it is."""

    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/srv/cache")

    monkeypatch.setattr(cli, "main", refuse)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert capsys.readouterr().err == "backfilld: /srv/cache cannot be used: Permission denied\n"
