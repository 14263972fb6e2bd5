"""Whose turn it is to ask: by rank, and within a rank one after the other."""

from backfilld.core.model import Instrument
from backfilld.core.weight.fair_queue import Rank


class Turns:
    """The instruments that have a question. Each operation takes the same time, however many there are."""

    def __init__(self) -> None:
        self._queues: dict[Rank, dict[Instrument, None]] = {rank: {} for rank in Rank}
        self._ranks: dict[Instrument, Rank] = {}

    def place(self, instrument: Instrument, rank: Rank | None) -> None:
        """Its next question has this rank; None for no question. Who keeps its rank keeps its place."""
        before = self._ranks.get(instrument)
        if before is rank:
            return
        if before is not None:
            del self._queues[before][instrument]
            del self._ranks[instrument]
        if rank is not None:
            self._queues[rank][instrument] = None
            self._ranks[instrument] = rank

    def next(self) -> tuple[Instrument, Rank] | None:
        """Whose turn it is, by the lowest rank; it goes to the end of its queue."""
        for rank, queue in self._queues.items():
            for instrument in queue:
                del queue[instrument]
                queue[instrument] = None
                return instrument, rank
        return None
