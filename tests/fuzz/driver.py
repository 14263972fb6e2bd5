"""Runs a case against the real process and holds the promises: what must never happen, whatever the exchange sends.

Owns the rules. A broken promise is a sentence; a case without one has passed.
"""

import json
import subprocess
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import polars as pl
import trio
from polars.exceptions import PolarsError

from backfilld.core.model import day_start_ms
from backfilld.errors import BackfillError
from binance_simulator import Exchange, Fault
from binance_simulator.model import SCHEMA
from tests.e2e.world import BTC, TODAY, Daemon, exchange_at
from tests.fuzz.cases import Case, first_day_of

MOST_MEMORY_KB = 450 * 1024
"""Peak resident memory of the process."""

MOST_START_S = 60.0
"""So long a process may take to its first line: the clock of a run begins there, however busy the machine is."""

FAULTY_S = 8.0
"""So long the exchange misbehaves; then it is honest, and the command must end well."""

HONEST_S = 25.0
"""So long a run against the honest exchange may take, its windows of weight included."""

GRACE_S = 15.0
"""So long it may take to end after SIGTERM: GRACE_SECONDS and the end of the process."""

MOST_REQUESTS = 400
"""A run of at most a dozen pages may not send more, also while half of the answers are wrong."""

IN_FLIGHT_MS = 1000
"""Requests that were on their way when a ban was pronounced."""

_ENDS = {0, 1, 75, 78}
_CRASHES = ("Traceback", "Unhandled", "Exception ignored", "panicked")
_LONG_PAUSES = {Fault.CHARSET_BAN, Fault.RETRY_AFTER, Fault.STATUS_403_HTML, Fault.STATUS_503_HTML}
_CHARGED_BAN_MS = 3_600_000


@dataclass
class Run:
    """One process: how it ended, what it wrote, how large it became."""

    code: int | None
    out: str
    err: str
    memory_kb: int
    seconds: float
    terminated: bool = False
    stuck: bool = False


@dataclass
class Verdict:
    """What a case broke, in sentences, and its runs."""

    case: Case
    broken: list[str] = field(default_factory=list)
    codes: list[int | None] = field(default_factory=list)
    requests: int = 0
    memory_kb: int = 0


async def try_case(case: Case, directory: Path) -> Verdict:
    """Run the command while the exchange misbehaves, then again while it is honest."""
    verdict = Verdict(case)
    async with exchange_at(12, {BTC: case.tape()}, case.options) as exchange:
        urls = {"DAYS": str(case.days), "GRACE_SECONDS": "5", "POLL_SECONDS": "1", "REQUEST_TIMEOUT_SECONDS": "3"}
        daemon = Daemon(exchange, directory / "cache", urls | {"CHECKPOINT_SECONDS": "1", "LOG_FORMAT": "json"})
        await look_at(verdict, daemon, case.command, FAULTY_S, "faulty")
        exchange.options = case.honest_options()
        if not _banned_by_text(exchange):
            await look_at(verdict, daemon, "once", HONEST_S, "honest")
            if verdict.codes[-1] not in {0, 1}:
                verdict.broken.append(f"honest: ended with {verdict.codes[-1]} though the exchange is honest again")
    return verdict


async def look_at(verdict: Verdict, daemon: Daemon, command: str, most_s: float, phase: str) -> None:
    """Run one command and note what it broke."""
    exchange, before = daemon.exchange, len(daemon.exchange.requests)
    expected = _expected(verdict.case, exchange)
    run = await _run(daemon, _arguments(verdict.case, command), most_s)
    asked = len(exchange.requests) - before
    verdict.codes.append(run.code)
    verdict.requests += asked
    verdict.memory_kb = max(verdict.memory_kb, run.memory_kb)
    faults = [record.fault for record in list(exchange.requests)[before:] if record.fault is not None]
    rules: list[tuple[bool, str]] = [
        (run.stuck, f"did not end within {GRACE_S:.0f} s of SIGTERM"),
        (run.code not in _ENDS, f"ended with {run.code}: {run.err[-300:]!r}"),
        (run.code == 78 and not faults, f"took an honest exchange for wrong settings: {run.err[-300:]!r}"),
        (any(crash in run.err + run.out for crash in _CRASHES), f"crashed: {_crash(run)!r}"),
        ("pipeline_crashed" in run.out, f"pipeline crashed: {_event(run, 'pipeline_crashed')}"),
        (run.memory_kb > MOST_MEMORY_KB, f"took {run.memory_kb // 1024} MB"),
        (asked > MOST_REQUESTS, f"sent {asked} requests in {run.seconds:.0f} s"),
        (command == "daemon" and not run.terminated, f"a daemon ended by itself with {run.code}: {run.err[-300:]!r}"),
        (phase == "honest" and run.code == 1 and _is_plain(verdict.case), f"not complete: {run.err[-300:]!r}"),
        (phase == "honest" and run.terminated, f"did not end within {most_s:.0f} s; {_last_event(run)}"),
    ]
    verdict.broken += [f"{phase}: {sentence}" for is_broken, sentence in rules if is_broken]
    verdict.broken += [f"{phase}: {sentence}" for sentence in _in_a_ban(exchange, before)]
    is_claim = run.code == 0 and not (command == "daemon" or run.terminated)
    verdict.broken += [
        f"{phase}: {sentence}" for sentence in _wrong_files(daemon, verdict.case, expected, is_claim=is_claim)
    ]


def _arguments(case: Case, command: str) -> list[str]:
    if command == "fill":
        last = TODAY - timedelta(days=1)
        return ["fill", "--instrument", str(BTC), "--from", first_day_of(case).isoformat(), "--to", last.isoformat()]
    return ["run", "--once"] if command == "once" else ["run"]


async def _run(daemon: Daemon, arguments: list[str], most_s: float) -> Run:
    """Run to the end, or end it with SIGTERM after ``most_s``; the exchange serves meanwhile."""
    folder = daemon.cache_dir.parent
    folder.mkdir(parents=True, exist_ok=True)
    out, err = folder / "out", folder / "err"
    began = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: ASYNC220
            daemon.command(*arguments), env=daemon.environment(), cwd=folder, stdout=stdout, stderr=stderr
        )
    terminated = stuck = has_begun = False
    peak_kb = 0
    while process.poll() is None:
        await trio.sleep(0.05)
        peak_kb = max(peak_kb, _peak_kb(process.pid))
        if not out.stat().st_size and time.monotonic() - began < MOST_START_S and not has_begun:
            continue
        began, has_begun = (began, True) if has_begun else (time.monotonic(), True)
        past_s = time.monotonic() - began
        if not terminated and past_s > most_s:
            process.terminate()
            terminated = True
        if peak_kb > 2 * MOST_MEMORY_KB or past_s > most_s + GRACE_S:
            stuck = past_s > most_s + GRACE_S
            process.kill()
    written, complained = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
    return Run(process.returncode, written, complained, peak_kb, time.monotonic() - began, terminated, stuck)


def _peak_kb(pid: int) -> int:
    """The largest resident size since the program began."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _expected(case: Case, exchange: Exchange) -> pl.DataFrame:
    """What the exchange has of the window when a run begins."""
    return exchange.visible(str(BTC)).filter(pl.col("T") >= day_start_ms(first_day_of(case)))


def _shown(rows: pl.DataFrame, exchange: Exchange) -> pl.DataFrame:
    """Those that the exchange has shown by REST, up to the newest id in a right answer; all where it showed none.

    What every answer of a stale replica keeps back, no program can know.
    """
    last_ids = [record.last_id for record in exchange.requests if record.last_id is not None and record.fault is None]
    return rows.filter(pl.col("a") <= max(last_ids)) if last_ids else rows


def _wrong_files(daemon: Daemon, case: Case, expected: pl.DataFrame, *, is_claim: bool) -> list[str]:
    """What is on disk and not the exchange's; and, where the process says that it has all, what lacks."""
    try:
        days = daemon.manager().days()
        stored = pl.concat([pl.DataFrame(schema=SCHEMA), *(daemon.stored(day) for day in days)])
    except (BackfillError, PolarsError, AssertionError) as error:
        return [f"day files cannot be read: {error}"]
    true = daemon.exchange.visible(str(BTC))
    foreign = stored.join(true, on=list(SCHEMA), how="anti", nulls_equal=True)
    doubled = stored.height - stored["a"].n_unique()
    sentences = []
    if foreign.height and not _may_differ(case):
        sentences.append(f"{foreign.height} stored rows are not the exchange's, such as {foreign.row(0)!r}")
    if doubled:
        sentences.append(f"{doubled} ids are stored twice")
    if is_claim:
        of_days = expected if len(days) == 0 or case.command != "fill" else _before_today(expected)
        lacking = of_days.join(stored, on="a", how="anti")
        if lacking.height:
            first, last = lacking["a"].min(), lacking["a"].max()
            sentences.append(f"exit 0, but {lacking.height} of {of_days.height} trades lack, ids {first!r} to {last!r}")
    return sentences


def _before_today(rows: pl.DataFrame) -> pl.DataFrame:
    """Those before today: a day begins with its first row, though the time of a later one may go back."""
    first_id = rows.filter(pl.col("T") >= day_start_ms(TODAY))["a"].min()
    return rows if first_id is None else rows.filter(pl.col("a") < first_id)


def _is_plain(case: Case) -> bool:
    """Whether nothing is in doubt once the exchange is honest: no id is absent, no value differs."""
    return not case.oddities and not _may_differ(case)


def _may_differ(case: Case) -> bool:
    """Whether the archive shows other values than REST under the same id: which is right cannot be known."""
    spoils = {"changed_values", "zero_quantities", "reused_id", "republished", "zip_bomb", "overlapping"}
    return bool(spoils & set(case.options.archive_defects.get("*", ())))


def _in_a_ban(exchange: Exchange, before: int) -> list[str]:
    """Requests that came in a ban of the exchange, or after a 418 that a fault sent, but those in flight."""
    bans = [record for record in exchange.requests if record.status == 418]
    late = [
        (ban, record)
        for ban in bans
        for record in list(exchange.requests)[before:]
        if IN_FLIGHT_MS < record.arrived_ms - ban.arrived_ms < _ban_ms(ban.fault)
    ]
    return [f"{len(late)} requests in a ban, the first {late[0][1]}"] if late else []


def _ban_ms(fault: Fault | None) -> int:
    return _CHARGED_BAN_MS if fault is Fault.CHARSET_BAN else 110_000


def _banned_by_text(exchange: Exchange) -> bool:
    """Whether an answer of the faulty phase asked for a pause that is longer than the test."""
    return any(record.fault in _LONG_PAUSES or record.status == 418 for record in exchange.requests)


def _crash(run: Run) -> str:
    text = run.err + run.out
    at = min(text.find(crash) for crash in _CRASHES if crash in text) if any(c in text for c in _CRASHES) else 0
    return text[at:][-600:]


def _event(run: Run, name: str) -> str:
    return next((line[:400] for line in run.out.splitlines() if name in line), "")


def _last_event(run: Run) -> str:
    lines = run.out.splitlines()
    try:
        return f"last: {json.dumps(json.loads(lines[-1]))[:300]}"
    except (IndexError, ValueError):
        return "it wrote nothing"
