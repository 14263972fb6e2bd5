"""The instruments of each market in groups, one connection to a group, and what is asked of the connections.

Owns the groups and their rotations for the sequencer. It starts and closes connections through the function that it is
given; must not know channels of others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from backfilld.actors.live_messages import ConnectionName, Resubscribe
from backfilld.core.live.rotation import Close, ConnectLimit, Open, Rotation
from backfilld.core.model import Instrument, Market

log = structlog.get_logger()

MOST_STREAMS = 1024
"""Streams on a connection, by the exchange's limit."""

StartListener = Callable[[ConnectionName, str, Sequence[Instrument]], trio.MemorySendChannel[Resubscribe]]
"""Starts a listener, and returns the channel by which other instruments are asked for; closing it ends the listener."""


@dataclass
class Group:
    """Instruments that share a connection."""

    market: Market
    place: int
    rotation: Rotation
    instruments: list[Instrument] = field(default_factory=list)
    commands: dict[int, trio.MemorySendChannel[Resubscribe]] = field(default_factory=dict)

    def resubscribe(self, command: Resubscribe) -> None:
        """Ask every connection for other instruments."""
        for channel in self.commands.values():
            channel.send_nowait(command)

    def drop(self, number: int) -> None:
        """The connection is gone or not wanted."""
        channel = self.commands.pop(number, None)
        if channel is not None:
            channel.close()


class LiveGroups:
    """All groups."""

    def __init__(
        self, urls: Mapping[Market, tuple[str, ...]], start: StartListener, jitter: Callable[[], float]
    ) -> None:
        self._urls = urls
        self._start = start
        self._jitter = jitter
        self._limits = {market: ConnectLimit() for market in urls}
        self._groups: dict[tuple[Market, int], Group] = {}
        self._group_of: dict[Instrument, Group] = {}
        self.connects = 0

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def group(self, name: ConnectionName) -> Group | None:
        """The group that a connection serves."""
        return self._groups.get((name.market, name.group))

    def group_of(self, instrument: Instrument) -> Group:
        """The group of an instrument."""
        return self._group_of[instrument]

    def add(self, instruments: Sequence[Instrument]) -> None:
        """Put instruments into groups with room; connections that stand are asked for them at once."""
        more: dict[int, list[Instrument]] = {}
        for instrument in instruments:
            group = self._with_room(instrument.market)
            group.instruments.append(instrument)
            self._group_of[instrument] = group
            more.setdefault(id(group), []).append(instrument)
        for group in self:
            if id(group) in more:
                group.resubscribe(Resubscribe(more=tuple(more[id(group)])))

    def remove(self, instrument: Instrument) -> None:
        """Ask for an instrument no more; a group without instruments closes its connections."""
        group = self._group_of.pop(instrument, None)
        if group is None:
            return
        group.instruments.remove(instrument)
        group.resubscribe(Resubscribe(less=(instrument,)))
        if not group.instruments:
            del self._groups[group.market, group.place]
            for number in tuple(group.commands):
                group.drop(number)

    def close(self) -> None:
        """End every connection."""
        for group in self:
            for number in tuple(group.commands):
                group.drop(number)

    def due_at(self, now: float) -> float:
        """When :meth:`act` may have something to do."""
        return min((group.rotation.due_at(now) for group in self), default=float("inf"))

    def act(self, now: float) -> None:
        """Open and close connections."""
        for group in self:
            for action in group.rotation.actions(now, self._jitter()):
                match action:
                    case Open(number, url):
                        self.connects += 1
                        name = ConnectionName(group.market, group.place, number)
                        group.commands[number] = self._start(name, url, tuple(group.instruments))
                    case Close(number, is_renewal):
                        group.drop(number)
                        if is_renewal:
                            log.info("live_rotated", market=group.market, instruments=len(group.instruments))

    def lost(self, name: ConnectionName, reason: str | None, now: float) -> None:
        """A connection ended."""
        group = self.group(name)
        if group is None or name.number not in group.commands:
            return
        group.drop(name.number)
        group.rotation.lost(name.number, now, self._jitter())
        if not group.rotation.is_open:
            next_s = round(max(0.0, group.rotation.due_at(now) - now), 1)
            log.warning("live_lost", market=group.market, reason=reason, next_s=next_s)

    def _with_room(self, market: Market) -> Group:
        groups = [group for group in self if group.market is market]
        for group in groups:
            if len(group.instruments) < MOST_STREAMS:
                return group
        place = 1 + max((group.place for group in groups), default=-1)
        group = Group(market, place, Rotation(self._urls[market], self._limits[market]))
        self._groups[market, place] = group
        return group
