"""One outage is one line, and then one at each doubling of its length, however many requests fail in it.

Owns what counts as the same trouble. Reads no clock; ``clock`` is any monotonic one, in seconds.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from structlog import DropEvent
from structlog.typing import EventDict

FAILURES = frozenset({"request_retried", "request_failed", "live_lost", "live_unanswered", "first_id_unproven"})
"""Events that every request of an outage causes anew."""
AGAIN_S = 15.0
"""How long after the first line of an outage the second one comes; then twice as long each time."""
FORGOTTEN_S = 300.0
"""Without a failure for so long an outage is over, even if nobody has reported it so."""
MOST_TROUBLES = 1000
"""How many are remembered: error texts come from outside."""

_HOST = re.compile(r"\b(?:https?|wss?)://([^\s/,;]+)")


@dataclass(slots=True)
class _Trouble:
    began: float
    last: float
    next_line_s: float = AGAIN_S
    count: int = 1
    markets: set[str] = field(default_factory=set)


class Repeats:
    """A structlog processor that drops the lines of an outage that say nothing new."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._troubles: dict[str, _Trouble] = {}

    def __call__(self, _: object, __: str, event: EventDict) -> EventDict:
        """Pass the event on, or raise DropEvent. A line that stands for several says how many, and for how long."""
        if event["event"] == "host_reached":
            self._troubles.pop(_host(str(event.get("host"))) or "", None)
        if event["event"] not in FAILURES:
            return event
        now, key = self._clock(), trouble_of(event)
        trouble = self._troubles.get(key)
        if trouble is None or now - trouble.last > FORGOTTEN_S:
            self._remember(key, _Trouble(now, now, markets={_market(event)}))
            return event
        trouble.last, trouble.count = now, trouble.count + 1
        trouble.markets.add(_market(event))
        if now - trouble.began < trouble.next_line_s:
            raise DropEvent
        trouble.next_line_s = 2 * (now - trouble.began)
        return {**event, "repeated": trouble.count, "for_s": round(now - trouble.began, 1)}

    def out_of_reach_s(self) -> dict[str, float]:
        """The markets whose host is out of reach, and for how many seconds."""
        now = self._clock()
        hosts = [each for key, each in self._troubles.items() if " " not in key and now - each.last <= FORGOTTEN_S]
        hosts.sort(key=lambda each: each.began, reverse=True)
        return {market: now - each.began for each in hosts for market in each.markets}

    def _remember(self, key: str, trouble: _Trouble) -> None:
        if len(self._troubles) >= MOST_TROUBLES:
            self._troubles.clear()
        self._troubles[key] = trouble


def trouble_of(event: EventDict) -> str:
    """What makes two failures the same: the host that is out of reach; else the event and its text but for figures."""
    text = str(event.get("error") or event.get("reason") or "")
    host = _host(text)
    if host is not None and ("out of reach" in text or event["event"] == "live_lost"):
        return host
    return f"{event['event']} {event.get('instrument', '')} {re.sub('[0-9]+', '0', text)}"


def _market(event: EventDict) -> str:
    return str(event.get("market") or event.get("instrument", "")).partition(":")[0]


def _host(text: str) -> str | None:
    found = _HOST.search(text)
    return found[1].rstrip(":") if found else None
