"""When the exchange demands a pause: until when, and how to begin again.

Owns the rules after a refusal. 429: no request until the time that was named. 418: the same, and after it a smaller
share, the smaller the more bans there were within a day. A page of the CDN (403, 503) names no time: minutes, doubled
each time. After any of them one request goes alone, and only its good end lets the others follow.
Times are local ms of any monotonic clock.
"""

from collections.abc import Iterable
from enum import StrEnum

SECOND_MS = 1_000.0
MINUTE_MS = 60 * SECOND_MS
DAY_MS = 86_400 * SECOND_MS

SILENCE_MS = MINUTE_MS
LONGEST_SILENCE_MS = 16 * MINUTE_MS
"""After the first page of the CDN, and at most."""
PROBE_MS = 60 * SECOND_MS
"""A probe that has not come back by then is taken for lost."""
CAUTION_MS = 10 * MINUTE_MS
"""How long a ban makes us careful after its end; twice as long after the second within a day."""
LEAST_CAUTION = 0.125
LONGEST_PAUSE_MS = 3 * DAY_MS
"""The exchange bans for three days at most. A longer pause is wrong, and the bound is used."""
MOST_BANS = 16
"""How many bans of a day are remembered: after three of them the caution grows no more."""


class Reason(StrEnum):
    """Why nothing is sent."""

    LIMITED = "rate limited"
    BANNED = "banned"
    BLOCKED = "blocked"


class Pauses:
    """The pause of one budget. ``bans`` are the ends of earlier bans; a pause that began before lasts ``until_ms``."""

    def __init__(
        self, bans: Iterable[float] = (), *, until_ms: float = float("-inf"), reason: Reason | None = None
    ) -> None:
        self.bans = list(bans)
        self.until_ms = until_ms
        self.reason = reason
        self._blocks = int(reason is Reason.BLOCKED)
        self._needs_probe = reason is not None
        self._probe: object = None
        self._probe_lost_ms = float("-inf")

    def pause(self, now_ms: float, until_ms: float | None, reason: Reason) -> None:
        """Send nothing before ``until_ms``, which a page of the CDN does not name. A pause is only ever extended."""
        self._needs_probe = True
        self._probe = None
        if until_ms is None:
            is_new = now_ms >= self.until_ms
            self._blocks += is_new
            until_ms = now_ms + min(LONGEST_SILENCE_MS, SILENCE_MS * 2 ** min(8, max(0, self._blocks - 1)))
        until_ms = min(until_ms, now_ms + LONGEST_PAUSE_MS)
        if reason is Reason.BANNED:
            if not (self.bans and self.bans[-1] > now_ms):
                self.bans.append(until_ms)
            self.bans[-1] = max(self.bans[-1], until_ms)
            self.bans = [end_ms for end_ms in self.bans if end_ms > now_ms - DAY_MS][-MOST_BANS:]
        if until_ms > self.until_ms:
            self.until_ms, self.reason = until_ms, reason

    def wait_ms(self, now_ms: float) -> float:
        """How long nothing may be sent, as far as is known."""
        if now_ms < self.until_ms:
            return self.until_ms - now_ms
        if self._needs_probe and self._probe is not None:
            return max(0.0, self._probe_lost_ms - now_ms)
        return 0.0

    def sent(self, ticket: object, now_ms: float) -> None:
        """The first request after a pause goes alone."""
        if self._needs_probe:
            self._probe, self._probe_lost_ms = ticket, now_ms + PROBE_MS

    def ended(self, ticket: object, *, accepted: bool) -> None:
        """A request came back; the probe's good end ends the pause."""
        if ticket is not self._probe:
            return
        self._probe = None
        if accepted:
            self._needs_probe = False
            self._blocks = 0
            self.reason = None

    def caution(self, now_ms: float) -> float:
        """The part of the share that may be used now: half after a ban, a quarter after the second within a day."""
        recent = [end_ms for end_ms in self.bans if end_ms > now_ms - DAY_MS]
        if not recent or now_ms > recent[-1] + CAUTION_MS * 2 ** (len(recent) - 1):
            return 1.0
        return max(LEAST_CAUTION, 0.5 ** len(recent))
