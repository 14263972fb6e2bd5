"""Whether a pipeline is alive: it moves, or it has said until when it has nothing to do, and no single wait is too
long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Liveness:
    """Watches a pipeline from outside. It is alive while its state changed, or was to be idle, less than
    ``patience_s`` ago."""

    patience_s: float
    _state: object = None
    _alive_at: float = float("-inf")

    def is_alive(self, now_s: float, state: object, idle_until_s: float) -> bool:
        """Look once. ``state`` is anything that differs whenever work was done; ``idle_until_s`` is in the past while
        there is work."""
        if state != self._state or self._alive_at == float("-inf"):
            self._state, self._alive_at = state, now_s
        self._alive_at = max(self._alive_at, min(now_s, idle_until_s))
        return now_s - self._alive_at <= self.patience_s


class Waits:
    """What is waited for outside of the loop, each by itself: one that is stuck is not hidden by others that move."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[float, str]] = {}
        self._count = 0

    @contextmanager
    def wait(self, what: str, now_s: float, takes_s: float = 0.0) -> Iterator[None]:
        """Wait for this from now on. ``takes_s`` is how much longer than others it may take."""
        self._count += 1
        number = self._count
        self._open[number] = now_s + takes_s, what
        try:
            yield
        finally:
            del self._open[number]

    def longest_s(self, now_s: float) -> float:
        """How long the oldest wait has lasted, beyond what it may take; 0 if there is none."""
        return max(0.0, now_s - min(self._open.values(), default=(now_s, ""))[0])

    def overdue(self, now_s: float, patience_s: float) -> str | None:
        """The oldest wait that has lasted longer than the patience, in words; None if there is none."""
        _, what = min(self._open.values(), default=(now_s, ""))
        return f"{what} takes longer than {patience_s:.0f} s" if self.longest_s(now_s) > patience_s else None
