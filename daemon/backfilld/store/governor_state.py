"""What the governor must remember over a restart, in ``governor.json``: pauses, bans, learned weights and limits.

It holds state only, under a version. A ban must not be lost because of anything else in the file: each value is read
by itself, what is unknown or impossible is left out, and files of older and newer versions are read as far as they are
understood.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import cast

import msgspec

from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Market
from backfilld.core.weight.budget import MET_MS
from backfilld.core.weight.pauses import DAY_MS, LONGEST_PAUSE_MS, MOST_BANS, Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.store.atomic import move_aside
from backfilld.store.state_file import UNREAD, UNUSABLE, read_state, write_state

VERSION = 2
"""Of the layout. Version 1 had its budgets by market at the top, among figures for display."""

MOST_NAMES = 16
"""Learned weights, and limits that were met, that are read of a pool: there are two endpoints and two intervals."""


MOST_DIGITS = 18
"""Of an integer. A longer one cannot be a weight, a limit or an instant."""


@dataclass(frozen=True, slots=True)
class RememberedBudget:
    """One pool. Times are the host's, in ms since the epoch: the exchange's may be far off.

    Nothing is sent before ``paused_until_ms``, because of ``reason``; ``bans_ms`` are the ends of bans, ascending.
    ``learned`` are weights by endpoint, ``met`` the limits by interval that were met below their names, and until when
    they are respected.
    """

    paused_until_ms: float | None = None
    reason: Reason | None = None
    bans_ms: tuple[float, ...] = ()
    learned: Mapping[str, int] = field(default_factory=dict)
    met: Mapping[str, tuple[int, float]] = field(default_factory=dict)


Remembered = dict[Pool, RememberedBudget]


def remembered_now(shown: Mapping[Pool, BudgetStatistics], wall_ms: float) -> Remembered:
    """What there is to remember of these budgets at this instant of the host's clock."""
    return {
        pool: RememberedBudget(
            paused_until_ms=wall_ms + each.paused_ms if each.paused_ms else None,
            reason=each.reason,
            bans_ms=tuple(sorted(wall_ms - ago_ms for ago_ms in each.bans_ms_ago)),
            learned=dict(each.learned),
            met={name: (limit, wall_ms + left_ms) for name, (limit, left_ms) in each.met.items()},
        )
        for pool, each in shown.items()
    }


_SAME_MS = 2000.0
"""Instants that differ by less are the same one, computed at two readings of the clock."""


def says_more(new: Remembered, saved: Remembered | None) -> bool:
    """Whether a restart would miss something of ``new`` if only ``saved`` were on disk."""
    if saved is None or new.keys() != saved.keys():
        return True
    return any(_differ(each, saved[pool]) for pool, each in new.items())


def _differ(new: RememberedBudget, saved: RememberedBudget) -> bool:
    facts = [
        (each.reason, each.learned, {name: limit for name, (limit, _) in each.met.items()}) for each in (new, saved)
    ]
    instants = [
        [each.paused_until_ms or 0.0, *each.bans_ms, *(until for _, (_, until) in sorted(each.met.items()))]
        for each in (new, saved)
    ]
    if facts[0] != facts[1] or len(instants[0]) != len(instants[1]):
        return True
    return any(abs(ours - theirs) > _SAME_MS for ours, theirs in zip(*instants, strict=True))


def load_remembered(state_dir: Path, wall_ms: float) -> Remembered:
    """What was saved last; nothing if nothing was, or if it is nothing that this program writes, which is then moved
    aside. Raises StoreError: a disk that refuses to be read must not make a ban forgotten."""
    path = _path(state_dir)
    try:
        return _decoded(read_state(path), wall_ms)
    except UNUSABLE:
        move_aside(path)
        return {}


def peek_remembered(state_dir: Path, wall_ms: float) -> Remembered:
    """The same for a reader that must not touch anything."""
    try:
        return _decoded(read_state(_path(state_dir)), wall_ms)
    except UNREAD:
        return {}


def save_remembered(state_dir: Path, remembered: Remembered) -> None:
    """Replace what was saved. Raises StoreError."""
    body = {"version": VERSION, "pools": remembered}
    write_state(_path(state_dir), msgspec.json.format(msgspec.json.encode(body)))


def _path(state_dir: Path) -> Path:
    return state_dir / "governor.json"


# -- reading


def _decoded(body: bytes | None, wall_ms: float) -> Remembered:
    """Raises ValueError where the whole is not an object."""
    if body is None:
        return {}
    # Not by msgspec: it refuses the whole for one number that is too long.
    found = json.loads(body, parse_int=lambda text: int(text) if len(text) <= MOST_DIGITS else inf)
    if not isinstance(found, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - as of any other text that is not what it should be
    pools = found.get("pools", found)
    result: Remembered = {}
    for name, each in pools.items() if isinstance(pools, dict) else ():
        pool = _pool(name)
        if pool is not None and isinstance(each, dict):
            budget = _budget(cast("dict[str, object]", each), wall_ms)
            result[pool] = _joined(result[pool], budget) if pool in result else budget
    return result


def _pool(name: str) -> Pool | None:
    """The pool of a name; version 1 named markets."""
    if name in set(Pool):
        return Pool(name)
    return RULES[Market(name)].pool if name in set(Market) else None


def _budget(found: dict[str, object], wall_ms: float) -> RememberedBudget:
    until_ms = _number(found.get("paused_until_ms"))
    reason = found.get("reason")
    known = Reason(reason) if isinstance(reason, str) and reason in set(Reason) else Reason.LIMITED
    latest_ms = wall_ms + LONGEST_PAUSE_MS
    bans = found.get("bans_ms")
    ends = [_number(each) for each in bans[-MOST_BANS * 4 :]] if isinstance(bans, list) else []
    statistics = found.get("statistics")
    old = statistics.get("learned") if isinstance(statistics, dict) else None
    return RememberedBudget(
        paused_until_ms=None if until_ms is None else min(until_ms, latest_ms),
        reason=None if until_ms is None else known,
        bans_ms=tuple(sorted(min(end, latest_ms) for end in ends if end is not None and end > wall_ms - DAY_MS)),
        learned={name: weight for name, weight in _named(found.get("learned", old)) if _is_count(weight)},  # type: ignore[misc]
        met=dict(_met(found.get("met"), wall_ms)),
    )


def _met(found: object, wall_ms: float) -> Iterator[tuple[str, tuple[int, float]]]:
    for name, each in _named(found):
        if isinstance(each, list) and len(each) == 2:  # noqa: PLR2004 - a limit and an instant
            limit, until_ms = each[0], _number(each[1])
            if _is_count(limit) and until_ms is not None and until_ms > wall_ms:
                yield name, (cast("int", limit), min(until_ms, wall_ms + MET_MS))


def _named(found: object) -> list[tuple[str, object]]:
    return list(found.items())[:MOST_NAMES] if isinstance(found, dict) else []


def _number(found: object) -> float | None:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        number = float(found)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def _is_count(found: object) -> bool:
    return isinstance(found, int) and not isinstance(found, bool) and 0 < found < 1 << 31


def _joined(one: RememberedBudget, other: RememberedBudget) -> RememberedBudget:
    """Of two that stand for one pool, the more careful."""
    later = max(one, other, key=lambda each: each.paused_until_ms or 0.0)
    return RememberedBudget(
        paused_until_ms=later.paused_until_ms,
        reason=later.reason,
        bans_ms=tuple(sorted({*one.bans_ms, *other.bans_ms})),
        learned={**one.learned, **other.learned},
        met={**one.met, **other.met},
    )
