"""Everything that can be set on the simulated streams, in one frozen value.

Owns the names, the defaults and their reasons. Must not act on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from binance_simulator.model import Market


class Cut(StrEnum):
    """How a connection ends that was not to end."""

    RESET = "reset"
    """A TCP reset."""
    FIN = "fin"
    """An orderly TCP end without a close frame."""
    CLOSE = "close"
    """A close frame, 1006 to nobody: code 1011."""


def _documented_messages() -> dict[Market, int]:
    return {Market.SPOT: 5, Market.UM: 10, Market.CM: 10}


def _documented_pings() -> dict[Market, tuple[float, float]]:
    return {Market.SPOT: (20.0, 60.0), Market.UM: (180.0, 600.0), Market.CM: (180.0, 600.0)}


def _documented_delays() -> dict[Market, int]:
    return {Market.SPOT: 1, Market.UM: 100, Market.CM: 100}


def _documented_prefixes() -> dict[Market, tuple[str, ...]]:
    return {Market.SPOT: ("",), Market.UM: ("/market",), Market.CM: ("/market", "")}


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """The simulated streams' behaviour; replace it with ``dataclasses.replace`` to change it while they run.

    The shares (0 to 1) are drawn for each message, from ``seed`` and the number of the connection.
    """

    seed: int = 0

    tick_s: float = 0.01
    """How often new trades are looked for."""

    delay_ms: Mapping[Market, int] = field(default_factory=_documented_delays)
    """From a trade to its message; the futures aggregate 100 ms."""

    routed_prefixes: Mapping[Market, tuple[str, ...]] = field(default_factory=_documented_prefixes)
    """Below which prefixes of the path aggregate trades are sent. Below others a SUBSCRIBE is acknowledged, and
    nothing follows."""

    messages_per_s: Mapping[Market, int] = field(default_factory=_documented_messages)
    """Messages from the client, pings and pongs included; more end the connection."""

    streams_per_connection: int = 1024
    connects: int = 300
    """Connections per five minutes; more are answered with 429."""

    life_s: float = 86_400.0
    """The exchange ends a connection that is as old as this."""

    pings: Mapping[Market, tuple[float, float]] = field(default_factory=_documented_pings)
    """Seconds between pings, and seconds without a pong after which the connection ends."""

    deflate: bool = False
    """Offer permessage-deflate."""

    slow_after_s: float = 10.0
    """A client that takes nothing for so long is cut off."""

    drop_share: float = 0.0
    double_share: float = 0.0
    shuffle_share: float = 0.0
    """Messages that come after up to eight later ones."""

    garbage_share: float = 0.0
    """Messages before which another one comes that no client can use."""

    cut_every_s: float = 0.0
    """About how long a connection lives, between half and one and a half of this; 0 for ever."""

    cuts: tuple[Cut, ...] = tuple(Cut)

    silent_connections: frozenset[int] = frozenset()
    """Numbers of connections, from 1 in order of arrival, that acknowledge and send nothing."""

    silent_share: float = 0.0
    """Share of the connections that are silent as well."""

    half_open_after_s: float = 0.0
    """After so long a connection neither reads nor writes, and stays; 0 never."""

    shutdown_every_s: float = 0.0
    """After so long a connection announces serverShutdown; 0 never."""

    shutdown_lead_s: float = 1.0
    """From the announcement to the end."""
