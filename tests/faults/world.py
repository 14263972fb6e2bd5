"""A daemon that is broken on purpose: started with its log in files, met by strace's faults, asked what it said."""

import fcntl
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from binance_simulator import ExchangeOptions, Pool
from tests.e2e.world import TODAY, Daemon, ended

Mount = Callable[[Path, str], Path]
"""Mounts a small disk of this size at a path."""

LIVELY = {"POLL_SECONDS": "0.3", "CHECKPOINT_SECONDS": "0.3"}

ROOMY = ExchangeOptions(limits={Pool.SPOT: 1_000_000})
"""An exchange that never refuses: many runs share a minute."""


def roomy(**changed: Any) -> ExchangeOptions:
    """The same, changed."""
    return replace(ROOMY, **changed)


def fill(path: Path) -> None:
    """Take all the room that the disk has, with a file at ``path``."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


async def until(holds: Callable[[], object], timeout_s: float = 30, every_s: float = 0.02) -> None:
    """Wait until that is so."""
    with trio.fail_after(timeout_s):
        while not holds():
            await trio.sleep(every_s)


@dataclass
class Running:
    """A started daemon. Its stdout and stderr are in files."""

    daemon: Daemon
    process: "subprocess.Popen[bytes]"
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        """The process."""
        return self.process.pid

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its log so far; a last line that is half written is left out."""
        return [json.loads(line) for line in self.out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def said(self, name: str) -> list[dict[str, Any]]:
        """The events of that name so far."""
        return [event for event in self.events if event["event"] == name]

    @property
    def stderr(self) -> str:
        """What it said to people."""
        return self.err.read_text()

    def rss_bytes(self) -> int:
        """The memory it holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def until_said(self, name: str, times: int = 1, timeout_s: float = 30) -> None:
        """Wait until it has said that so often."""

        def has_said() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.stderr}"
            return len(self.said(name)) >= times

        await until(has_said, timeout_s)

    async def until_rows(self, rows: int, timeout_s: float = 30) -> None:
        """Wait until the day file has that many rows."""
        await until(lambda: rows_on_disk(self.daemon) >= rows, timeout_s, 0.05)

    async def ended(self, timeout_s: float = 30) -> int:
        """Wait for its end; return the exit code."""
        return await ended(self.process, timeout_s)

    async def kill(self) -> None:
        """Kill -9, if it runs still."""
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
        await self.ended()


@asynccontextmanager
async def running(
    daemon: Daemon, *arguments: str, before: Sequence[str] = (), place: Path | None = None
) -> AsyncIterator[Running]:
    """``backfilld run`` with these arguments, killed at the end if need be. ``before`` is a command that runs it,
    ``place`` where its output goes if not beside the cache."""
    place = place or daemon.cache_dir.parent
    number = len(list(place.glob("out-*")))
    out, err = place / f"out-{number}", place / f"err-{number}"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: ASYNC220 - a test may block its own loop
            [*before, *daemon.command("run", *arguments)],
            env=daemon.environment(),
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    run = Running(daemon, process, out, err)
    try:
        yield run
    finally:
        with trio.CancelScope(shield=True):
            await run.kill()


# -- what is on disk


def rows_on_disk(daemon: Daemon) -> int:
    """How many trades the day file holds; 0 without one. Reads the certificate only: nothing is moved aside."""
    return daemon.manager().facts(TODAY).rows if daemon.day_file().exists() else 0


def assert_sound(daemon: Daemon) -> int:
    """Every file under a final name is whole and agrees with the exchange's tape, as far as it goes; return its rows.

    Reading checks every page's CRC, and the digest that the file has of itself.
    """
    if not daemon.day_file().exists():
        return 0
    stored = daemon.stored()
    tape = daemon.tape_of_today()
    assert stored.equals(tape.filter(tape["a"].is_in(stored["a"].implode())))
    assert no_quarantine(daemon)
    return stored.height


def assert_exact(daemon: Daemon) -> None:
    """The day is the tape, and proven to be so far."""
    stored = daemon.stored()
    assert stored.equals(daemon.tape_of_today().head(stored.height))
    assert daemon.manager().facts(TODAY).holes == ()
    assert no_quarantine(daemon)


def no_quarantine(daemon: Daemon) -> bool:
    """Whether nothing had to be moved aside."""
    return not list(daemon.cache_dir.rglob("*.bad-*"))


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock on a file."""
    with path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


# -- strace


@dataclass(frozen=True)
class Injection:
    """A fault for some system calls: which (a name, or a regular expression behind a slash), what, and the n-th ones.

    With ``path`` only calls on that file are met. strace counts by thread.
    """

    calls: str
    fault: str
    when: str = "1+"
    path: Path | None = None

    def options(self, trace: Path) -> list[str]:
        """As strace takes it."""
        only = ["-P", str(self.path)] if self.path is not None else []
        rule = f"inject={self.calls}:{self.fault}:when={self.when}"
        return ["-f", "-qq", "-y", "-s", "0", "-o", str(trace), "-e", f"trace={self.calls}", "-e", rule, *only]


@asynccontextmanager
async def injected(run: Running, injection: Injection, *, only_workers: bool = False) -> AsyncIterator["Traced"]:
    """Meet the running daemon with a fault until the end of the block.

    With ``only_workers`` the main thread, which writes the log, is left in peace.
    """
    number = len(list(run.out.parent.glob("trace-*")))
    trace = run.out.parent / f"trace-{number}"
    threads = [int(each.name) for each in Path(f"/proc/{run.pid}/task").iterdir()]
    targets = [each for each in threads if each != run.pid] if only_workers else [run.pid]
    options = injection.options(trace)
    if only_workers:
        options.remove("-f")
    command = ["strace", *options, *(word for each in targets for word in ("-p", str(each)))]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)  # noqa: ASYNC220 - a test may block its own loop
    try:
        await until(lambda: tracer.poll() is not None or all(_tracer_of(run.pid, each) for each in targets), 10)
        yield Traced(trace, tracer)
    finally:
        with trio.CancelScope(shield=True):
            if tracer.poll() is None:
                tracer.send_signal(signal.SIGTERM)
            with trio.move_on_after(5):
                await trio.to_thread.run_sync(tracer.wait, abandon_on_cancel=True)
            if tracer.poll() is None:
                tracer.kill()
                await ended(tracer)
        if tracer.stderr is not None:
            tracer.stderr.close()


def _tracer_of(pid: int, thread: int) -> int:
    """Who traces a thread; -1 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/task/{thread}/status").read_text()
    except OSError:
        return -1
    found = re.search(r"TracerPid:\t(\d+)", text)
    return int(found[1]) if found else 0


def _state_of(pid: int) -> str:
    """The letter of its main thread's state, Z for one that has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    found = re.search(r"State:\t(\w)", text)
    return found[1] if found else ""


@dataclass(frozen=True)
class Traced:
    """What strace has noted."""

    file: Path
    tracer: "subprocess.Popen[bytes]"

    async def over(self, run: Running, timeout_s: float) -> int:
        """Wait until the process has ended, but for a thread that the tracer holds on to, and take the tracer away;
        return the exit code."""
        await until(lambda: _state_of(run.pid) in {"Z", ""}, timeout_s)
        self.tracer.kill()
        return await run.ended()

    def lines(self) -> list[str]:
        """Its lines so far."""
        return self.file.read_text(errors="replace").splitlines() if self.file.exists() else []

    def injected(self) -> list[str]:
        """Those that met the fault."""
        return [line for line in self.lines() if "(INJECTED" in line]

    def fatal(self) -> str:
        """The call in which the process was killed: the last one before all its threads were."""
        calls = [line for line in self.lines() if "killed by" not in line and " resumed>" not in line]
        return calls[-1] if calls else ""


def started_under(injection: Injection, trace: Path) -> list[str]:
    """The command that runs another one under a fault from its start; the process keeps the number it was given."""
    return ["strace", "-D", "--seccomp-bpf", *injection.options(trace)]


def kind_of(call: str) -> str:
    """``fsync of temporary`` and the like, for a line of strace's."""
    name = re.search(r"\b(openat|write|pwrite64|fsync|rename\w*)\(", call)
    temporary = re.search(r"\.parquet\.tmp-", call)
    directory = "symbol=" in call and ".parquet" not in call
    target = "temporary" if temporary else "directory" if directory else "other"
    return f"{name[1] if name else '?'} of {target}"
