"""The image's recipe: what it copies is here, and what it installs without a network is in the lock."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()


def test_what_is_copied_is_here_and_what_is_built_with_is_locked() -> None:
    copied = [
        source for line in LINES if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]
    ]
    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []
    (locked,) = {name for line in LINES for name in re.findall(r"--require-hashes -r (\S+)", line)}
    assert locked in copied
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {project["project"]["readme"], *project["project"]["license-files"]} <= set(copied)
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {package.partition("/")[0] for package in packages} <= set(copied)
    names = set(re.findall(r"^([\w.-]+)==", (ROOT / locked).read_text(encoding="utf-8"), re.MULTILINE))
    assert set(project["build-system"]["requires"]) <= names
