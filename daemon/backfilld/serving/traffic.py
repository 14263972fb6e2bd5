"""What the endpoint has done, for those who count it: an observer sees each answer and each end of a subscriber.

Owns no count itself. Observers are called in the loop and must be quick.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer. ``route`` is a template of bounded number, never a path of the client; ``source`` is ``cache``,
    ``live``, ``forwarded``, ``coalesced``, ``own`` or ``refused``."""

    route: str
    status: int
    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FramesSent:
    """Messages that were handed to subscribers."""

    count: int


@dataclass(frozen=True, slots=True)
class SubscriberDropped:
    """A subscriber was closed by us; ``reason`` is one of a few words."""

    reason: str


Happening = Answered | FramesSent | SubscriberDropped


@dataclass(slots=True)
class Traffic:
    """Where observers are added. ``subscribers`` are the connections to the streams that are open now."""

    observers: list[Callable[[Happening], None]] = field(default_factory=list)
    subscribers: int = 0

    def note(self, happening: Happening) -> None:
        """Show it to every observer."""
        for observer in self.observers:
            observer(happening)
