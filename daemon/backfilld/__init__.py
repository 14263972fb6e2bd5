"""Every Binance aggregate trade of an instrument on disk: gap-free by id, resumed in a second, never banned.

    settings = Settings(backfill_cache_dir="./my_cache")
    trades = await BinanceTradeHistory(settings).backfill_with_cache(start, end)      # under trio
    trades = fetch("spot:BTCUSDT", "2026-11-22", "2026-11-23")                        # without an event loop
    minutes = bars("spot:BTCUSDT", "2026-11-22", "2026-11-23", every="1m").collect()  # of what is stored

``fetch_async`` is for asyncio. ``scan``, ``bars`` and ``profile`` read stored days lazily, and
``BackfillCacheManager`` the day files of one instrument, without the exchange. Names are imported when first used: the
command line starts without those that it does not need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
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
    from backfilld.history import BinanceTradeHistory, fetch, fetch_async
    from backfilld.scanning import IncompleteSpan, scan
    from backfilld.services.bars import bars, profile
    from backfilld.services.following import follow
    from backfilld.settings import Settings
    from backfilld.store.manager import BackfillCacheManager

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
    "__version__",
    "bars",
    "fetch",
    "fetch_async",
    "follow",
    "profile",
    "scan",
]

_HOMES = {
    "BackfillCacheManager": "backfilld.store.manager",
    "BinanceTradeHistory": "backfilld.history",
    "IncompleteSpan": "backfilld.scanning",
    "Instrument": "backfilld.core.model",
    "Settings": "backfilld.settings",
    "follow": "backfilld.services.following",
    "bars": "backfilld.services.bars",
    "fetch": "backfilld.history",
    "fetch_async": "backfilld.history",
    "profile": "backfilld.services.bars",
    "scan": "backfilld.scanning",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("backfilld")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "backfilld.errors")), name)
