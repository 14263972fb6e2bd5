"""Every command and every snippet of README and docs is run, page by page, against the embedded exchange."""

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pytest
from click import Group

from backfilld import Settings
from backfilld.surfaces.cli import cli
from tests.docs.snippets import PAGES, ROOT, Block, Python, Shell, blocks_of

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
FROM_NOTHING = {"README.md", "docs/tutorial.md"}
RUN_PAGES = sorted({block.page for block in BLOCKS if block.reason is None and block.language != "text"})
LANGUAGES = {"sh", "python", "sql", "toml", "text", "ini", "yaml", "r"}


def test_every_block_says_what_it_is() -> None:
    assert len(BLOCKS) > 40
    assert [str(block) for block in BLOCKS if block.language not in LANGUAGES] == []


def test_what_nobody_can_run_here_says_why() -> None:
    unrunnable = {"ini", "yaml", "r"}
    assert [str(block) for block in BLOCKS if block.language in unrunnable and not block.reason] == []


def test_the_readme_is_short_compares_honestly_and_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 200
    others = ("freqtrade", "ccxt", "python-binance", "tardis-machine", "cryptofeed", "public dumps")
    assert [each for each in others if f"| {each}" not in readme] == []
    assert re.search(r"As of \w+ 20\d\d", readme)
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert [page for page in sorted(pages) if f"({page})" not in index] == []
    howtos = [page for page in sorted(pages) if page.startswith("howto-")]
    assert [page for page in howtos if f"(docs/{page})" not in readme] == []


def test_the_page_of_commands_names_every_command() -> None:
    page = (ROOT / "docs" / "reference-commands.md").read_text(encoding="utf-8")
    fleet = cli.commands["fleet"]
    assert isinstance(fleet, Group)
    wanted = {*cli.commands, *(f"fleet {name}" for name in fleet.commands)} - {"fleet"}
    table = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert {name for name in wanted if not re.search(rf"`{name}\b", table)} == set()


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.reason], ids=str)
def test_block_that_is_not_run(block: Block) -> None:
    """Counted aloud: pytest names each with its reason."""
    pytest.skip(f"{block}: {block.reason}")


@pytest.mark.parametrize("page", RUN_PAGES)
def test_page(page: str, environment: dict[str, str], stored: Path, tmp_path: Path) -> None:
    """The blocks of a page, in order, in a directory that looks like a clone in which backfilld has run; a page for
    newcomers gets by with what its own commands have stored."""
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for name in () if page in FROM_NOTHING else ("my_cache", "context_history_dir/backfill_cache"):
        subprocess.run(["cp", "-r", "--parents", ".", str(_made(tmp_path / name))], cwd=stored, check=True)
    _write_flat(stored, _made(tmp_path / "old_files"))
    shell, python = Shell(tmp_path, environment), Python(tmp_path, environment)
    for block in blocks_of(ROOT / page):
        if block.reason is not None:
            continue
        match block.language:
            case "sh":
                shell.run(block)
            case "python":
                python.run(block)
            case "sql":
                _query(block, tmp_path)
            case "toml":
                _configure(block, tmp_path)
            case _:
                continue


def _write_flat(cache: Path, directory: Path) -> None:
    """A day as an earlier program left it: a flat file without a certificate."""
    (day,) = cache.glob("market=spot/*/*2025-11-07.parquet")
    pl.read_parquet(day, hive_partitioning=False).write_parquet(directory / day.name)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def _query(block: Block, directory: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"SET file_search_path = '{directory}'")
        assert connection.execute(block.text).fetchall(), f"{block}: no rows"


def _configure(block: Block, directory: Path) -> None:
    config = directory / "snippet.toml"
    config.write_text(block.text)
    Settings(config=config)
