"""The wheel alone and with each extra alone, on each Python that is here, and with the least versions that the wheel
allows. Run by ``make test-versions``, which skips aloud the Pythons that are not available."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.versions.pythons import ROOT, TOOLS, python_of, versions

EXTRAS = ("demo", "serve", "remote", "fleet", "chart")
EVERYTHING = f"[{','.join(EXTRAS)}]"
TODAY = datetime.now(UTC).date()
YESTERDAY = str(TODAY - timedelta(days=1))
BUCKET = {"REMOTE_URL": "s3://trades", "REMOTE_ENDPOINT": "http://127.0.0.1:1"}
FLEET_SPAN = (
    *("--instruments", "spot:BTCUSDT", "--from", YESTERDAY, "--to", YESTERDAY),
    "--scheduler",
    "tcp://127.0.0.1:1",
)
UNIT_TESTS = (*("core", "actors", "store", "adapters", "services", "serving"), "test_scanning.py", "test_history.py")
UNIT_TESTS_NEED = (*("pytest", "pytest-trio", "hypothesis", "pandas", "duckdb", "pyte"),)
READS = """
import importlib.metadata, sys, backfilld
for name in backfilld.__all__:
    getattr(backfilld, name)
assert backfilld.__version__ == importlib.metadata.version("backfilld")
assert backfilld.__file__.startswith(sys.prefix), backfilld.__file__
span = ("spot:BTCUSDT", sys.argv[1], sys.argv[2])
trades = backfilld.scan(*span, cache_dir="cache", times=True).collect()
assert trades.height == 2000, trades
assert backfilld.bars(*span, every="1h", cache_dir="cache").collect().height == 24
assert backfilld.profile(*span, bin_size=10, cache_dir="cache").collect().height
assert backfilld.fetch(*span, settings=backfilld.Settings(cache_dir="fetched", **{
    f"{name}_url": sys.argv[3] for name in ("spot", "archive")})).height == 2000
"""


class Installed:
    """backfilld as a wheel in an environment of its own, in which its commands are run."""

    def __init__(self, directory: Path, python: Path, wheel: Path, url: str) -> None:
        self._wheel, self._url = wheel, url
        self.directory = directory
        own = {name: value for name, value in os.environ.items() if not name.startswith(("BACKFILL", "PYTHON"))}
        self.environment = own | {f"BACKFILL_{name}_URL": url for name in ("SPOT", "UM", "CM", "ARCHIVE")}
        self.environment |= {"BACKFILL_CACHE_DIR": "cache", "BACKFILL_LIVE": "false"}
        self.environment |= {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
        _uv("venv", "-q", "--python", str(python), str(directory / "venv"))

    @property
    def python(self) -> str:
        return str(self.directory / "venv" / "bin" / "python")

    def install(self, extras: str = "", *options: str) -> None:
        """The wheel with these extras."""
        _uv("pip", "install", "-q", "--python", self.python, *options, f"{self._wheel}{extras}")

    def add(self, *packages: str) -> None:
        """Packages beside it, which change nothing of what is installed."""
        _uv("pip", "install", "-q", "--python", self.python, *packages)

    def command(self, *arguments: str, code: int = 0, **settings: str) -> str:
        """What ``backfilld`` says; it must end with this code."""
        program = [str(self.directory / "venv" / "bin" / "backfilld"), *arguments]
        environment = self.environment | {f"BACKFILL_{name}": value for name, value in settings.items()}
        return self._run(program, environment, code)

    def script(self, text: str, *arguments: str) -> str:
        """What a program says."""
        return self._run([self.python, "-W", "error", "-c", text, *arguments], self.environment, 0)

    def _run(self, program: Sequence[str], environment: dict[str, str], code: int) -> str:
        done = subprocess.run(
            program, cwd=self.directory, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == code, f"{program}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def does_the_main_job(self) -> None:
        """Two days, today, and all that reads them; only what the wheel alone installs is needed."""
        self.command("fill", "--from", str(TODAY - timedelta(days=2)))
        self.command("run", "--once")
        assert "every file is what it claims" in self.command("verify")
        found = json.loads(self.command("status", "--json"))
        assert found
        self.command("export", "spot:BTCUSDT", "--from", YESTERDAY, "--every", "1m", "--out", "minutes.csv")
        self.script(READS, YESTERDAY, str(TODAY), self._url)


def _uv(*arguments: str) -> None:
    done = subprocess.run([TOOLS / "uv", *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"uv {' '.join(arguments)}:\n{done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def wheel() -> Path:
    """Built once: what is tried is what would be published."""
    out = ROOT / "build" / "versions" / "dist"
    shutil.rmtree(out, ignore_errors=True)
    _uv("build", "-q", "--wheel", "--out-dir", str(out), str(ROOT))
    (found,) = out.glob("backfilld-*.whl")
    return found


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """An exchange of three days."""
    command = [sys.executable, "-m", "binance_simulator", "--days", "4", "--daily-trades", "2000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["url"])
        process.terminate()


@pytest.fixture(params=versions())
def installed(request: pytest.FixtureRequest, wheel: Path, url: str, tmp_path: Path) -> Installed:
    """An environment of each Python, with nothing in it."""
    python = python_of(request.param)
    if python is None:
        pytest.skip(f"Python {request.param} is not here, and not available from Debian's packages")
    return Installed(tmp_path, python, wheel, url)


def test_the_extras_that_are_tried_are_those_that_users_can_choose() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == {*EXTRAS, "docs", "clients", "dev", "build"}


def test_the_wheel_alone(installed: Installed) -> None:
    installed.install()
    version = installed.script("import backfilld; print(backfilld.__version__)").strip()
    assert version in installed.command("--version")
    assert 'compression = "zstd"' in installed.command("check-config")
    installed.command("--help")
    installed.does_the_main_job()
    needs_its_extras(installed)


def needs_its_extras(installed: Installed) -> None:
    """What needs an extra names it."""
    assert "'backfilld[demo]'" in installed.command("demo", code=78)
    assert "'backfilld[serve]'" in installed.command("run", code=78, API_LISTEN="127.0.0.1:8190")
    assert "'backfilld[remote]'" in installed.command("push", code=78, **BUCKET)
    assert "backfilld[chart]" in installed.command("chart", "spot:BTCUSDT", "--day", YESTERDAY, code=78)


def test_demo_alone(installed: Installed) -> None:
    installed.install("[demo]")
    assert '"passed": true' in installed.command("demo", "--trades", "2000")


def test_serve_alone(installed: Installed) -> None:
    installed.install("[serve]")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = installed.environment | {"BACKFILL_API_LISTEN": f"127.0.0.1:{port}"}
    program = [installed.python, "-m", "backfilld", "run"]
    with subprocess.Popen(program, cwd=installed.directory, env=environment, stdout=subprocess.DEVNULL) as daemon:
        try:
            assert "backfilld_" in _answer(f"http://127.0.0.1:{port}/metrics")
            assert "<html" in _answer(f"http://127.0.0.1:{port}/")
        finally:
            daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0


def _answer(address: str) -> str:
    ends_at = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < ends_at, f"{address} does not answer"
            time.sleep(0.1)


def test_remote_alone(installed: Installed) -> None:
    """As far as it gets without a bucket; ``make test-s3`` has one."""
    installed.install("[remote]")
    installed.command("fill", "--from", YESTERDAY)
    assert "the connection was refused" in installed.command("push", code=75, **BUCKET)
    assert "'backfilld[fleet]'" in installed.command("fleet", "fill", *FLEET_SPAN, code=78, **BUCKET)


def test_fleet_alone(installed: Installed) -> None:
    """As far as it gets without a scheduler; ``make test-fleet`` has one."""
    installed.install("[fleet]")
    assert "the connection was refused" in installed.command("fleet", "fill", *FLEET_SPAN, code=75, **BUCKET)


def test_chart_alone(installed: Installed) -> None:
    installed.install("[chart]")
    installed.command("fill", "--from", YESTERDAY)
    for form in ("html", "png", "svg"):
        installed.command("chart", "spot:BTCUSDT", "--day", YESTERDAY, "--out", f"day.{form}")
        assert (installed.directory / f"day.{form}").stat().st_size > 10_000


def test_the_unit_tests(installed: Installed) -> None:
    """Those that need no process of its own, against the wheel instead of the sources."""
    installed.install(EVERYTHING)
    installed.add(*UNIT_TESTS_NEED)
    _run_unit_tests(installed)


def test_the_least_versions(wheel: Path, url: str, tmp_path: Path) -> None:
    """The lower bounds of the dependencies hold, on the oldest Python."""
    python = python_of(versions()[0])
    assert python is not None
    installed = Installed(tmp_path, python, wheel, url)
    installed.install(EVERYTHING, "--resolution", "lowest-direct")
    installed.does_the_main_job()
    assert '"passed": true' in installed.command("demo", "--trades", "2000")
    installed.command("chart", "spot:BTCUSDT", "--day", YESTERDAY, "--out", "day.png")
    installed.add(*UNIT_TESTS_NEED)
    _run_unit_tests(installed)


def _run_unit_tests(installed: Installed) -> None:
    tests = installed.directory / "tests"
    shutil.copytree(ROOT / "tests", tests, ignore=shutil.ignore_patterns("__pycache__"))
    # Some compare what they see with what is documented.
    for pages in ("docs", "config"):
        shutil.copytree(ROOT / pages, installed.directory / pages)
    shutil.copy(ROOT / "pyproject.toml", installed.directory)
    chosen = [f"tests/{each}" for each in UNIT_TESTS]
    command = [installed.python, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *chosen]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BACKFILL", "PYTHON"))}
    done = subprocess.run(
        command, cwd=installed.directory, env=environment | {"CI": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:]
