"""What the live side logs and counts: attachments, holes, overflows, lag.

Owns the words of the live events and the counts behind what is shown. Must not decide anything.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from backfilld.core.backfill.early import AHEAD_MS, CLOCKS_AGREE_MS
from backfilld.core.live.attachment import Attachment
from backfilld.core.live.reports import HOLES_REMEMBERED, NO_HEALS, Healed, HoleReport, LiveInstrument, LiveStatistics
from backfilld.core.model import IdRange, Instrument, Market
from backfilld.ports import StreamBatch

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LiveClock:
    """Times in ms since the epoch: the host's, and what the exchange's clock of a market shows at a time of the
    host's."""

    wall_ms: Callable[[], float]
    exchange_ms: Callable[[Market, float], float] = lambda _market, wall_ms: wall_ms

    def later_ms(self, market: Market) -> int:
        """The later time of the exchange's clock and the host's."""
        wall_ms = self.wall_ms()
        return int(max(wall_ms, self.exchange_ms(market, wall_ms)))

    def latest_ms(self, market: Market) -> float:
        """The time that no trade can have yet, by the exchange's clock: further ahead where the host's is another."""
        wall_ms = self.wall_ms()
        now_ms = self.exchange_ms(market, wall_ms)
        return now_ms + (CLOCKS_AGREE_MS if abs(now_ms - wall_ms) <= CLOCKS_AGREE_MS else AHEAD_MS)


class LiveAnnouncements:
    """The log and the counts of one run."""

    def __init__(self, clock: LiveClock) -> None:
        self._clock = clock
        self._wall_ms = clock.wall_ms
        self._attached: set[Instrument] = set()
        self._holes: dict[Instrument, int] = {}
        self._reports: deque[HoleReport] = deque(maxlen=HOLES_REMEMBERED)
        self._heal_seconds = NO_HEALS
        self._lag_ms: float | None = None
        self._lags_ms: dict[Instrument, float] = {}
        self._found = self._healed = self._given_up = self._overflowed = self._garbage = 0

    def heard(self, market: Market, batch: StreamBatch, overflowed: int) -> None:
        """Count what a connection brought."""
        self._garbage += batch.garbage
        if batch.event_ms:
            # The exchange's clock is known to some ms only: nothing arrives before it happened.
            self._lag_ms = max(0.0, self._clock.exchange_ms(market, self._wall_ms()) - batch.event_ms)
            self._lags_ms |= dict.fromkeys(batch.trades, self._lag_ms)
        if overflowed:
            self._overflowed += overflowed
            log.warning("live_overflowed", market=market, trades=overflowed, reason="they were not taken in time")
        for refusal in batch.refusals:
            log.warning("live_refused", market=market, reason=refusal)

    def connected(self, market: Market, number: int, instruments: int) -> None:
        """A connection is open."""
        log.info("live_connected", market=market, connection=number, instruments=instruments)

    def attached(self, instrument: Instrument, attachment: Attachment) -> None:
        """Log it if it has become true."""
        if attachment.is_attached and instrument not in self._attached:
            self._attached.add(instrument)
            log.info("live_attached", instrument=str(instrument), next_id=attachment.next_id)

    def detached(self, instrument: Instrument) -> None:
        """No stream brings the instrument now."""
        self._attached.discard(instrument)

    def silent(self, instrument: Instrument) -> None:
        """The stream of the instrument is dead."""
        log.warning("live_silent", instrument=str(instrument), reason="REST has trades that the stream lacks")

    def asked(self, instrument: Instrument, hole: IdRange | None) -> None:
        """REST is asked; a hole is announced once."""
        if hole is not None and self._holes.get(instrument, -1) < hole.first_id:
            self._holes[instrument] = hole.last_id
            self._found += 1
            log.warning("live_hole_found", instrument=str(instrument), **_ids(hole))

    def healed(self, instrument: Instrument, healed: Healed | None) -> None:
        """REST filled a hole. A hole that the stream filled itself gets no line."""
        if healed is not None and healed.requests:
            self._healed += 1
            self._heal_seconds = self._heal_seconds.plus(healed.seconds)
            seconds = round(healed.seconds, 3)
            self._reports.append(HoleReport(instrument, healed.ids, self._wall_ms(), seconds, healed.requests))
            log.info(
                "live_hole_healed",
                instrument=str(instrument),
                **_ids(healed.ids),
                seconds=seconds,
                requests=healed.requests,
            )

    def given_up(self, instrument: Instrument, hole: IdRange, seconds: float) -> None:
        """The live side goes on without these ids."""
        self._given_up += 1
        seconds = round(seconds, 3)
        self._reports.append(HoleReport(instrument, hole, self._wall_ms(), seconds, is_healed=False))
        log.error("live_hole_given_up", instrument=str(instrument), **_ids(hole), seconds=seconds)

    def unanswered(self, instrument: Instrument, error: Exception) -> None:
        """REST did not answer."""
        log.warning("live_unanswered", instrument=str(instrument), error=str(error))

    def statistics(self, attachments: Mapping[Instrument, Attachment], connects: int, now: float) -> LiveStatistics:
        """All of it as a value, at ``now`` by the clock of the attachments."""
        tallies = [each.sequence.tally for each in attachments.values()]
        return LiveStatistics(
            instruments={instrument: self._shown(instrument, each, now) for instrument, each in attachments.items()},
            lag_ms=self._lag_ms,
            connects=connects,
            holes_found=self._found,
            holes_healed=self._healed,
            holes_given_up=self._given_up,
            holes=tuple(self._reports),
            heal_seconds=self._heal_seconds,
            duplicates=sum(each.duplicates for each in tallies),
            overflowed=self._overflowed + sum(each.dropped for each in tallies),
            garbage=self._garbage + sum(each.implausible for each in tallies),
        )

    def _shown(self, instrument: Instrument, each: Attachment, now: float) -> LiveInstrument:
        since = each.sequence.hole_since
        return LiveInstrument(
            is_attached=each.is_attached,
            trades=each.published,
            next_id=each.next_id,
            last=each.last,
            lag_ms=self._lags_ms.get(instrument),
            hole_since_s=None if since is None else now - since,
            is_silent=each.is_silent,
        )


def _ids(ids: IdRange) -> dict[str, int]:
    return {"first_id": ids.first_id, "last_id": ids.last_id}
