"""All syncs: which asks next, which rests until when, and sums over all of them.

Owns the set. An event of one instrument costs the same, however many others there are.
"""

import heapq
import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from backfilld.core.backfill.questions import Query
from backfilld.core.markets import Pool
from backfilld.core.model import Instrument
from backfilld.core.sync.events import Action, Event, Instant
from backfilld.core.sync.instrument import InstrumentSync
from backfilld.core.sync.spec import RunSpec
from backfilld.core.sync.standing import Standing, Statistics
from backfilld.core.sync.state import Phase
from backfilld.core.sync.turns import Turns
from backfilld.core.weight.fair_queue import Rank


class Sums(NamedTuple):
    """Counts over some syncs: trades, requests, weight and days to come from the archive; and how many syncs are
    complete, rest, have ended their first round, load, are not listed by the exchange, are hopeless and are refused (as
    :class:`~backfilld.core.sync.instrument.InstrumentSync` defines these)."""

    fetched: int = 0
    to_fetch: int = 0
    cached: int = 0
    requests: int = 0
    weight: int = 0
    complete: int = 0
    archive_days: int = 0
    resting: int = 0
    ended: int = 0
    loading: int = 0
    unlisted: int = 0
    hopeless: int = 0
    refused: int = 0

    @classmethod
    def of(cls, sync: InstrumentSync, standing: Standing) -> "Sums":
        """The counts of one sync, which has this standing."""
        return cls(
            standing.fetched,
            standing.wanted - standing.fetched,
            sync.cached,
            sync.requests,
            sync.weight,
            int(sync.is_complete),
            len(sync.archive.awaited),
            int(sync.phase is Phase.RESTING),
            int(sync.rounds > 0),
            int(sync.phase is Phase.LOADING),
            int(sync.is_unlisted and not sync.is_complete),
            int(sync.is_hopeless),
            int(sync.is_refused and sync.rounds > 0),
        )

    def changed(self, before: "Sequence[Sums]", after: "Sequence[Sums]") -> "Sums":
        """A copy with the counts of some syncs replaced."""
        counts = zip(self, zip(*before, strict=True), zip(*after, strict=True), strict=True)
        return Sums(*(total - sum(old) + sum(new) for total, old, new in counts))


NO_SHARE = Sums()


class Instruments:
    """The syncs of a spec's instruments."""

    def __init__(self) -> None:
        self._syncs: dict[Instrument, InstrumentSync] = {}
        self._turns = Turns()
        self._due: list[tuple[float, int, Instrument]] = []
        self._resting: dict[Instrument, float] = {}
        self._shares: dict[Instrument, Sums] = {}
        self._count = 0
        self._sums = NO_SHARE
        self._standings: dict[Instrument, Standing] = {}
        self._changed: dict[Instrument, InstrumentSync] = {}
        """The syncs whose counts and standing are computed again once somebody asks for them."""

    def __iter__(self) -> Iterator[InstrumentSync]:
        return iter(self._syncs.values())

    def __contains__(self, instrument: Instrument) -> bool:
        return instrument in self._syncs

    def __getitem__(self, instrument: Instrument) -> InstrumentSync:
        return self._syncs[instrument]

    def __len__(self) -> int:
        return len(self._syncs)

    @property
    def sums(self) -> Sums:
        """Over all of them."""
        self._count_changes()
        return self._sums

    def add(self, instrument: Instrument, spec: RunSpec, now: Instant, *, is_late: bool = False) -> list[Action]:
        """Begin the sync of an instrument; ``is_late`` if others have begun before."""
        sync = InstrumentSync(instrument, spec, now)
        sync.is_late = is_late
        self._syncs[instrument] = sync
        actions = sync.begin(now)
        self._place(sync)
        self._count_changes()
        return actions

    def drop(self, instrument: Instrument) -> None:
        """Forget an instrument."""
        self._turns.place(instrument, None)
        self._changed.pop(instrument, None)
        self._standings.pop(instrument, None)
        self._sums = self._sums.changed([self._shares.pop(instrument, NO_SHARE)], [NO_SHARE])
        self._resting.pop(instrument, None)
        del self._syncs[instrument]

    def on(self, instrument: Instrument, event: Event, now: Instant) -> list[Action]:
        """Pass an event to a sync. An instrument that has left gets none."""
        sync = self._syncs.get(instrument)
        if sync is None:
            return []
        actions = sync.on(event, now)
        self._place(sync)
        return actions

    def spend(self, instrument: Instrument, requests: int, weight: int) -> None:
        """Add the cost of a job."""
        sync = self._syncs.get(instrument)
        if sync is not None:
            sync.requests += requests
            sync.weight += weight
            self._changed[instrument] = sync

    def next_question(self, busy: Collection[Pool] = ()) -> tuple[Instrument, Query, Rank] | None:
        """The most urgent question that spends none of the ``busy`` pools; syncs with questions of the same rank take
        turns."""
        turn = self._turns.next(busy)
        if turn is None:
            return None
        instrument, rank = turn
        sync = self._syncs[instrument]
        query = sync.take()
        self._place(sync)
        return None if query is None else (instrument, query, rank)

    def statistics(self, steps: int, last_error: str | None) -> Statistics:
        """The progress of all instruments."""
        sums = self.sums
        is_all_resting = sums.resting == len(self)
        return Statistics(
            wanted=sums.fetched + sums.to_fetch,
            fetched=sums.fetched,
            cached=sums.cached,
            requests=sums.requests,
            weight=sums.weight,
            instruments=len(self),
            complete=sums.complete,
            unlisted=sums.unlisted,
            last_error=last_error,
            archive_days=sums.archive_days,
            steps=steps,
            rests_until=self.next_round_at() if is_all_resting else -math.inf,
            standings=dict(self._standings),
        )

    def next_round_at(self) -> float:
        """When the next round is due, in the loop's time."""
        while self._due and self._resting.get(self._due[0][2]) != self._due[0][0]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else math.inf

    def due(self, now_s: float) -> Instrument | None:
        """Take an instrument whose rest is over, None if there is none."""
        if self.next_round_at() > now_s:
            return None
        instrument = heapq.heappop(self._due)[2]
        del self._resting[instrument]
        return instrument

    def is_over(self, *, once: bool) -> bool:
        """Whether everything that the spec asks for is done.

        A daemon ends by itself only if it cannot begin: the exchange does not list a symbol that the daemon was started
        with, or answers for none of them, and has never answered before.
        """
        count = len(self._syncs)
        if once:
            return self.sums.ended == count
        return self.sums.refused > 0 or self.sums.ended == self.sums.hopeless == count

    def _count_changes(self) -> None:
        if not self._changed:
            return
        syncs = self._changed.values()
        standings = [sync.standing() for sync in syncs]
        shares = [Sums.of(sync, standing) for sync, standing in zip(syncs, standings, strict=True)]
        before = [self._shares.get(instrument, NO_SHARE) for instrument in self._changed]
        self._sums = self._sums.changed(before, shares)
        self._standings.update(zip(self._changed, standings, strict=True))
        self._shares.update(zip(self._changed, shares, strict=True))
        self._changed.clear()

    def _place(self, sync: InstrumentSync) -> None:
        instrument = sync.instrument
        self._turns.place(instrument, sync.rank())
        self._changed[instrument] = sync
        if sync.phase is not Phase.RESTING:
            self._resting.pop(instrument, None)
        elif self._resting.get(instrument) != sync.rests_until:
            self._count += 1
            self._resting[instrument] = sync.rests_until
            heapq.heappush(self._due, (sync.rests_until, self._count, instrument))
