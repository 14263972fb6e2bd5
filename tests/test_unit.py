"""The unit and the installation: what systemd says of the one, and that the other runs from where it was put.

What the service does under a booted systemd is tried by `make test-systemd`.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backfilld import Settings
from backfilld.errors import EXIT_SETTINGS

PROJECT = Path(__file__).parents[1]
UNIT = PROJECT / "systemd" / "backfilld.service"
EXPOSURE = 15
"""Ten times the score that systemd-analyze may give at most; 0 is no exposure, 100 all of it."""

needs_systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


class _Unit(configparser.RawConfigParser):
    """A unit file. Of a key that stands there several times the last value is seen, as systemd has it for these."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)
        self.read(path, encoding="utf-8")

    def optionxform(self, optionstr: str) -> str:
        return optionstr

    def seconds(self, key: str, section: str = "Service") -> float:
        """A time span, in the forms that the unit uses."""
        number, unit = re.fullmatch(r"(\d+)(s|min)?", self[section][key]).groups()  # type: ignore[union-attr]
        return float(number) * (60 if unit == "min" else 1)


@pytest.fixture
def unit() -> _Unit:
    return _Unit(UNIT)


def analyzed(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *arguments], check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture
def bare_root(tmp_path: Path) -> Path:
    """A root with no more in it than what the unit runs and what it is ordered by."""
    for program in ("usr/local/bin/backfilld", "bin/kill"):
        path = tmp_path / program
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
    directory = tmp_path / "etc/systemd/system"
    directory.mkdir(parents=True)
    for target in ("network-online", "sysinit", "basic", "shutdown", "multi-user"):
        (directory / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n", encoding="utf-8")
    return tmp_path


def verified(root: Path, text: str) -> "subprocess.CompletedProcess[str]":
    (root / "etc/systemd/system/backfilld.service").write_text(text, encoding="utf-8")
    return analyzed("verify", f"--root={root}", "backfilld.service", "--man=no")


@needs_systemd_analyze
def test_systemd_finds_nothing_to_say_about_the_unit(bare_root: Path) -> None:
    found = verified(bare_root, UNIT.read_text(encoding="utf-8"))
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@needs_systemd_analyze
@pytest.mark.parametrize(
    ("line", "broken"),
    [("Type=notify", "Type=notified"), ("WatchdogSec=60", "WatchdogSecs=60"), ("bin/backfilld run", "bin/missing run")],
)
def test_and_would_if_there_were(bare_root: Path, line: str, broken: str) -> None:
    text = UNIT.read_text(encoding="utf-8")
    assert line in text
    found = verified(bare_root, text.replace(line, broken))
    assert found.returncode != 0 or found.stderr


@needs_systemd_analyze
def test_the_service_is_exposed_no_more_than_this() -> None:
    found = analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(UNIT))
    assert found.returncode == 0, found.stdout


def test_a_drain_is_never_cut_short(unit: _Unit) -> None:
    assert unit.seconds("TimeoutStopSec") > Settings().grace_seconds


def test_a_slow_request_is_no_reason_for_the_watchdog(unit: _Unit) -> None:
    assert unit.seconds("WatchdogSec") > 2 * Settings().request_timeout_seconds


def test_the_start_limit_lets_the_watchdog_go_on_for_ever(unit: _Unit) -> None:
    """Only a crash that comes back at once is given up."""
    interval_s, burst = unit.seconds("StartLimitIntervalSec", "Unit"), int(unit["Unit"]["StartLimitBurst"])
    assert burst * unit.seconds("RestartSec") < interval_s < burst * unit.seconds("WatchdogSec")


def test_a_wrong_setting_is_not_tried_again(unit: _Unit) -> None:
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"] == str(EXIT_SETTINGS)


def test_the_default_cache_lies_in_the_state_directory(unit: _Unit) -> None:
    """By way of the working directory, so that the configuration file can still say otherwise."""
    assert unit["Service"]["WorkingDirectory"] == f"%S/{unit['Service']['StateDirectory']}"
    assert not Settings.model_fields["cache_dir"].default.is_absolute()
    assert "BACKFILL_" not in unit["Service"]["Environment"]


# -- the installation

CONFIG = "etc/backfilld/backfilld.toml"
THEIRS = "days = 3\n"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make install` into a DESTDIR where a configuration stands: takes 15 to 30 s, and the package index."""
    directory = tmp_path_factory.mktemp("stage")
    (directory / CONFIG).parent.mkdir(parents=True)
    (directory / CONFIG).write_text(THEIRS, encoding="utf-8")
    make("install", directory)
    return directory


def make(target: str, stage: Path) -> str:
    """What `make` said of it, with a prefix that is not the default."""
    words = ["make", "--no-print-directory", "-C", str(PROJECT), target]
    given = {"DESTDIR": stage, "PREFIX": "/opt/backfilld", "PYTHON": sys.executable}
    clean = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    command = [*words, *(f"{name}={value}" for name, value in given.items())]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240, env=clean)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_everything_is_where_it_belongs(stage: Path) -> None:
    link = stage / "opt/backfilld/bin/backfilld"
    assert str(link.readlink()) == "/opt/backfilld/lib/backfilld/bin/backfilld"
    assert (stage / str(link.readlink()).lstrip("/")).stat().st_mode & 0o555 == 0o555
    for path in ("opt/backfilld/share/doc/backfilld/README.md", "opt/backfilld/share/doc/backfilld/LICENSE"):
        assert (stage / path).read_bytes() == (PROJECT / Path(path).name).read_bytes()
    assert sorted(path.name for path in stage.iterdir()) == ["etc", "opt"]


COMPLETIONS = {
    "bash": "bash-completion/completions/backfilld",
    "zsh": "zsh/site-functions/_backfilld",
    "fish": "fish/vendor_completions.d/backfilld.fish",
}


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_each_shells_completion_is_where_it_looks_for_it(shell: str, stage: Path) -> None:
    installed = stage / "opt/backfilld/share" / COMPLETIONS[shell]
    assert f"_BACKFILLD_COMPLETE={shell}_complete" in installed.read_text(encoding="utf-8")
    assert installed.stat().st_mode & 0o777 == 0o644
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here: its completion is installed, and not tried")
    done = subprocess.run([shell, "-n", installed], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_commands_and_options(stage: Path, tmp_path: Path) -> None:
    """As bash calls it once the file is loaded, with the program that is installed."""
    python, program = stage / "opt/backfilld/lib/backfilld/bin/python", tmp_path / "backfilld"
    # What is installed begins with the Python below the final prefix.
    program.write_text(f"#!{python} -I\nfrom backfilld.__main__ import main\nmain()\n")
    program.chmod(0o755)
    script = f"""
source {stage / "opt/backfilld/share" / COMPLETIONS["bash"]}
for words in "backfilld ver" "backfilld fill --dr"; do
    COMPREPLY=(); COMP_WORDS=($words); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    _backfilld_completion backfilld
    echo "${{COMPREPLY[@]}}"
done
"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60, env=environment
    )
    assert done.stdout.splitlines() == ["verify", "--dry-run"], done.stderr


def test_the_installed_unit_names_the_installed_program(stage: Path) -> None:
    """It lies in /etc, because systemd does not search below this prefix."""
    installed = stage / "etc/systemd/system/backfilld.service"
    start = _Unit(installed)["Service"]["ExecStart"]
    assert start == "/opt/backfilld/bin/backfilld run --config /etc/backfilld/backfilld.toml"
    assert "/usr/local" not in installed.read_text(encoding="utf-8")


def test_nothing_names_the_place_where_it_was_built(stage: Path) -> None:
    naming = [path for path in files_below(stage) if str(stage).encode() in path.read_bytes()]
    assert naming == []


def test_nothing_needs_the_sources(stage: Path) -> None:
    """It is no editable installation."""
    assert list(stage.glob("opt/backfilld/lib/backfilld/lib/python3*/site-packages/backfilld/__main__.py"))
    assert not list(stage.glob("opt/backfilld/lib/backfilld/lib/python3*/site-packages/*.pth"))


def files_below(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def test_the_installed_program_runs(stage: Path, tmp_path: Path) -> None:
    """By its module here: its first line names the Python below the final prefix."""
    program = stage / "opt/backfilld/lib/backfilld/bin"
    assert (program / "backfilld").read_text(encoding="utf-8").startswith("#!/opt/backfilld/lib/backfilld/bin/python\n")
    command: list[str | Path] = [
        program / "python",
        "-I",
        "-m",
        "backfilld",
        "check-config",
        "--config",
        stage / CONFIG,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert THEIRS in done.stdout


def test_a_configuration_is_not_overwritten(stage: Path) -> None:
    assert (stage / CONFIG).read_text(encoding="utf-8") == THEIRS


def test_what_is_uninstalled_leaves_the_configuration_and_nothing_else(stage: Path, tmp_path: Path) -> None:
    copy = tmp_path / "stage"
    subprocess.run(["cp", "-al", stage, copy], check=True, timeout=60)
    assert "What stays: /etc/backfilld" in make("uninstall", copy)
    assert list(files_below(copy)) == [copy / CONFIG]
    assert [path for path in copy.rglob("*") if path.is_symlink()] == []
    assert (copy / CONFIG).read_text(encoding="utf-8") == THEIRS


def test_the_unit_bounds_memory_tasks_and_files_and_lets_nobody_else_read() -> None:
    text = UNIT.read_text(encoding="utf-8")
    for line in ("MemoryMax=2G", "TasksMax=64", "LimitFSIZE=8G", "SocketBindDeny=any", "UMask=0077"):
        assert f"\n{line}\n" in text


def test_installing_runs_no_code_of_the_current_directory(tmp_path: Path) -> None:
    """Modules named like those that the installer runs would write a file if they were imported."""
    place = tmp_path / "place"
    place.mkdir()
    for name in ("ensurepip", "venv", "pip", "compileall", "sysconfig", "site", "trio"):
        (place / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    script = Path(__file__).parents[1] / "systemd" / "install.sh"
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHON": sys.executable, "DESTDIR": str(tmp_path / "root")}
    # As far as making the virtual environment; what pip fetches is another test's.
    text = script.read_text(encoding="utf-8")
    cut = text[: text.index('    "$new/bin/python" -I -B -m pip install')] + "}\n" + "build_program $(choose_python)\n"
    copy = tmp_path / "systemd" / "install.sh"
    copy.parent.mkdir()
    copy.write_text(cut)
    done = subprocess.run(["sh", str(copy)], cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "root" / "usr/local/lib/backfilld.new/bin/python").exists()
    assert not (tmp_path / "ran").exists()
