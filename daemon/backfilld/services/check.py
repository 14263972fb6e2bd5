"""Whether a cache is complete and fresh, by what its daemon last reported. Reads one small file, takes no lock."""

import time
from dataclasses import dataclass
from pathlib import Path

from backfilld.core.model import Instrument
from backfilld.core.monitor.freshness import Freshness, stale
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE, EXIT_TRY_LATER
from backfilld.store.daemon_state import peek_activity

SILENT_S = 60.0
"""A daemon reports every 15 s, also when nothing happens. After this long without a report it is stopped or stuck."""


@dataclass(frozen=True, slots=True)
class Check:
    """How it stands: the exit code of a check, what is wrong in a sentence each, how far the instrument that is
    farthest behind is so, in s, and the process that reported."""

    exit_code: int
    reasons: tuple[str, ...]
    lag_s: float | None = None
    pid: int | None = None
    instruments: int = 0


def check_cache(
    cache_dir: Path, instruments: tuple[Instrument, ...] | None, max_lag_s: float, now_ms: float | None = None
) -> Check:
    """Check the instruments (None: those that the daemon keeps); ``now_ms`` is the host's clock."""
    now_ms = time.time() * 1000 if now_ms is None else now_ms
    activity = peek_activity(cache_dir)
    if activity is None:
        return Check(EXIT_TRY_LATER, (f"no daemon has reported on {cache_dir}",))
    silent_s = (now_ms - activity.saved_ms) / 1000
    if activity.is_over:
        reason = f"no daemon runs on {cache_dir}: process {activity.pid} ended {silent_s:,.0f} s ago"
        return Check(EXIT_TRY_LATER, (reason,), pid=activity.pid)
    if silent_s < -SILENT_S:
        reason = f"the last report on {cache_dir} is of a time {-silent_s:,.0f} s from now: it says nothing"
        return Check(EXIT_TRY_LATER, (reason,), pid=activity.pid)
    if silent_s > SILENT_S:
        reason = f"the daemon on {cache_dir} has not reported for {silent_s:,.0f} s: it does not run, or is stuck"
        return Check(EXIT_TRY_LATER, (reason,), pid=activity.pid)
    names = list(activity.freshness) if instruments is None else [str(each) for each in instruments]
    of = {name: activity.freshness.get(name, Freshness()) for name in names}
    # Until its next report nothing newer is known.
    reasons = tuple(stale(now_ms, max_lag_s, of)) or (() if of else ("the daemon keeps no instrument yet",))
    if activity.trouble is not None:
        reasons = (f"the disk fails: {activity.trouble}", *reasons)
    behind = [now_ms - each.complete_ms for each in of.values() if each.complete_ms is not None]
    lag_s = max(behind) / 1000 if behind and len(behind) == len(of) else None
    return Check(EXIT_INCOMPLETE if reasons else EXIT_DONE, reasons, lag_s, activity.pid, len(of))
