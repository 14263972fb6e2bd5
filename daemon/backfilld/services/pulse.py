"""Whether a running pipeline is alive, for those who would start the process again: systemd, or a probe of /healthz.

Owns what counts as a sign of life. The judgement is :mod:`backfilld.core.liveness`'s.
"""

import trio

from backfilld.core.liveness import Liveness
from backfilld.supervisor import Pipeline


class Pulse:
    """A pipeline from outside. It is alive while it did something, or was to do nothing, less than ``patience_s`` ago,
    no request is on its way for longer than that, and its reader, if busy, moved less than that ago. To be felt
    again and again."""

    def __init__(self, pipeline: Pipeline, patience_s: float) -> None:
        self._pipeline = pipeline
        self._patience_s = patience_s
        self._liveness = Liveness(patience_s)
        self._reader = Liveness(patience_s)
        self._governor: object = None
        self._idle_until = float("-inf")

    def is_alive(self) -> bool:
        """Look once."""
        is_moving = self._liveness.is_alive(trio.current_time(), self._state(), self._idle())
        is_reading = self._reads()
        return is_moving and is_reading and self._waits_for_an_answer_s() <= self._patience_s

    def _reads(self) -> bool:
        """Whether the reader moves or has nothing to do; other actors that move must not hide one that is stuck."""
        reading = self._pipeline.reading
        idle_until = float("-inf") if reading.is_busy else float("inf")
        return self._reader.is_alive(trio.current_time(), reading.steps, idle_until)

    def _state(self) -> object:
        granted = {name: each.granted for name, each in self._pipeline.governor.value.items()}
        steps = self._pipeline.statistics.value.steps, self._pipeline.reading.steps
        return steps, granted, self._pipeline.disk.trouble.value

    def _waits_for_an_answer_s(self) -> float:
        """How long the oldest request has been on its way; other fetchers that move must not hide one that is stuck."""
        sent = [each.oldest_sent_ms for each in self._pipeline.governor.value.values()]
        return max((trio.current_time() - at_ms / 1000 for at_ms in sent if at_ms is not None), default=0.0)

    def _idle(self) -> float:
        """Until when there is nothing to do, or nothing may be done, in trio's time."""
        shown = self._pipeline.governor.value
        if shown is not self._governor:
            self._governor = shown
            wait_s = max((each.wait_ms / 1000 for each in shown.values()), default=0.0)
            self._idle_until = trio.current_time() + wait_s if wait_s else float("-inf")
        rests_until: float = self._pipeline.statistics.value.rests_until
        return max(self._idle_until, rests_until)
