"""The newest warnings and errors of the log, for those who look at the daemon and not at its log."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from backfilld.core.text import plain

WARNINGS = 20
"""How many are kept."""

MOST_CHARACTERS = 300
"""Of the fields of one line: an error can quote what the exchange sent."""

_SHOWN_APART = {"event", "level", "timestamp", "exception"}


@dataclass(frozen=True, slots=True)
class Warned:
    """One line of the log: when (ISO 8601), how bad, what, and its fields as ``name=value``."""

    timestamp: str
    level: str
    event: str
    about: str


REMOTE = ("day_pushed", "day_pulled", "remote_conflicted", "remote_refused", "remote_failed")
"""Events of the remote store that are counted, whatever the level of the log."""


class RecentWarnings:
    """The newest lines at level warning and above, and how often what happened to the remote store."""

    def __init__(self) -> None:
        self.counts = Counter(dict.fromkeys(REMOTE, 0))
        self._lines: deque[Warned] = deque(maxlen=WARNINGS)

    def add(self, line: Mapping[str, object]) -> None:
        """A line of the log, whatever its level."""
        level = str(line.get("level", ""))
        if level in {"warning", "error", "critical"}:
            fields = ", ".join(f"{name}={value}" for name, value in line.items() if name not in _SHOWN_APART)
            about = plain(fields, MOST_CHARACTERS)
            self._lines.append(Warned(str(line.get("timestamp", "")), level, str(line.get("event", "")), about))

    def count(self, event: str) -> None:
        """An event of the log, whether it is written or not."""
        if event in self.counts:
            self.counts[event] += 1

    @property
    def lines(self) -> tuple[Warned, ...]:
        """The newest first."""
        return tuple(reversed(self._lines))
