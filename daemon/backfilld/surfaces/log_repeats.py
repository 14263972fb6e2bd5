"""One outage is one line, and then one at each doubling of its length, however many requests fail in it.

Owns what counts as the same trouble. Reads no clock; ``clock`` is any monotonic one, in seconds.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from structlog import DropEvent
from structlog.typing import EventDict

FAILURES = frozenset(
    {"request_retried", "request_failed", "live_lost", "live_unanswered", "first_id_unproven", "endpoint_failed"}
)
"""Events that every request of an outage causes anew, and every look at a port that is taken."""
AGAIN_S = 30.0
"""How long after the first line of an outage the second one comes; then twice as long each time."""
FORGOTTEN_S = 300.0
"""An outage is over after this long without a failure, even if nobody has reported its end."""
STEADY_S = 30.0
"""A stream that is lost within this long after it was connected again is still in the same outage."""
MOST_TROUBLES = 1000
"""How many are remembered: error texts come from outside."""

Kind = Literal["host", "stream", "incomplete", "other"]

_HOST = re.compile(r"\b(?:https?|wss?)://([^\s/,;]+)")
_UNREACHED = re.compile(r"\bout of reach\b|\bdid not answer\b")


@dataclass(slots=True)
class _Trouble:
    kind: Kind
    began: float
    last: float
    next_line_s: float = AGAIN_S
    count: int = 1
    ended: float | None = None
    markets: set[str] = field(default_factory=set)


class Repeats:
    """A structlog processor that drops the lines of an outage that say nothing new."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.keeps_outcomes = False
        """Whether each instrument says that it is incomplete, though the same host is to blame: a single run does."""
        self._troubles: dict[tuple[Kind, str], _Trouble] = {}

    def __call__(self, _: object, __: str, event: EventDict) -> EventDict:
        """Pass the event on, or raise DropEvent. A line that stands for several says how many, and for how long."""
        now, key = self._clock(), trouble_of(event)
        if key is None or (key[0] == "incomplete" and self.keeps_outcomes):
            self._end(event, now)
            return event
        if key[0] == "incomplete" and self._lasts(("host", key[1]), now):
            # The host has its line, and the instrument its row.
            raise DropEvent
        trouble = self._troubles.get(key)
        if trouble is None or _is_over(trouble, now):
            trouble = self._remember(key, now)
            repeated: dict[str, object] = {}
            is_due = True
        else:
            trouble.last, trouble.ended, trouble.count = now, None, trouble.count + 1
            is_due = now - trouble.began >= trouble.next_line_s
            repeated = {"repeated": trouble.count, "for_s": round(now - trouble.began, 1)}
        trouble.markets.add(_market(event))
        if not is_due or (trouble.kind == "stream" and _market(event) in self.out_of_reach_s()):
            raise DropEvent
        if repeated:
            trouble.next_line_s = 2 * (now - trouble.began)
        return {**event, **repeated}

    def out_of_reach_s(self) -> dict[str, float]:
        """The markets whose host is out of reach, and for how many seconds."""
        return self._lasting("host")

    def without_stream_s(self) -> dict[str, float]:
        """The markets whose stream is lost, and for how many seconds."""
        return self._lasting("stream")

    def _lasts(self, key: tuple[Kind, str], now: float) -> bool:
        known = self._troubles.get(key)
        return known is not None and not _is_over(known, now)

    def _lasting(self, kind: Kind) -> dict[str, float]:
        now = self._clock()
        found = [each for each in self._troubles.values() if each.kind == kind and each.ended is None]
        found = sorted((each for each in found if not _is_over(each, now)), key=lambda each: -each.began)
        return {market: now - each.began for each in found for market in each.markets}

    def _end(self, event: EventDict, now: float) -> None:
        """Note what has come back."""
        if event["event"] == "host_reached":
            host = _host(str(event.get("host"))) or ""
            self._troubles.pop(("host", host), None)
            self._troubles.pop(("incomplete", host), None)
        stream = self._troubles.get(("stream", _market(event))) if event["event"] == "live_connected" else None
        if stream is not None:
            stream.ended = now

    def _remember(self, key: tuple[Kind, str], now: float) -> _Trouble:
        if len(self._troubles) >= MOST_TROUBLES:
            self._troubles.clear()
        self._troubles[key] = _Trouble(key[0], now, now)
        return self._troubles[key]


def _is_over(trouble: _Trouble, now: float) -> bool:
    was_steady = trouble.ended is not None and now - trouble.ended > STEADY_S
    return was_steady or now - trouble.last > FORGOTTEN_S


def trouble_of(event: EventDict) -> tuple[Kind, str] | None:
    """What makes two failures the same: the host that is out of reach, the market whose stream is lost; else the event
    and its text but for figures. None for what is not the failure of a request or a stream."""
    name, text = event["event"], _text(event)
    host = _host(text) if _UNREACHED.search(text) else None
    if name == "live_lost":
        return "stream", _market(event)
    if name == "backfill_incomplete":
        return None if host is None else ("incomplete", host)
    if name not in FAILURES:
        return None
    if host is not None:
        return "host", host
    return "other", f"{name} {event.get('instrument', '')} {re.sub('[0-9]+', '0', text)}"


def _text(event: EventDict) -> str:
    reasons = event.get("reasons")
    return str(event.get("error") or event.get("reason") or (reasons[0] if reasons and len(reasons) == 1 else ""))


def _market(event: EventDict) -> str:
    return str(event.get("market") or event.get("instrument", "")).partition(":")[0]


def _host(text: str) -> str | None:
    found = _HOST.search(text)
    return found[1].rstrip(":") if found else None
