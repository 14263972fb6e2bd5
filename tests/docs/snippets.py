"""The fenced blocks of the documents, and what runs them.

The language of a block says how it is run: ``sh`` by bash, ``python`` in one interpreter per page (top-level await
included), ``sql`` by DuckDB, ``toml`` as settings. ``text`` is output. A comment before a block can say more:

    <!-- not run: needs systemd -->     it is not run, for this reason
    <!-- runs until stopped -->         it does not end by itself: it is stopped after a while, and must have gone well
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what is in its background deaf to Ctrl-C, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)

RUN_FOR_S = 6.0
LONGEST_S = 120.0
_FENCE = re.compile(
    r"^(?:<!-- (?P<note>[^\n]*?) -->\n\n?)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block: ``reason`` says why it is not run."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None = None
    is_endless: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        note = match["note"] or ""
        reason = note.removeprefix("not run: ") if note.startswith("not run: ") else None
        line = text.count("\n", 0, match.start("language")) + 1
        is_endless = note == "runs until stopped"
        yield Block(path.relative_to(ROOT).as_posix(), line, match["language"], match["text"], reason, is_endless)


class Shell:
    """Runs ``sh`` blocks in a directory."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment

    def run(self, block: Block) -> None:
        """Run the block's lines; assert that they end with 0, or go on without a failure until they are stopped."""
        if block.is_endless:
            for command in _commands(block.text):
                self._run(block, command, endless=True)
        else:
            self._run(block, block.text, endless=False)

    def _run(self, block: Block, text: str, *, endless: bool) -> None:
        # A group of its own, so that the signal reaches what the shell has started.
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=RUN_FOR_S if endless else LONGEST_S)
            assert not endless, f"{block}: it ended by itself:\n{output[-2000:]}"
        except subprocess.TimeoutExpired:
            assert endless, f"{block}: it did not end in {LONGEST_S:.0f} s"
            os.killpg(process.pid, signal.SIGINT)
            output, _ = process.communicate(timeout=30)
            assert process.returncode in {0, 130, -signal.SIGINT}, f"{block}: {process.returncode}\n{output[-2000:]}"
            assert "Traceback" not in output, f"{block}:\n{output[-2000:]}"
            return
        assert process.returncode == 0, f"{block}: exit code {process.returncode}\n{output[-2000:]}"


def _commands(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


class Python:
    """Runs ``python`` blocks one after the other in one process, as a notebook does."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment
        self._texts: list[str] = []

    def run(self, block: Block) -> None:
        """Run the block after those before it that ended. Earlier blocks run again: they must be repeatable."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _NOTEBOOK],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        cells = "\0".join([*self._texts, block.text])
        try:
            output, _ = process.communicate(cells, timeout=RUN_FOR_S if block.is_endless else LONGEST_S)
            assert not block.is_endless, f"{block}: it ended by itself:\n{output[-2000:]}"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
            assert block.is_endless, f"{block}: it did not end in {LONGEST_S:.0f} s:\n{output[-2000:]}"
            assert "KeyboardInterrupt" in output, f"{block}:\n{output[-2000:]}"
            return
        assert process.returncode == 0, f"{block}: exit code {process.returncode}\n{output[-2000:]}"
        self._texts.append(block.text)


_NOTEBOOK = """
import ast, asyncio, sys

space = {"__name__": "__main__"}
for cell in sys.stdin.read().split("\\0"):
    waiting = eval(compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), space)
    if waiting is not None:
        asyncio.run(waiting)
"""
