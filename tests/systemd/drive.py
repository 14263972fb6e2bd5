"""`make test-systemd`: installs backfilld into a private Debian tree, boots it, and judges what the trials found.

Owns the tree and the boot; what is tried is in inside.py. Needs root on Debian; where it cannot run it says why and
fails with that sentence. Never boots anything on the machine's own root, and ends only what it started.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "backfilld-test"
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,make,procps"
NSPAWN = ("systemd-nspawn", "--quiet", "--private-network", "--register=no", "--keep-unit")
TOOLS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container"}
"""Commands, and the packages they come in."""

TREE_LIMIT_S, WHEELS_LIMIT_S, INSTALL_LIMIT_S, BOOT_LIMIT_S = 600, 400, 240, 240
MIDNIGHT_S = 300
"""No trial begins so shortly before the day turns: its day file would be another's."""

TRIALS = 13
"""So many findings there must be."""

TEST_UNIT = """\
[Unit]
Description=Trials of backfilld.service
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/usr/local/lib/backfilld/bin/python /trials/inside.py /trials
TimeoutStartSec=210

[Install]
WantedBy=multi-user.target
"""


class CannotRunHere(Exception):
    """This machine lacks what the test needs; the message says what."""


def say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def run(*command: str | Path, limit_s: float, env: Mapping[str, str] | None = None) -> str:
    """A command's output. Raises RuntimeError with its last lines if it fails or takes longer than that."""
    try:
        done = subprocess.run(
            list(map(str, command)),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=os.environ | dict(env or {}),
        )
    except subprocess.TimeoutExpired as error:
        last = (error.stdout or b"")[-2000:].decode(errors="replace")
        raise RuntimeError(f"{command[0]} took longer than {limit_s:.0f} s, and said last:\n{last}") from None
    if done.returncode:
        last = "\n".join([*done.stdout.splitlines()[-10:], *done.stderr.splitlines()[-15:]])
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{last}")
    return done.stdout


# -- what the machine must have


def provide_tools() -> None:
    """See that the commands are there; install the packages of those that are not."""
    if os.geteuid() != 0:
        raise CannotRunHere("only root can make and boot a tree; try: sudo make test-systemd")
    if not Path("/etc/debian_version").exists():
        raise CannotRunHere("this is no Debian, where debootstrap and systemd-container come from")
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if not missing:
        return
    say(f"installing {', '.join(missing)} by apt-get")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run("apt-get", "update", "-q", limit_s=120, env=quiet)
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, limit_s=240, env=quiet)
    except RuntimeError as error:
        raise CannotRunHere(f"{', '.join(missing)} could not be installed: {error}") from None


def provide_tree() -> Path:
    """The tree of a bare Debian, made once."""
    tree = CACHE / f"{SUITE}-{platform.machine()}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
    if tree.exists():
        return tree
    partial = tree.with_suffix(".partial")
    remove(partial)
    say(f"making a tree of Debian {SUITE} in {tree}; this takes about a minute, once")
    try:
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, partial, limit_s=TREE_LIMIT_S)
    except RuntimeError as error:
        raise CannotRunHere(f"no tree could be made: {error}") from None
    shutil.rmtree(partial / "var/cache/apt/archives", ignore_errors=True)
    partial.rename(tree)
    return tree


def prove_container(tree: Path) -> None:
    """See that a container can be started at all, before anything is concluded from a boot."""
    try:
        run(*NSPAWN, "-D", tree, "--read-only", "--pipe", "/bin/true", limit_s=30)
    except RuntimeError as error:
        raise CannotRunHere(f"systemd-nspawn starts no container on this machine: {error}") from None


def provide_wheels(tree: Path) -> Path:
    """The locked requirements as wheels for the tree's Python, which need not be this machine's.

    They are fetched out here, by this machine's pip and its settings: the tree needs no network.
    """
    asked = "import platform, sys; print(sys.version_info.minor, platform.libc_ver()[1].split('.')[1])"
    minor, libc = run(*NSPAWN, "-D", tree, "--read-only", "--pipe", "python3", "-c", asked, limit_s=30).split()
    requirements = PROJECT / "requirements-service.txt"
    key = hashlib.sha256(requirements.read_bytes() + minor.encode()).hexdigest()[:16]
    wheels = CACHE / f"wheels-{key}"
    if wheels.exists():
        return wheels
    partial = wheels.with_suffix(".partial")
    remove(partial)
    say(f"fetching wheels for Python 3.{minor} into {wheels}")
    machine = platform.machine()
    platforms = [f"manylinux_2_{each}_{machine}" for each in range(int(libc), 4, -1)] + [f"manylinux2014_{machine}"]
    target = ["--implementation=cp", f"--python-version=3.{minor}", *(f"--platform={each}" for each in platforms)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--require-hashes", *target]
    run(*command, f"--requirement={requirements}", f"--dest={partial}", limit_s=WHEELS_LIMIT_S)
    for old in CACHE.glob("wheels-*"):
        if old != partial:
            remove(old)
    partial.rename(wheels)
    return wheels


def remove(path: Path) -> None:
    """Delete a directory of ours, if it is there."""
    if path.exists():
        run("rm", "-rf", "--one-file-system", path, limit_s=120)


# -- one run


@contextmanager
def copy_of(tree: Path) -> Iterator[Path]:
    """A copy to install into and to boot, deleted afterwards: every run begins with the same tree."""
    directory = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
    try:
        run("cp", "-a", "--reflink=auto", tree, directory / "tree", limit_s=180)
        yield directory / "tree"
    finally:
        remove(directory)


def install(tree: Path, wheels: Path) -> None:
    """`make install` with a DESTDIR, by the tree's own Python; then what it made is put where it belongs."""
    script = """
        set -e
        make --no-print-directory -C /source install DESTDIR=/stage
        ! grep -rIl /stage /stage
        cp -a /stage/. /
        rm -rf /stage
        cmp /source/config/backfilld.toml /etc/backfilld/backfilld.toml
        cd /
        backfilld check-config --config /etc/backfilld/backfilld.toml
        systemd-analyze verify /usr/local/lib/systemd/system/backfilld.service
        # What the embedded exchange needs besides, apart from the service's own packages.
        python3 -m venv /opt/pip
        /opt/pip/bin/pip install --quiet --require-hashes --target /opt/exchange -r /source/requirements-service.txt
    """
    offline = ["--setenv=PIP_NO_INDEX=1", "--setenv=PIP_FIND_LINKS=/wheels", "--setenv=PIP_CONFIG_FILE=/dev/null"]
    binds = [f"--bind-ro={PROJECT}:/source", f"--bind-ro={wheels}:/wheels"]
    run(*NSPAWN, "-D", tree, "--pipe", *offline, *binds, "/bin/sh", "-c", script, limit_s=INSTALL_LIMIT_S)


def boot(tree: Path, trials: Path) -> str:
    """Boot the tree, with the trials as a unit, until it powers off; what stood on its console."""
    unit = tree / "etc/systemd/system/backfilld-trials.service"
    unit.write_text(TEST_UNIT)
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / unit.name).symlink_to(f"/etc/systemd/system/{unit.name}")
    shutil.copy(Path(__file__).with_name("inside.py"), trials)
    command: list[str | Path] = [*NSPAWN, "-D", tree, f"--bind={trials}:/trials", "--boot", "--console=pipe"]
    try:
        return run(*command, limit_s=BOOT_LIMIT_S)
    except RuntimeError as error:
        return str(error)


def shift_clock(tree: Path) -> None:
    """Let every Python of the service see the wall clock that this process sees; see tests/clock.py."""
    ahead_s = os.environ.get("CLOCK_AHEAD_S")
    if ahead_s is None:
        return
    (packages,) = (tree / "usr/local/lib/backfilld/lib").glob("python3.*/site-packages")
    # Debian has a sitecustomize of its own, which comes first.
    shutil.copy(PROJECT / "tests/shifted/sitecustomize.py", packages / "shifted_clock.py")
    (packages / "shifted_clock.pth").write_text("import shifted_clock\n")
    settings = tree / "etc/systemd/system.conf.d"
    settings.mkdir(exist_ok=True)
    (settings / "clock.conf").write_text(f"[Manager]\nDefaultEnvironment=CLOCK_AHEAD_S={ahead_s}\n")


def await_a_day_long_enough() -> None:
    left_s = 86_400 - time.time() % 86_400
    if left_s < MIDNIGHT_S:
        say(f"{datetime.now(UTC):%H:%M} UTC: waiting {left_s:.0f} s for the day to turn, so that it turns in no trial")
        time.sleep(left_s + 30)


def judge(findings: list[dict[str, Any]]) -> bool:
    """Print a table of the findings; whether all are there and passed."""
    for each in findings:
        mark = "pass" if each["passed"] else "FAIL"
        say(f"{mark}  {each['took_s']:5.1f} s  {each['name']}")
        if not each["passed"]:
            say(f"      {each['why']}")
        say(f"      {json.dumps(each['evidence'])}")
    passed = sum(each["passed"] for each in findings)
    say(f"{passed} of {TRIALS} findings passed")
    return len(findings) == TRIALS and all(each["passed"] is True for each in findings)


def test() -> bool:
    """Whether the service does all it must."""
    provide_tools()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another run is using {CACHE}") from None
        for left in CACHE.glob("run-*"):
            remove(left)  # of a run that was killed: the lock says that none is under way
        base = provide_tree()
        prove_container(base)
        wheels = provide_wheels(base)
        await_a_day_long_enough()
        with copy_of(base) as tree:
            say(f"installing into a copy of {base}")
            install(tree, wheels)
            shift_clock(tree)
            trials = tree.parent / "trials"
            trials.mkdir()
            say("booting it")
            console = boot(tree, trials)
            findings = trials / "findings.json"
            found: list[dict[str, Any]] = json.loads(findings.read_text()) if findings.exists() else []
            good = judge(found)
            evidence = trials / "journal.txt"
            if not good:
                keep(found, evidence.read_text() if evidence.exists() else "", console)
    return good


def keep(findings: list[dict[str, Any]], journal: str, console: str) -> None:
    """Leave behind what a failure can be understood by."""
    directory = Path(tempfile.mkdtemp(prefix="backfilld-test-systemd-"))
    (directory / "findings.json").write_text(json.dumps(findings, indent=1))
    (directory / "journal.txt").write_text(journal)
    (directory / "console.txt").write_text(console)
    say(f"findings, journal and console are in {directory}")


def main() -> int:
    """0 if all is well; 1 with a sentence if not."""
    began = time.monotonic()
    try:
        good = test()
    except CannotRunHere as error:
        say(f"test-systemd cannot run here: {error}")
        return 1
    except RuntimeError as error:
        say(f"test-systemd failed: {error}")
        return 1
    say(f"{time.monotonic() - began:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
