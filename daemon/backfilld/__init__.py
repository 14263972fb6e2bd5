"""Every Binance aggregate trade of an instrument on disk: gap-free by id, resumed in a second, never banned.

    settings = Settings(backfill_cache_dir="./my_cache")
    trades = await BinanceTradeHistory(settings).backfill_with_cache(start, end)      # under trio

:func:`scan` gives days of trades lazily, and :class:`BackfillCacheManager` the day files of one instrument, both
without the exchange. Names are imported when first used: the command line starts without those it does not need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backfilld.core.model import Instrument
    from backfilld.errors import (
        BackfillError,
        BackfillIncomplete,
        CacheLocked,
        ExchangeError,
        FollowEnded,
        RateLimited,
        RequestRejected,
        SettingsError,
        StoreError,
        TradeConflict,
        TransientError,
        UnexpectedAnswer,
    )
    from backfilld.history import BinanceTradeHistory
    from backfilld.scanning import IncompleteSpan, scan
    from backfilld.services.following import follow
    from backfilld.settings import Settings
    from backfilld.store import BackfillCacheManager

__all__ = [
    "BackfillCacheManager",
    "BackfillError",
    "BackfillIncomplete",
    "BinanceTradeHistory",
    "CacheLocked",
    "ExchangeError",
    "FollowEnded",
    "IncompleteSpan",
    "Instrument",
    "RateLimited",
    "RequestRejected",
    "Settings",
    "SettingsError",
    "StoreError",
    "TradeConflict",
    "TransientError",
    "UnexpectedAnswer",
    "follow",
    "scan",
]

_HOMES = {
    "BackfillCacheManager": "backfilld.store",
    "BinanceTradeHistory": "backfilld.history",
    "IncompleteSpan": "backfilld.scanning",
    "Instrument": "backfilld.core.model",
    "Settings": "backfilld.settings",
    "follow": "backfilld.services.following",
    "scan": "backfilld.scanning",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "backfilld.errors")), name)
