"""Whether a pipeline is alive: it moves, or it has said until when it has nothing to do."""

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
