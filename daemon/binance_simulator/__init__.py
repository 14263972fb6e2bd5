"""A stand-in for Binance on loopback: generated trades, an archive of them, request weight, bans and faults.

Owns everything that the exchange would do, and shares no code with backfilld, whose answers are compared with it. Use
it inside a trio program with ``open_exchange``, or as a process with ``python -m binance_simulator``.
"""

from binance_simulator.archive import ArchiveRecord
from binance_simulator.archive_defects import HOSTILE_DEFECTS, ArchiveDefect
from binance_simulator.exchange import Exchange, RequestRecord
from binance_simulator.faults import HOSTILE_FAULTS, ORDINARY_FAULTS, Fault, FaultPlan
from binance_simulator.model import Instrument, Market, Pool
from binance_simulator.options import ExchangeOptions
from binance_simulator.quotas import Interval, IntervalUnit, Quota
from binance_simulator.server import open_exchange
from binance_simulator.stream_options import Cut, StreamOptions
from binance_simulator.streams import Streams
from binance_simulator.tape import Tape
from binance_simulator.weights import BanRule, TenantOptions, WeightMeter

__all__ = [
    "HOSTILE_DEFECTS",
    "HOSTILE_FAULTS",
    "ORDINARY_FAULTS",
    "ArchiveDefect",
    "ArchiveRecord",
    "BanRule",
    "Cut",
    "Exchange",
    "ExchangeOptions",
    "Fault",
    "FaultPlan",
    "Instrument",
    "Interval",
    "IntervalUnit",
    "Market",
    "Pool",
    "Quota",
    "RequestRecord",
    "StreamOptions",
    "Streams",
    "Tape",
    "TenantOptions",
    "WeightMeter",
    "open_exchange",
]
