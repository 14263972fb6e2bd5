"""docs/architecture.md follows six things through the code by names: each of them exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "daemon" / "backfilld"
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WAYS = TEXT.partition("## Six ways through the code\n")[2].partition("\n## ")[0]
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))
CLASSES = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.ClassDef)]
NAMES = sorted(set(re.findall(r"`([^`]+)`", WAYS)))


def test_the_six_ways_are_there() -> None:
    assert re.findall(r"^\*\*(.+?)\.\*\*", WAYS, re.MULTILINE) == [
        "A page", "An archive day", "A SIGHUP", "A SIGTERM", "A 429", "A look at the daemon"
    ]  # fmt: skip


@pytest.mark.parametrize("name", [each for each in NAMES if each.endswith(".py")])
def test_a_file_that_is_named_exists(name: str) -> None:
    assert (PACKAGE / name).is_file()


@pytest.mark.parametrize("name", [each for each in NAMES if not each.endswith(".py")])
def test_what_is_named_is_defined(name: str) -> None:
    """A class or a method of it, a function, a field, or a setting, which is a field in small letters."""
    place, _, member = name.rpartition(".")
    if place:
        classes = [node for node in CLASSES if node.name == place]
        assert any(member in members_of(node) for node in classes), f"no class {place} has {member}"
    else:
        assert re.search(rf"(class|def) {name}\b|^    {name.lower()}: ", SOURCE, re.MULTILINE), f"{name} is not defined"


def members_of(node: ast.ClassDef) -> set[str]:
    return {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
