"""What all tests share: how hard hypothesis tries, a place without settings, and that no process outlives them.

Each run draws the same cases; `make test-thorough` draws anew.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.effort import THOROUGH, traced_in_part
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

TRACED_CASES = 10


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Coverage sees the first cases of each search. Comes after pytest-trio, which gives a case its loop."""
    search = getattr(getattr(item, "obj", None), "hypothesis", None)
    tracer = sys.gettrace()
    if search is None or tracer is None:
        yield
        return
    body = search.inner_test
    search.inner_test = traced_in_part(body, TRACED_CASES)
    yield
    search.inner_test = body
    sys.settrace(tracer)


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
