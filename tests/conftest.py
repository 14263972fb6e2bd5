"""What all tests share: how hard hypothesis tries, a place without settings, and that no process outlives them.

Each run draws the same cases; `make test-thorough` draws anew.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.effort import THOROUGH
from tests.orphans import killed_with_this_process

settings.register_profile(
    "anew",
    deadline=None,
    max_examples=60,
    # Building a tape is slow beside drawing it; trio's virtual clock is asked for by tests that make their own loop.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("same", settings.get_profile("anew"), derandomize=True, print_blob=True)
settings.load_profile("anew" if THOROUGH else "same")


@pytest.fixture(scope="session", autouse=True)
def no_orphans() -> Iterator[None]:
    """Daemons end with pytest, or with its worker, also if that is killed."""
    with killed_with_this_process():
        yield


@pytest.fixture
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory and an environment without settings."""
    for name in list(os.environ):
        if name.upper().startswith("BACKFILL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
