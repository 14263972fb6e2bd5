"""A repair that is ended early leaves no sound file aside."""

from datetime import timedelta
from pathlib import Path

import pytest

from backfilld import BackfillCacheManager, Settings, StoreError
from backfilld.services.repair import repair_cache
from backfilld.store.layout import instrument_directory
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame
from tests.store.refusing import refusing

NEXT = DAY + timedelta(days=1)


async def test_what_was_moved_aside_is_put_back_when_the_disk_refuses_the_rest(tmp_path: Path) -> None:
    """Two days that are sound in themselves, and have ids in common."""
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT), SPOT)
    manager.append(NEXT, day_frame(range(1090, 1200), NEXT), starts_at(NEXT, 1090, 1200))
    manager.append(DAY, day_frame(range(1000, 1100)), starts_at(DAY, 1000))
    before = {path: path.read_bytes() for path in manager.directory.iterdir()}
    with refusing(manager.get_cache_path(NEXT), "rename"), pytest.raises(StoreError, match="cannot move aside"):
        await repair_cache(Settings(cache_dir=tmp_path), None, against_archive=False)
    assert {path: path.read_bytes() for path in manager.directory.iterdir()} == before


async def test_a_day_that_was_moved_aside_and_not_filled_again_is_a_finding(tmp_path: Path) -> None:
    """No look at the files shows it: a repair that lost a day would end with 0."""
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT), SPOT)
    manager.append(DAY, day_frame(range(1000, 1100)), starts_at(DAY, 1000))
    path = manager.get_cache_path(DAY)
    path.write_bytes(path.read_bytes()[:-100])
    with refusing(tmp_path / ".backfilld" / "governor.json", "open"):
        repaired = await repair_cache(Settings(cache_dir=tmp_path), None, against_archive=False)
    assert [(each.day, each.kind) for each in repaired.verified.findings] == [(DAY, "incomplete")]
    assert len(repaired.reasons) == 1
    assert "Input/output error" in repaired.reasons[0]
