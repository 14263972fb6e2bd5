"""The simulator is what backfilld is compared with, so it must be another program."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "daemon" / "binance_simulator"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 300


def test_the_simulator_runs_without_backfilld() -> None:
    """Importing all of it loads nothing of backfilld: a mistake cannot be in both."""
    names = [f"binance_simulator.{path.stem}" for path in MODULES if not path.stem.startswith("__")]
    assert len(names) > 20
    program = f"import sys, {', '.join(names)}; sys.exit(any(m.split('.')[0] == 'backfilld' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, check=False).returncode == 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_module_is_too_long_to_read_at_once(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
