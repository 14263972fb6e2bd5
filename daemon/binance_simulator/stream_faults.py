"""What becomes of the messages of one connection: some are dropped, doubled, moved, or preceded by garbage.

Owns the dice of a connection. Pure: the same seed, number and messages give the same outcome. Must not know sockets.
"""

import random
from collections.abc import Iterable, Iterator

from binance_simulator.stream_options import Cut, StreamOptions
from binance_simulator.stream_texts import garbage

_FARTHEST = 8
"""A shuffled message comes after at most so many later ones."""


class Deviations:
    """The faults of connection ``number``."""

    def __init__(self, options: StreamOptions, number: int) -> None:
        self._options = options
        self._dice = random.Random(f"{options.seed} {number}")
        self._late: list[tuple[int, str]] = []
        self.is_silent = number in options.silent_connections or self._dice.random() < options.silent_share
        self.lives_s = options.cut_every_s * (0.5 + self._dice.random()) if options.cut_every_s else float("inf")

    def cut(self) -> Cut:
        """How the connection is cut."""
        return self._dice.choice(self._options.cuts)

    def applied(self, texts: Iterable[str], symbol: str) -> Iterator[str | bytes]:
        """What is sent in place of these messages."""
        options, dice = self._options, self._dice
        for text in texts:
            if options.garbage_share and dice.random() < options.garbage_share:
                yield garbage(dice.randrange(1000), symbol)
            if options.drop_share and dice.random() < options.drop_share:
                continue
            if options.shuffle_share and dice.random() < options.shuffle_share:
                self._late.append((dice.randint(1, _FARTHEST), text))
                continue
            yield text
            if options.double_share and dice.random() < options.double_share:
                yield text
            yield from self._due()

    def rest(self) -> Iterator[str]:
        """The moved messages that have waited for a whole tick."""
        late, self._late = self._late, []
        yield from (text for _, text in late)

    def _due(self) -> Iterator[str]:
        if not self._late:
            return
        waiting = [(count - 1, text) for count, text in self._late]
        self._late = [each for each in waiting if each[0] > 0]
        yield from (text for count, text in waiting if count <= 0)
