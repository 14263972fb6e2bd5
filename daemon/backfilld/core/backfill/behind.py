"""The first trade behind a closed window, and what it takes to believe that it lies behind.

Owns the rule. An answer may have the right ids and the times of another day: a trade of the window would seem to lie
behind it, and all that follow would never be asked for. So an answer is believed that also has a trade whose time
another question has shown: the newest of the window, named by itself, or one that is stored. Otherwise AGREEING answers
have to show the same trade, or one, and another question the trade right before it as the newest of the window.
"""

from collections import Counter

from backfilld.core.backfill.questions import Found, Newest, Page, Query, Tail

AGREEING = 2
"""Answers that make a trade the first one behind the window."""


class FirstBehind:
    """What answers have shown of it."""

    def __init__(self) -> None:
        self._shown: Counter[int] = Counter()
        self._newest_id: int | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether a trade was shown, and the newest of the window not named yet."""
        return bool(self._shown) and self._newest_id is None

    def shown(self, query: Query, found: Found) -> int | None:
        """The first trade behind the window, if this answer has proven it."""
        if isinstance(query, Newest):
            return self._newest_named(query, found)
        beyond_id = found.beyond_id
        if beyond_id is None:
            return None
        self._shown[beyond_id] += 1
        if self._shown[beyond_id] >= AGREEING or self._newest_id == beyond_id - 1 or self._is_tied(query, found):
            return beyond_id
        return None

    def _newest_named(self, query: Newest, found: Found) -> int | None:
        if query.stop_ms is None or found.ids is None:
            return None
        self._newest_id = found.ids.last_id
        beyond_id = self._newest_id + 1
        return beyond_id if beyond_id in self._shown else None

    def _is_tied(self, query: Query, found: Found) -> bool:
        """Whether the answer also has a trade that is known otherwise: that it says the same of it was checked."""
        overlaps = isinstance(query, Page | Tail) and query.overlaps
        return overlaps or found.is_confirmed or (self._newest_id is not None and self._newest_id in found.present)
