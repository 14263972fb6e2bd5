"""What the endpoint has done, counted. Owns the counts behind the metrics and the table of those who use the endpoint.

Routes are templates of bounded number, so the counts are bounded too.
"""

from collections import Counter
from dataclasses import dataclass, field

from backfilld.core.histogram import Histogram
from backfilld.serving.traffic import Answered, FramesSent, Happening, SubscriberDropped

NO_ANSWERS = Histogram.empty(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds of an answer. One from the cache takes a few ms, a forwarded one waits for API_WAIT_SECONDS (8) at most."""


@dataclass(slots=True)
class EndpointCounts:
    """Counts since the process began: answers by route, status and source, their seconds by route, frames that were
    sent to subscribers, and subscribers that were dropped, by reason."""

    answers: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    seconds: dict[str, Histogram] = field(default_factory=dict)
    frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def observe(self, happening: Happening) -> None:
        """Count it."""
        match happening:
            case Answered(route, status, source, seconds):
                self.answers[route, status, source] += 1
                self.seconds[route] = self.seconds.get(route, NO_ANSWERS).plus(seconds)
            case FramesSent(count):
                self.frames += count
            case SubscriberDropped(reason):
                self.dropped[reason] += 1

    @property
    def coalesced(self) -> int:
        """Answers that came of a request that was in flight already."""
        return sum(count for (_, _, source), count in self.answers.items() if source == "coalesced")
