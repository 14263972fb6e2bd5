"""Fewer log lines where a client could make any number. Owns how often a line of one kind is written."""

import trio

EVERY_S = 10.0
MOST_IN_A_ROW = 10


class Throttle:
    """Lets ten lines of a kind through in ten seconds."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[float, int]] = {}

    def may(self, kind: str) -> bool:
        """Whether a line of this kind may be written now; kinds must be few."""
        now = trio.current_time()
        since, count = self._kinds.get(kind, (now, 0))
        if now - since > EVERY_S:
            since, count = now, 0
        self._kinds[kind] = since, count + 1
        return count < MOST_IN_A_ROW
