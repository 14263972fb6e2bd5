"""Runs inside the booted tree, as a oneshot unit: tries the service as an operator would and writes down what it found.

Owns the trials and what each must show. Each finding is written as it is made, so that a trial that hangs loses only
itself. The exchange is the embedded one, on the tree's own loopback.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import polars as pl

OUT = Path(sys.argv[1])
"""The directory for findings.json and the journal."""

PORT = 8099
URL = f"http://127.0.0.1:{PORT}"
UNIT = "backfilld.service"
CONFIG = Path("/etc/backfilld/backfilld.toml")
DROP_IN = Path("/etc/systemd/system/backfilld.service.d/test.conf")
STATE = Path("/var/lib/backfilld")
PRIVATE = Path("/var/lib/private/backfilld")
CACHE = STATE / "context_history_dir" / "backfill_cache"
BTC, ETH = "spot:BTCUSDT", "um:ETHUSDT"

TRADES = 40_000
LATENCY_S = 0.2
"""So slow that a first backfill takes a few seconds, and a wait for it can be distinguished from none."""

GRACE_S = 10
DYNAMIC_USERS = range(61184, 65520)
PRIORITIES = {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}

Anomalies = Mapping[str, object]


class Failed(Exception):
    """A trial did not show what it must; ``evidence`` says what it showed."""

    def __init__(self, sentence: str, evidence: Anomalies) -> None:
        super().__init__(sentence)
        self.evidence = evidence


def require(evidence: Anomalies, **rules: object) -> Anomalies:
    """The evidence, if every rule is true; its name is said where it is not."""
    broken = [name.replace("_", " ") for name, holds in rules.items() if not holds]
    if broken:
        raise Failed("; ".join(f"not so: {each}" for each in broken), evidence)
    return evidence


# -- systemd


def run(*command: str, timeout_s: float = 40) -> "subprocess.CompletedProcess[str]":
    """A command, ended or given up."""
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout_s)


def systemctl(*arguments: str) -> int:
    return run("systemctl", *arguments).returncode


def show() -> dict[str, str]:
    """What systemd says of the service."""
    names = "ActiveState,SubState,Result,MainPID,NRestarts,ExecMainStatus,ExecMainCode,StatusText,FragmentPath"
    lines = run("systemctl", "show", UNIT, f"--property={names}").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def main_pid() -> int:
    """The daemon's process: never 0, which to kill(2) would be all of ours."""
    shown = show()
    if shown["MainPID"] == "0":
        raise Failed("not so: the daemon runs", shown)
    return int(shown["MainPID"])


def wait_until(true: Callable[[], object], timeout_s: float) -> float | None:
    """The seconds until it was true, or None if it never was."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        if true():
            return round(time.monotonic() - began, 2)
        time.sleep(0.1)
    return None


def is_another_running(pid: int) -> bool:
    shown = show()
    return shown["ActiveState"] == "active" and int(shown["MainPID"]) not in {0, pid}


def journal(*arguments: str) -> list[dict[str, Any]]:
    """The entries of the program itself, not of systemd about it."""
    run("journalctl", "--sync")
    lines = run("journalctl", "-o", "json", "-u", UNIT, *arguments).stdout.splitlines()
    return [entry for entry in map(json.loads, lines) if entry.get("SYSLOG_IDENTIFIER") == "backfilld"]


def configure(instruments: tuple[str, ...] = (BTC,), poll_seconds: float = 2, **more: object) -> None:
    """Write the configuration; JSON's texts, numbers and lists are TOML's."""
    urls = dict.fromkeys(("spot_url", "um_url", "cm_url", "archive_url"), URL)
    settings = {
        "live": False,
        "instruments": instruments,
        "poll_seconds": poll_seconds,
        # The trials look at the day files.
        "save_seconds": 0,
        "checkpoint_seconds": 1,
        **urls,
        **more,
    }
    CONFIG.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))


def drop_in(**settings: object) -> None:
    """Change the unit as `systemctl edit` would."""
    DROP_IN.parent.mkdir(exist_ok=True)
    DROP_IN.write_text("[Service]\n" + "".join(f"{name}={value}\n" for name, value in settings.items()))
    systemctl("daemon-reload")


def forget() -> None:
    """Stop the service and delete what it has stored."""
    systemctl("stop", UNIT)
    systemctl("reset-failed", UNIT)
    run("rm", "-rf", str(STATE / "context_history_dir"))


# -- the exchange, and what is on disk


@contextmanager
def exchange() -> Iterator[None]:
    """The embedded exchange, with trades from shortly before midnight until now, at any hour nearly all of them of
    today, and some a second from then on."""
    now = datetime.now(UTC)
    hours = 1.05 * (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds() / 3600
    options = {"port": PORT, "hours": hours, "trades": TRADES, "latency": LATENCY_S, "live-rate": 5}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "binance_simulator", *arguments, f"--instrument={BTC}", f"--instrument={ETH}"]
    packages = os.environ | {"PYTHONPATH": "/opt/exchange"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=packages) as process:
        assert process.stdout is not None
        assert process.stdout.readline(), "the embedded exchange did not start"
        try:
            yield
        finally:
            process.terminate()


def ask(path: str, body: object = None) -> bytes:
    """The answer of the exchange's own paths."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{URL}/simulator/{path}", data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=20) as answer:
        return bytes(answer.read())


def requests_so_far() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ask("requests"))
    return found


def cost_since(before: int) -> tuple[int, int]:
    """Requests, and trades served, after so many requests."""
    later = requests_so_far()[before:]
    return len(later), sum(each["rows"] for each in later)


def day_file(instrument: str) -> Path:
    market, symbol = instrument.split(":")
    return CACHE / f"market={market}" / f"symbol={symbol}" / f"backfill_{datetime.now(UTC):%Y-%m-%d}.parquet"


def todays_ids(instrument: str) -> set[int]:
    """The ids of today that the exchange shows at this moment."""
    market, symbol = instrument.split(":")
    tape = pl.read_ipc(BytesIO(ask(f"tape?market={market}&symbol={symbol}")))
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return set(tape.filter(pl.col("T") >= midnight.timestamp() * 1000)["a"])


def stored_ids(instrument: str) -> set[int]:
    """The ids on disk. The file is opened once: polars opens a path twice, and it may be another file by then."""
    path = day_file(instrument)
    return set(pl.read_parquet(BytesIO(path.read_bytes()), columns=["a"])["a"]) if path.exists() else set()


def strangers() -> list[str]:
    """Files of the cache that are neither day files nor the daemon's memory: temporary ones, or moved aside."""
    files = (path for path in CACHE.rglob("*") if path.is_file() and ".backfilld" not in path.parts)
    memory = (path for path in (CACHE / ".backfilld").glob("*.tmp-*"))
    return [str(path) for path in [*(each for each in files if each.suffix != ".parquet"), *memory]]


def clock_ahead_s() -> float:
    """How far this program's clock is ahead of the kernel's, which stamps files."""
    OUT.joinpath("now").touch()
    return time.time() - OUT.joinpath("now").stat().st_mtime


# -- the trials


def started_when_complete() -> Anomalies:
    """(a) start blocks until READY, and then the trades are there."""
    configure()
    wanted = todays_ids(BTC)
    began = time.monotonic()
    with subprocess.Popen(["systemctl", "start", UNIT]) as start:
        states = []
        while start.poll() is None and time.monotonic() - began < 60:
            states.append((show()["ActiveState"], len(stored_ids(BTC))))
            time.sleep(0.1)
        start.kill()
    stored, shown = stored_ids(BTC), show()
    now, started_at = datetime.now(UTC), json.loads(journal()[0]["MESSAGE"])["timestamp"]
    evidence = {
        "here": now.isoformat(),
        "there": started_at,
        "seconds": round(time.monotonic() - began, 2),
        "code": start.returncode,
        "wanted": len(wanted),
        "stored": len(stored),
        "missing": len(wanted - stored),
        "stored_while_activating": max((rows for state, rows in states if state == "activating"), default=None),
        **shown,
    }
    return require(
        evidence,
        start_succeeded=start.returncode == 0,
        it_has_the_clock_of_these_trials=abs(now - datetime.fromisoformat(started_at)) < timedelta(minutes=2),
        the_clock_is_shifted_as_asked=abs(clock_ahead_s() - float(os.environ.get("CLOCK_AHEAD_S", "0"))) < 5,
        it_was_seen_activating_with_less_than_the_day=any(
            state == "activating" and rows < len(wanted) for state, rows in states
        ),
        it_is_active=shown["ActiveState"] == "active",
        every_trade_of_today_is_on_disk=wanted and wanted <= stored,
        systemd_found_the_installed_unit=shown["FragmentPath"].startswith("/usr/local/"),
        a_status_is_shown=shown["StatusText"],
    )


def reloaded() -> Anomalies:
    """(b) reload keeps the process and picks up a new instrument."""
    pid, wanted = main_pid(), todays_ids(ETH)
    # A setting that only a restart changes comes along: the daemon must warn of it.
    configure((BTC, ETH), request_timeout_seconds=19)
    code = systemctl("reload", UNIT)
    seconds = wait_until(lambda: wanted <= stored_ids(ETH), 30)
    evidence = {"code": code, "pid_before": pid, "wanted": len(wanted), "stored": len(stored_ids(ETH)), **show()}
    return require(
        {"seconds": seconds, **evidence},
        reload_succeeded=code == 0,
        the_process_is_the_same=main_pid() == pid,
        the_new_instrument_is_complete=wanted and seconds is not None,
        it_is_active=show()["ActiveState"] == "active",
    )


def wrong_reload_refused() -> Anomalies:
    """(b2) reload with a wrong setting changes nothing and is said."""
    pid = main_pid()
    configure(days=-1)
    systemctl("reload", UNIT)
    seconds = wait_until(lambda: any("reload_refused" in entry["MESSAGE"] for entry in journal("-p", "err")), 10)
    stored = len(stored_ids(BTC))
    grows = wait_until(lambda: len(stored_ids(BTC)) > stored, 15)
    evidence = {"seconds": seconds, "went_on_after": grows, "pid_before": pid, **show()}
    return require(
        evidence,
        the_refusal_is_an_error_in_the_journal=seconds is not None,
        the_process_is_the_same=main_pid() == pid,
        it_goes_on=grows is not None,
    )


def journal_has_priorities() -> Anomalies:
    """(g) JSON lines in the journal, each with its priority."""
    entries = journal()
    lines = [(json.loads(entry["MESSAGE"]), entry["PRIORITY"]) for entry in entries]
    wrong = [line for line, priority in lines if priority != PRIORITIES[line["level"]]]
    warnings = [json.loads(entry["MESSAGE"]) for entry in journal("-p", "warning")]
    counts = {level: sum(line["level"] == level for line, _ in lines) for level in PRIORITIES}
    return require(
        {"lines": counts, "warnings": [line["event"] for line in warnings], "wrong": wrong[:3]},
        there_are_infos=counts["info"] > 3,
        every_priority_is_that_of_its_level=not wrong,
        a_warning_is_found_by_priority=any(line["event"] == "restart_needed" for line in warnings),
        no_info_is_among_the_warnings=all(line["level"] not in {"info", "debug"} for line in warnings),
    )


def files_are_the_users_own() -> Anomalies:
    """(h) everything lies in the state directory and belongs to the dynamic user."""
    uid = Path(f"/proc/{main_pid()}").stat().st_uid
    files = list(PRIVATE.rglob("*"))
    owners = sorted({path.lstat().st_uid for path in files})
    elsewhere = run("find", "/", "-xdev", "-uid", str(uid), "-not", "-path", f"{PRIVATE}*").stdout.split()
    elsewhere = [path for path in elsewhere if not path.startswith(("/tmp/", "/var/tmp/"))]
    evidence = {"uid": uid, "files": len(files), "owners": owners, "elsewhere": elsewhere, "link": str(STATE.resolve())}
    return require(
        evidence,
        the_user_is_dynamic=uid in DYNAMIC_USERS,
        there_are_files=len(files) > 3,
        all_files_are_its_own=owners == [uid],
        it_has_no_files_elsewhere=not elsewhere,
        the_state_directory_is_where_the_unit_says=STATE.resolve() == PRIVATE,
        others_may_not_read=all(path.stat().st_mode & 0o007 == 0 for path in files),
    )


def stopped_cleanly() -> Anomalies:
    """(c) stop is clean and fast."""
    return _stop_and_look()


def stopped_in_mid_backfill() -> Anomalies:
    """(c2) so it is in the middle of the first backfill, and what was fetched is kept."""
    forget()
    configure()
    systemctl("start", "--no-block", UNIT)
    seen = wait_until(lambda: len(stored_ids(BTC)) > 0, 20)
    shown, wanted = show()["ActiveState"], len(todays_ids(BTC))
    evidence = _stop_and_look()
    stored = len(stored_ids(BTC))
    return require(
        {"first_checkpoint_after": seen, "state_then": shown, "wanted": wanted, "stored": stored, **evidence},
        it_was_still_starting=shown == "activating",
        a_part_is_on_disk=0 < stored < wanted,
    )


def _stop_and_look() -> Anomalies:
    began = time.monotonic()
    code = systemctl("stop", UNIT)
    seconds, shown = round(time.monotonic() - began, 2), show()
    return require(
        {"seconds": seconds, "code": code, "strangers": strangers(), **shown},
        stop_succeeded=code == 0,
        within_grace_seconds=seconds < GRACE_S,
        it_exited_with_0=(shown["ExecMainCode"], shown["ExecMainStatus"]) == ("1", "0"),
        the_result_is_success=shown["Result"] == "success",
        no_temporary_file_is_left=not strangers(),
    )


def killed_and_resumed() -> Anomalies:
    """(d) killed, it is started again and asks for little."""
    forget()
    configure((BTC, ETH))
    before = len(requests_so_far())
    systemctl("start", UNIT)
    cold, cold_rows = cost_since(before)
    pid, before = main_pid(), len(requests_so_far())
    os.kill(pid, signal.SIGKILL)
    seconds = wait_until(lambda: is_another_running(pid), 30)
    warm, warm_rows = cost_since(before)
    missing = {each: len(todays_ids(each) - stored_ids(each)) for each in (BTC, ETH)}
    evidence = {
        "restarted_after": seconds,
        "cold": f"{cold} requests, {cold_rows} trades",
        "warm": f"{warm} requests, {warm_rows} trades",
        "missing": missing,
        **show(),
    }
    return require(
        evidence,
        it_was_started_again=seconds is not None and show()["NRestarts"] == "1",
        the_first_start_was_cold=cold_rows > TRADES,
        the_second_asked_for_little=warm <= 20 and warm_rows < cold_rows / 10,
        # A few trades happen between the last top-up and this look.
        the_day_is_complete=max(missing.values()) < 100,
    )


def handed_over() -> Anomalies:
    """(i) run as a user of the operator's, it goes on with the same files, now that user's."""
    run("useradd", "--system", "trader")
    uid = int(run("id", "-u", "trader").stdout)
    systemctl("stop", UNIT)
    before = len(requests_so_far())
    drop_in(RestartSec=1, DynamicUser="no", User="trader")
    code = systemctl("start", UNIT)
    requests, rows = cost_since(before)
    owners = sorted({path.lstat().st_uid for path in [STATE, *STATE.rglob("*")]})
    evidence = {"code": code, "uid": uid, "owners": owners, "warm": f"{requests} requests, {rows} trades", **show()}
    systemctl("stop", UNIT)
    drop_in(RestartSec=1)
    return require(
        evidence,
        start_succeeded=code == 0,
        all_files_are_that_users=owners == [uid],
        it_resumed=stored_ids(BTC) and requests <= 20 and rows < TRADES / 10,
        nothing_is_left_in_private=not PRIVATE.exists(),
    )


def ready_when_started() -> Anomalies:
    """(j) ready_when = "started" does not wait for the trades."""
    forget()
    configure(ready_when="started")
    wanted, began = todays_ids(BTC), time.monotonic()
    code = systemctl("start", UNIT)
    seconds, stored, shown = round(time.monotonic() - began, 2), stored_ids(BTC), show()
    came = wait_until(lambda: wanted <= stored_ids(BTC), 30)
    return require(
        {"code": code, "seconds": seconds, "stored_then": len(stored), "complete_after": came, **shown},
        start_succeeded=code == 0 and shown["ActiveState"] == "active",
        the_day_was_not_complete=not wanted <= stored,
        and_then_it_was=came is not None,
    )


def waited_for() -> Anomalies:
    """(k) a first backfill longer than TimeoutStartSec is no failed start."""
    forget()
    configure()
    drop_in(RestartSec=1, TimeoutStartSec=5)
    ask("options", {"latency_s": 0.8})
    wanted, began = todays_ids(BTC), time.monotonic()
    code = systemctl("start", UNIT)
    seconds = round(time.monotonic() - began, 2)
    ask("options", {"latency_s": LATENCY_S})
    drop_in(RestartSec=1)
    return require(
        {"code": code, "seconds": seconds, "missing": len(wanted - stored_ids(BTC)), **show()},
        it_took_longer_than_the_limit=seconds > 5,
        start_succeeded=code == 0 and show()["NRestarts"] == "0",
        the_trades_are_there=wanted <= stored_ids(BTC),
    )


def watched() -> Anomalies:
    """(e) a process that stands still is killed by the watchdog and started again; a quiet one is left alone."""
    configure((BTC,), poll_seconds=60)
    drop_in(WatchdogSec=3, RestartSec=1)
    systemctl("restart", UNIT)
    pid = main_pid()
    time.sleep(7)
    quiet = main_pid()
    os.kill(quiet, signal.SIGSTOP)
    seconds = wait_until(lambda: is_another_running(quiet), 30)
    logged = [line for line in run("journalctl", "-u", UNIT, "-o", "cat").stdout.splitlines() if "atchdog" in line]
    drop_in(RestartSec=1)
    return require(
        {"pid": pid, "pid_after_7_quiet_seconds": quiet, "restarted_after": seconds, "systemd_says": logged, **show()},
        a_quiet_one_is_left_alone=quiet == pid,
        it_was_started_again=seconds is not None and show()["NRestarts"] == "1",
        by_the_watchdog=any("atchdog timeout" in line for line in logged),
    )


def misconfigured() -> Anomalies:
    """(f) a wrong setting ends it with 78, and it stays ended."""
    configure(nonsense=1)
    systemctl("stop", UNIT)
    code = systemctl("start", UNIT)
    time.sleep(4)
    shown = show()
    said = [entry["MESSAGE"] for entry in journal() if "nonsense" in entry["MESSAGE"]]
    return require(
        {"code": code, "said": said, **shown},
        start_failed=code != 0,
        it_exited_with_78=shown["ExecMainStatus"] == "78",
        it_stays_ended=shown["ActiveState"] == "failed" and shown["NRestarts"] == "0",
        the_journal_names_the_setting=said,
    )


TRIALS = (
    started_when_complete,
    reloaded,
    wrong_reload_refused,
    journal_has_priorities,
    files_are_the_users_own,
    stopped_cleanly,
    stopped_in_mid_backfill,
    killed_and_resumed,
    handed_over,
    ready_when_started,
    waited_for,
    watched,
    misconfigured,
)


def _tried(trial: Callable[[], Anomalies]) -> dict[str, object]:
    began = time.monotonic()
    try:
        verdict: dict[str, object] = {"passed": True, "evidence": trial()}
    except Failed as failure:
        verdict = {"passed": False, "why": str(failure), "evidence": failure.evidence}
    except Exception:  # noqa: BLE001 - whatever broke is this trial's finding, and the next one is tried
        verdict = {"passed": False, "why": traceback.format_exc(limit=-2), "evidence": show()}
    name = (trial.__doc__ or trial.__name__).splitlines()[0]
    return {"name": name, "took_s": round(time.monotonic() - began, 1), **verdict}


def main() -> None:
    """Make all trials, in order: each finds the service as the one before left it."""
    findings: list[dict[str, object]] = []
    drop_in(RestartSec=1)
    # Enabled, as an operator has it; systemd forgets how a unit ended that nothing refers to.
    systemctl("enable", UNIT)
    with exchange():
        for trial in TRIALS:
            findings.append(_tried(trial))
            partial = OUT / "findings.json.partial"
            partial.write_text(json.dumps(findings))
            partial.replace(OUT / "findings.json")
    (OUT / "journal.txt").write_text(run("journalctl", "-o", "short-precise", "-u", UNIT).stdout)
    (OUT / "done").touch()


if __name__ == "__main__":
    main()
