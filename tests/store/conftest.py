"""What the tests of the cache share: a directory of one instrument, and small row groups."""

from pathlib import Path

import pytest

from backfilld.store.format import dayfile
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from tests.store.frames import SPOT


@pytest.fixture
def manager(tmp_path: Path) -> BackfillCacheManager:
    """The cache of spot:BTCUSDT, nothing in it."""
    return BackfillCacheManager(instrument_directory(tmp_path, SPOT))


@pytest.fixture
def small_row_groups(monkeypatch: pytest.MonkeyPatch) -> int:
    """Row groups of 40 rows, so that a day of hundreds has several."""
    monkeypatch.setattr(dayfile, "ROW_GROUP_ROWS", 40)
    return 40
