"""Programs of users, run by a Python that has the clients."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio

PYTHON = Path(os.environ.get("CLIENTS_PYTHON", "build/clients/bin/python"))


def need_clients() -> None:
    """Skip where the clients are not installed."""
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON} is not there: make test-clients sets it up")


async def run_program(script: str, directory: Path, timeout_s: float = 60) -> Any:
    """The last line that a program prints, as JSON; None if it prints nothing. It must end well."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with trio.fail_after(timeout_s):
        done = await trio.run_process(
            [str(PYTHON.absolute()), "-c", script],
            env=environment,
            cwd=directory,
            check=False,
            capture_stdout=True,
            capture_stderr=True,
        )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    lines = done.stdout.decode().splitlines()
    return json.loads(lines[-1]) if lines else None
