"""Programs out of Debian's packages for the tests: unpacked into a private tree, once. No root, nothing installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class Unavailable(Exception):
    """The packages are not available here; the message says why."""


def cached_tree(name: str) -> Path:
    """Where unpacked packages are kept from one run to the next: outside the repository."""
    cache = os.environ.get("BACKFILLD_TEST_CACHE") or Path.home() / ".cache" / "backfilld-tests"
    return Path(cache) / name


def fetched(name: str, packages: Sequence[str], program: str) -> Path:
    """The tree of these packages and of all that they need and this machine lacks; ``program`` is a pattern of
    a path in it. They are downloaded unless that was done before. Raises Unavailable."""
    tree = cached_tree(name)
    if (tree / "complete").exists():
        return tree
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not here: the packages of {name} are Debian's")
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        unpacked = _unpacked(Path(scratch), packages)
        if not any(unpacked.glob(program)):
            raise Unavailable(f"the packages hold no {program}: it is installed on this machine in another way")
        (unpacked / "complete").touch()
        # Another run may have been faster.
        with suppress(OSError):
            unpacked.rename(tree)
    return tree


def _unpacked(scratch: Path, wanted: Sequence[str]) -> Path:
    packages, tree = scratch / "packages", scratch / "tree"
    packages.mkdir()
    plan = _output(["apt-get", "install", "-s", "--no-install-recommends", *wanted], scratch)
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    _output(["apt-get", "download", *names], packages)
    for package in packages.glob("*.deb"):
        _output(["dpkg", "-x", str(package), str(tree)], scratch)
    return tree


def _output(command: Sequence[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"{' '.join(command[:2])} failed: {last}")
    return done.stdout
