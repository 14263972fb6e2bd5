"""A stand-in for Binance on loopback: generated trades, an archive of them, request weight, bans and faults.

Owns everything that the exchange would do; knows of the daemon only the columns of a trade frame. Use it inside a trio
program with ``open_exchange``, or as a process with ``python -m backfilld.simulator``.
"""

from backfilld.simulator.archive import ArchiveRecord
from backfilld.simulator.archive_defects import ArchiveDefect
from backfilld.simulator.exchange import Exchange, RequestRecord
from backfilld.simulator.faults import Fault, FaultPlan
from backfilld.simulator.options import ExchangeOptions
from backfilld.simulator.quotas import Interval, IntervalUnit, Quota
from backfilld.simulator.server import open_exchange
from backfilld.simulator.tape import Tape
from backfilld.simulator.weights import BanRule, TenantOptions, WeightLedger

__all__ = [
    "ArchiveDefect",
    "ArchiveRecord",
    "BanRule",
    "Exchange",
    "ExchangeOptions",
    "Fault",
    "FaultPlan",
    "Interval",
    "IntervalUnit",
    "Quota",
    "RequestRecord",
    "Tape",
    "TenantOptions",
    "WeightLedger",
    "open_exchange",
]
