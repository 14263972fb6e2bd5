"""The live trades of every followed instrument: into the tails, and to all who listen.

Owns the subscriptions to the pipeline's publisher, one for each instrument, which outlive its crashes.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import trio

from backfilld.actors.live_messages import Beginning, Ended, TradesSequenced
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Instrument
from backfilld.serving.tails import Tails
from backfilld.supervisor_live import LiveWorld

LOOK_S = 0.25
"""How often new instruments are looked for, and a subscription that ended is renewed."""

Listener = Callable[[Sequence[LiveTrade]], None]


class Hub:
    """Follows what the daemon follows. ``listeners`` of an instrument get its trades in order, each once; ``on_gap`` is
    called where what follows does not adjoin what was given out, with the id that would have been next."""

    def __init__(self, live: LiveWorld | None, tails: Tails) -> None:
        self._live = live
        self._tails = tails
        self.on_gap: Callable[[Instrument, int], None] = lambda _instrument, _next_id: None
        self.listeners: defaultdict[Instrument, list[Listener]] = defaultdict(list)

    def follows(self, instrument: Instrument) -> bool:
        """Whether the daemon follows an instrument live."""
        return self._live is not None and instrument in self._live.statistics.value.instruments

    def is_attached(self, instrument: Instrument) -> bool:
        """Whether its stream brings it now."""
        if self._live is None:
            return False
        known = self._live.statistics.value.instruments.get(instrument)
        return known is not None and known.is_attached

    async def run(self) -> None:
        """Follow until cancelled."""
        running: set[Instrument] = set()
        async with trio.open_nursery() as nursery:
            while self._live is not None:
                for instrument in self._live.statistics.value.instruments:
                    if instrument not in running:
                        running.add(instrument)
                        nursery.start_soon(partial(self._follow, instrument, self._live))
                await trio.sleep(LOOK_S)

    async def _follow(self, instrument: Instrument, live: LiveWorld) -> None:
        next_id: int | None = None
        while True:
            frames = live.subscribe(instrument, next_id or 0)
            if isinstance(frames, str):
                await trio.sleep(LOOK_S)
                continue
            async with frames:
                async for frame in frames:
                    match frame:
                        case Beginning(first_id) if next_id is not None and first_id > next_id:
                            self._gap(instrument, next_id)
                        case TradesSequenced(trades=trades):
                            new = [each for each in trades if next_id is None or each.a >= next_id]
                            if new:
                                next_id = new[-1].a + 1
                                self._publish(instrument, new)
                        case Ended():
                            break
                        case _:
                            pass
            await trio.sleep(LOOK_S)

    def _publish(self, instrument: Instrument, trades: Sequence[LiveTrade]) -> None:
        self._tails.tail(instrument).add(trades)
        for listener in self.listeners.get(instrument, ()):
            listener(trades)

    def _gap(self, instrument: Instrument, next_id: int) -> None:
        self._tails.tail(instrument).clear()
        self.on_gap(instrument, next_id)
