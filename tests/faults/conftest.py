"""What the machine must be able to do; where it cannot, a test is skipped and says why."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, its mounts taken away at the end."""
    path = Path(tempfile.mkdtemp(prefix="backfilld-faults-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def strace() -> None:
    """strace, and the right to attach it to a process of ours."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace on this machine")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        tried = subprocess.Popen(
            ["strace", "-e", "trace=exit_group", "-o", os.devnull, "-p", str(victim.pid)], stderr=subprocess.PIPE
        )
        assert tried.stderr is not None
        said = tried.stderr.readline()  # that it has attached, or why it has not
        victim.communicate(b"\n", timeout=20)
        tried.communicate(timeout=20)
    if tried.returncode:
        pytest.skip(f"strace may not attach to a process here: {said.decode().strip()}")


@pytest.fixture
def mount(place: Path) -> Iterator[Callable[[Path, str], Path]]:
    """Mounts a tmpfs of a size (``5m``) at a path; needs root."""
    mounted: list[Path] = []

    def tmpfs(path: Path, size: str) -> Path:
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True, text=True)
        mounted.append(path)
        return path

    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounting a tmpfs needs root, and mount")
    try:
        tmpfs(place / "trial", "1m")
    except subprocess.CalledProcessError:
        pytest.skip("no tmpfs can be mounted here, though we are root: a container without the right to mount?")
    yield tmpfs
    for path in reversed(mounted):
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="session")
def powerless() -> list[str]:
    """The command that runs another one as root without root's power over permissions."""
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    if os.geteuid():
        return []
    able = (
        shutil.which("setpriv") and not subprocess.run([*command, "true"], check=False, capture_output=True).returncode
    )
    if not able:
        pytest.skip("root's power over permissions cannot be given up here: no setpriv, or not the right to use it")
    return command
