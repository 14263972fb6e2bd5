"""What the governor remembers over a restart, and shows to other processes: one JSON file in the cache directory."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from backfilld.core.markets import Pool
from backfilld.core.weight.budget import BudgetStatistics
from backfilld.core.weight.pauses import Reason
from backfilld.store.atomic import move_aside, replacing, translated
from backfilld.store.layout import STATE_DIRECTORY


class RememberedBudget(msgspec.Struct, frozen=True):
    """One pool's budget. Times are the host's, in ms since the epoch: the exchange's may be far off."""

    saved_ms: float
    paused_until_ms: float | None
    reason: Reason | None
    bans_ms: tuple[float, ...]
    statistics: BudgetStatistics


Remembered = dict[Pool, RememberedBudget]


def remembered_now(shown: Mapping[Pool, BudgetStatistics], wall_ms: float) -> Remembered:
    """What there is to remember of these budgets at this instant of the host's clock."""
    return {
        pool: RememberedBudget(
            saved_ms=wall_ms,
            paused_until_ms=wall_ms + each.paused_ms if each.paused_ms else None,
            reason=each.reason,
            bans_ms=tuple(wall_ms - ago_ms for ago_ms in each.bans_ms_ago),
            statistics=each,
        )
        for pool, each in shown.items()
    }


def load_remembered(cache_dir: Path) -> Remembered:
    """What was saved last; nothing if nothing was, or if it cannot be read, which is then moved aside."""
    path = _path(cache_dir)
    try:
        with translated(path, "read"):
            return msgspec.json.decode(path.read_bytes() if path.exists() else b"{}", type=Remembered)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        move_aside(path)
        return {}


def peek_remembered(cache_dir: Path) -> Remembered:
    """The same for a reader that must not touch anything."""
    try:
        return msgspec.json.decode(_path(cache_dir).read_bytes(), type=Remembered)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def save_remembered(cache_dir: Path, remembered: Remembered) -> None:
    """Replace what was saved. Raises StoreError."""
    with replacing(_path(cache_dir)) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(remembered)))


def _path(cache_dir: Path) -> Path:
    return cache_dir / STATE_DIRECTORY / "governor.json"
