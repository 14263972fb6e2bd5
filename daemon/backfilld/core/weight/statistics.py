"""The figures of a budget at one instant, for those who show them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backfilld.core.weight.pauses import Reason


@dataclass(frozen=True, slots=True)
class BudgetStatistics:
    """A budget at one instant, by its tightest weight limit: ``used`` of ``allowed``, out of ``limit`` per
    ``interval``; ``own`` of the used is ours, in flight included, ``clients`` is what other programs have asked through
    us, ``others`` what they have asked past us; ``expected`` is kept free for others.

    ``waiting`` requests wait for a permit, for another ``wait_ms`` as far as is known; ``granted`` have got one so far.
    Nothing is sent for ``paused_ms``, because of ``reason``. ``learned`` are the weights by endpoint that differ from
    the documented ones; bans of the last day ended ``bans_ms_ago``. The oldest request on its way was sent at
    ``oldest_sent_ms``, by the local clock. The window began at ``window_ms``, by the exchange's clock.
    ``met`` are limits by interval that were met below their names, and for how many ms they are respected still.
    ``answers`` counts requests that have ended, by endpoint and outcome: ``accepted``, or ``refused`` by the exchange,
    the network or our checks.
    """

    limit: int
    interval: str
    allowed: int
    used: int
    own: int = 0
    others: int = 0
    expected: int = 0
    waiting: int = 0
    wait_ms: float = 0.0
    granted: int = 0
    paused_ms: float = 0.0
    reason: Reason | None = None
    bans_ms_ago: tuple[float, ...] = ()
    learned: Mapping[str, int] = field(default_factory=dict)
    oldest_sent_ms: float | None = None
    window_ms: int = 0
    answers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    clients: int = 0
    met: Mapping[str, tuple[int, float]] = field(default_factory=dict)
