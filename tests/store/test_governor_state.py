"""What the governor remembers comes back as it was; what cannot be read is moved aside."""

from pathlib import Path

import pytest

from backfilld.core.markets import Pool
from backfilld.core.weight.budget import BudgetStatistics
from backfilld.core.weight.pauses import Reason
from backfilld.errors import StoreError
from backfilld.store.governor_state import load_remembered, peek_remembered, remembered_now, save_remembered

BANNED = BudgetStatistics(
    6000, "1m", 4800, 72, paused_ms=5_000, reason=Reason.BANNED, bans_ms_ago=(-5_000, 60_000), learned={"aggTrades": 8}
)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    assert load_remembered(tmp_path) == peek_remembered(tmp_path) == {}
    remembered = remembered_now({Pool.SPOT: BANNED, Pool.FUTURES: BudgetStatistics(2400, "1m", 1920, 0)}, 1_000_000.0)
    save_remembered(tmp_path, remembered)
    assert load_remembered(tmp_path) == peek_remembered(tmp_path) == remembered
    spot = remembered[Pool.SPOT]
    assert spot.paused_until_ms == 1_005_000
    assert spot.bans_ms == (1_005_000, 940_000)
    assert remembered[Pool.FUTURES].paused_until_ms is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"spot": {}}', b"\xff", b'{"moon": {}}'])
def test_what_cannot_be_read_is_moved_aside_by_who_may(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / ".backfilld" / "governor.json"
    path.parent.mkdir()
    path.write_bytes(body)
    assert peek_remembered(tmp_path) == {}
    assert path.read_bytes() == body
    assert load_remembered(tmp_path) == {}
    assert [each.name.partition(".bad-")[0] for each in path.parent.iterdir()] == ["governor.json"]
    assert not path.exists()


def test_a_directory_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / ".backfilld").write_text("a file")
    with pytest.raises(StoreError, match="write"):
        save_remembered(tmp_path, {})
