"""Which instrument asks next: by rank, and within a rank one after the other."""

from collections.abc import Collection

from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Instrument
from backfilld.core.weight.fair_queue import Rank


class Turns:
    """The instruments that have a question. Each operation takes constant time."""

    def __init__(self) -> None:
        self._queues: dict[Rank, dict[Pool, dict[Instrument, None]]] = {
            rank: {pool: {} for pool in Pool} for rank in Rank
        }
        self._ranks: dict[Instrument, Rank] = {}

    def place(self, instrument: Instrument, rank: Rank | None) -> None:
        """Note the rank of its next question, None for no question. An unchanged rank keeps its place in the queue."""
        before = self._ranks.get(instrument)
        if before is rank:
            return
        if before is not None:
            del self._queue(before, instrument)[instrument]
            del self._ranks[instrument]
        if rank is not None:
            self._queue(rank, instrument)[instrument] = None
            self._ranks[instrument] = rank

    def next(self, busy: Collection[Pool] = ()) -> tuple[Instrument, Rank] | None:
        """The instrument that asks next, of the pools that are not ``busy``; it moves to the end of its queue."""
        for rank, pools in self._queues.items():
            for pool, queue in pools.items():
                for instrument in queue if pool not in busy else ():
                    del queue[instrument]
                    queue[instrument] = None
                    return instrument, rank
        return None

    def _queue(self, rank: Rank, instrument: Instrument) -> dict[Instrument, None]:
        return self._queues[rank][RULES[instrument.market].pool]
