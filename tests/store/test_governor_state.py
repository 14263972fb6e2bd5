"""What the governor must remember comes back, whatever else stands in the file; what cannot be read is moved aside."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.markets import Pool
from backfilld.core.weight.budget import MET_MS
from backfilld.core.weight.pauses import LONGEST_PAUSE_MS, Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.errors import StoreError
from backfilld.store.governor_state import (
    VERSION,
    RememberedBudget,
    load_remembered,
    peek_remembered,
    remembered_now,
    save_remembered,
)
from backfilld.store.state_file import MOST_BYTES

NOW_MS = 1_762_473_600_000.0
BANNED = BudgetStatistics(
    6000,
    "1m",
    4800,
    72,
    paused_ms=5_000,
    reason=Reason.BANNED,
    bans_ms_ago=(60_000, -5_000),
    learned={"aggTrades": 8},
    met={"1m": (1000, 60_000.0)},
)
BAN = {"paused_until_ms": NOW_MS + 5000, "reason": "banned", "bans_ms": [NOW_MS + 5000]}


def path_in(tmp_path: Path) -> Path:
    return tmp_path / "governor.json"


def peeked(tmp_path: Path, content: object) -> dict[Pool, RememberedBudget]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    path_in(tmp_path).write_bytes(body)
    return peek_remembered(tmp_path, NOW_MS)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    assert load_remembered(tmp_path, NOW_MS) == peek_remembered(tmp_path, NOW_MS) == {}
    remembered = remembered_now({Pool.SPOT: BANNED, Pool.FUTURES: BudgetStatistics(2400, "1m", 1920, 0)}, NOW_MS)
    save_remembered(tmp_path, remembered)
    assert load_remembered(tmp_path, NOW_MS) == peek_remembered(tmp_path, NOW_MS) == remembered
    spot = remembered[Pool.SPOT]
    assert spot.paused_until_ms == NOW_MS + 5_000
    assert spot.bans_ms == (NOW_MS - 60_000, NOW_MS + 5_000)
    assert spot.learned == {"aggTrades": 8}
    assert spot.met == {"1m": (1000, NOW_MS + 60_000)}
    assert remembered[Pool.FUTURES] == RememberedBudget()


def test_it_is_the_owners_alone_and_no_figure_for_display_is_in_it(tmp_path: Path) -> None:
    save_remembered(tmp_path, remembered_now({Pool.SPOT: BANNED}, NOW_MS))
    path = path_in(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = json.loads(path.read_bytes())
    assert found["version"] == VERSION
    assert set(found["pools"]["spot"]) == {"paused_until_ms", "reason", "bans_ms", "learned", "met"}


@pytest.mark.parametrize("version", [0, 1, VERSION, VERSION + 1, 99, "new", None])
@pytest.mark.parametrize("more", [{}, {"statistics": {"renamed": 1}}, {"learned": "eight", "met": 7}, {"x": [[[]]]}])
def test_no_version_and_no_other_field_loses_a_ban(tmp_path: Path, version: object, more: dict[str, Any]) -> None:
    found = peeked(tmp_path, {"version": version, "pools": {"spot": BAN | more, "moon": {}}, "shown": more})
    assert found[Pool.SPOT].paused_until_ms == NOW_MS + 5000
    assert found[Pool.SPOT].reason is Reason.BANNED
    assert found[Pool.SPOT].bans_ms == (NOW_MS + 5000,)


def test_a_file_by_markets_as_it_was_is_read(tmp_path: Path) -> None:
    old = BAN | {"saved_ms": NOW_MS, "statistics": {"learned": {"aggTrades": 8}, "limit": 6000}}
    found = peeked(tmp_path, {"spot": old, "um": {"bans_ms": []}, "cm": BAN})
    assert found[Pool.SPOT].learned == {"aggTrades": 8}
    assert found[Pool.FUTURES].paused_until_ms == NOW_MS + 5000


def test_a_pause_for_an_unknown_reason_is_kept(tmp_path: Path) -> None:
    found = peeked(tmp_path, {"pools": {"spot": BAN | {"reason": "of the future"}}})
    assert found[Pool.SPOT].paused_until_ms == NOW_MS + 5000
    assert found[Pool.SPOT].reason is Reason.LIMITED


def test_everything_is_bounded(tmp_path: Path) -> None:
    lies = {
        "paused_until_ms": 1e300,
        "reason": "banned",
        "bans_ms": [1e300] * 1_000 + [float("nan"), "x", None, True, 10**400],
        "learned": {"aggTrades": 10**400, "a": -1, "b": 0, "c": 2} | {f"n{n}": 1 for n in range(100)},
        "met": {"1m": [1000, 1e300], "10s": [0, NOW_MS], "x": 7, "y": [1]},
    }
    body = json.dumps({"pools": {"spot": lies}}).replace("NaN", "1e999").encode()
    path_in(tmp_path).write_bytes(body)
    found = peek_remembered(tmp_path, NOW_MS)
    spot = found[Pool.SPOT]
    assert spot.paused_until_ms == NOW_MS + LONGEST_PAUSE_MS
    assert set(spot.bans_ms) == {NOW_MS + LONGEST_PAUSE_MS}
    assert len(spot.bans_ms) <= 64
    assert spot.learned == {"c": 2} | {f"n{n}": 1 for n in range(12)}
    assert spot.met == {"1m": (1000, NOW_MS + MET_MS)}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4),
    max_leaves=10,
)
_FIELDS = st.sampled_from(["reason", "learned", "met", "statistics", "saved_ms", "other"])


@given(st.dictionaries(_FIELDS, _JSON))
def test_whatever_stands_beside_it_the_ban_stays(
    tmp_path_factory: pytest.TempPathFactory, more: dict[str, Any]
) -> None:
    tmp_path = tmp_path_factory.mktemp("state")
    body = msgspec.json.encode({"version": 3, "pools": {"spot": more | {"paused_until_ms": NOW_MS + 5000}}})
    assert peeked(tmp_path, body)[Pool.SPOT].paused_until_ms == NOW_MS + 5000


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"7", b"[" * 200_000, b" " * (MOST_BYTES + 1)])
def test_what_cannot_be_read_is_moved_aside_by_who_may(tmp_path: Path, body: bytes) -> None:
    path = path_in(tmp_path)
    path.write_bytes(body)
    assert peek_remembered(tmp_path, NOW_MS) == {}
    assert path.read_bytes() == body
    assert load_remembered(tmp_path, NOW_MS) == {}
    assert [each.name.partition(".bad-")[0] for each in path.parent.iterdir()] == ["governor.json"]
    assert not path.exists()


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    path, victim = path_in(tmp_path), tmp_path / "victim.json"
    victim.write_text(json.dumps({"pools": {"spot": BAN}}))
    path.symlink_to(victim)
    assert load_remembered(tmp_path, NOW_MS) == {}
    assert victim.exists()
    os.mkfifo(path)
    assert load_remembered(tmp_path, NOW_MS) == {}
    save_remembered(tmp_path, {})
    assert json.loads(victim.read_text()) == {"pools": {"spot": BAN}}


def test_a_directory_that_cannot_be_written_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / ".backfilld").write_text("a file")
    with pytest.raises(StoreError, match="write"):
        save_remembered(tmp_path / ".backfilld", {})
