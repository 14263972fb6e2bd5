"""Whether a running pipeline is alive, for those who would start the process again: systemd, or a probe of /healthz.

Owns what counts as a sign of life. What follows from them is :mod:`backfilld.core.liveness`'s.
"""

from backfilld.core.liveness import Liveness
from backfilld.core.monitor.snapshot import Snapshot


class Pulse:
    """Watches snapshots of a pipeline, which is alive while it did something, or was to do nothing, less than
    ``patience_s`` ago, no request, and nothing that the disk or the bucket was given, is on its way for longer than
    that, and its reader, if busy, moved less than that ago."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._liveness = Liveness(patience_s)
        self._reader = Liveness(patience_s)
        self._budgets: object = None
        self._idle_until = float("-inf")

    def is_alive(self, seen: Snapshot) -> bool:
        """Whether it is alive by this snapshot, which is newer than the last one."""
        is_moving = self._liveness.is_alive(seen.now_s, _state(seen), self._idle(seen))
        # Other actors that move must not hide a reader that is stuck.
        rests_until = float("-inf") if seen.is_reading else float("inf")
        is_reading = self._reader.is_alive(seen.now_s, seen.reader_steps, rests_until)
        # Nor may answers that come hide one that does not.
        longest_s = max(_waits_for_an_answer_s(seen), seen.owed_for_s)
        return is_moving and is_reading and longest_s <= self._patience_s

    def _idle(self, seen: Snapshot) -> float:
        """Until when there is nothing to do, or nothing may be done, by the loop's clock."""
        if seen.budgets is not self._budgets:
            self._budgets = seen.budgets
            wait_s = max((each.wait_ms / 1000 for each in seen.budgets.values()), default=0.0)
            self._idle_until = seen.now_s + wait_s if wait_s else float("-inf")
        return max(self._idle_until, seen.statistics.rests_until)


def _state(seen: Snapshot) -> object:
    granted = {name: each.granted for name, each in seen.budgets.items()}
    return seen.statistics.steps, seen.reader_steps, granted, seen.trouble


def _waits_for_an_answer_s(seen: Snapshot) -> float:
    """How long the oldest request has been on its way; other fetchers that move must not hide one that is stuck."""
    sent = [each.oldest_sent_ms for each in seen.budgets.values()]
    return max((seen.now_s - at_ms / 1000 for at_ms in sent if at_ms is not None), default=0.0)
