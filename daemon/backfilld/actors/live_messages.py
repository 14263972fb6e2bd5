"""What the actors of the live side say to each other, and to the scheduler; all are values.

scheduler  -> sequencer   SyncAction[Offer]
listener   -> sequencer   StreamOpened, StreamHeard, StreamEnded
sequencer  -> listener    Resubscribe
sequencer  -> healer      FetchJob; it comes back as PageFetched and JobAnswered or JobFailed
sequencer  -> publisher   Begun, TradesSequenced, HoleGivenUp, Unfollow
sequencer  -> scheduler   SyncEvent
"""

from collections.abc import Sequence

import msgspec
import trio

from backfilld.actors.messages import (
    JobAnswered,
    JobDropped,
    JobFailed,
    MergerMessage,
    SchedulerMessage,
    SpecChanged,
    StopRequested,
    SyncAction,
)
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import IdRange, Instrument, Market
from backfilld.core.sync.events import Offer
from backfilld.ports import StreamBatch


class ConnectionName(msgspec.Struct, frozen=True):
    """A connection: its market, the group of instruments it serves, and its number in the group."""

    market: Market
    group: int
    number: int


class StreamOpened(msgspec.Struct, frozen=True):
    """The connection stands, and the exchange knows what it is to bring. That proves nothing yet."""

    name: ConnectionName


class StreamHeard(msgspec.Struct, frozen=True):
    """What the connection brought. ``overflowed`` messages before it were dropped, as nobody took them in time."""

    name: ConnectionName
    batch: StreamBatch
    overflowed: int = 0


class StreamEnded(msgspec.Struct, frozen=True):
    """The connection ended, or could not be opened; ``reason`` is None if that was asked for."""

    name: ConnectionName
    reason: str | None = None


class Resubscribe(msgspec.Struct, frozen=True):
    """Bring these instruments too, and those no more."""

    more: Sequence[Instrument] = ()
    less: Sequence[Instrument] = ()


class TradesSequenced(msgspec.Struct, frozen=True):
    """Trades that follow what was given out before, contiguous by id."""

    instrument: Instrument
    trades: Sequence[LiveTrade]


class Begun(msgspec.Struct, frozen=True):
    """The trades of the instrument are given out from ``next_id`` on."""

    instrument: Instrument
    next_id: int


class HoleGivenUp(msgspec.Struct, frozen=True):
    """These ids are not given out: what follows is not contiguous with what was before."""

    instrument: Instrument
    ids: IdRange


class Unfollow(msgspec.Struct, frozen=True):
    """The instrument is no longer wanted."""

    instrument: Instrument


class Subscribed(msgspec.Struct, frozen=True):
    """Somebody wants an instrument's trades from ``from_id`` on, None for what comes from now on. The first answer in
    ``frames`` is a :class:`Beginning`."""

    instrument: Instrument
    from_id: int | None
    frames: trio.MemorySendChannel["Frame"]


class Beginning(msgspec.Struct, frozen=True):
    """The first id that the frames after this bring."""

    next_id: int


class Ended(msgspec.Struct, frozen=True):
    """No frame follows; go on from ``next_id``."""

    next_id: int | None
    reason: str


Frame = Beginning | TradesSequenced | Ended
PublisherMessage = Begun | TradesSequenced | HoleGivenUp | Subscribed | Unfollow
SequencerMessage = (
    StreamOpened
    | StreamHeard
    | StreamEnded
    | SyncAction[Offer]
    | SpecChanged
    | StopRequested
    | JobAnswered
    | JobFailed
    | JobDropped
    | MergerMessage
    | SchedulerMessage
)
"""The healers are fetchers: they may send whatever a fetcher may."""
