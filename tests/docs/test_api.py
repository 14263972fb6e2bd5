"""The page of the Python API is whole, and the examples in the docstrings are true."""

import doctest
import os
import re
import subprocess
from pathlib import Path

import pytest
import structlog

import backfilld
from tests.docs.snippets import ROOT

PAGE = ROOT / "docs" / "reference-api.md"
WITH_EXAMPLES = ("scan", "bars", "profile", "fetch", "fetch_async", "BinanceTradeHistory", "follow")


def test_the_page_has_every_public_name_once() -> None:
    named = re.findall(r"^::: backfilld\.(\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(set(backfilld.__all__) - {"__version__"})


@pytest.mark.parametrize("name", sorted(set(backfilld.__all__) - {"__version__"}))
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert getattr(backfilld, name).__doc__


@pytest.fixture
def cache(stored: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the stored days, and the environment that leads to the exchange."""
    for name in ("my_cache", "context_history_dir/backfill_cache"):
        (tmp_path / name).mkdir(parents=True)
        subprocess.run(["cp", "-r", "--parents", ".", str(tmp_path / name)], cwd=stored, check=True)
    structlog.reset_defaults()  # another test of this process may have configured it, as a program may
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        if name.startswith("BACKFILL") or name not in os.environ:
            monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_docstring_are_true(name: str, cache: Path) -> None:
    names = {each: getattr(backfilld, each) for each in backfilld.__all__}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    tried = 0
    for test in doctest.DocTestFinder(recurse=False).find(names[name], name, globs=dict(names)):
        said: list[str] = []
        runner.run(test, out=said.append)
        tried += len(test.examples)
        assert not runner.summarize(verbose=False).failed, "".join(said)
    assert tried
