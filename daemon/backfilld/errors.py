"""Every exception that backfilld raises on purpose, sorted by who can act.

    BackfillError
    ├── SettingsError            the operator: the key, the value, the rule          exit 78
    ├── CacheLocked              another instance holds the cache                    exit 75
    ├── ExchangeError
    │   ├── TransientError       time will fix it: timeout, reset, 5xx, broken body  retry
    │   ├── RateLimited          429, 418, pages of the CDN: everyone waits          pause
    │   ├── RequestRejected      4xx: unknown symbol, wrong URL, our bug             give up, say so
    │   └── UnexpectedAnswer     200, but not what was asked for                     retry, never merge
    ├── BackfillIncomplete       ids are missing or conflict at the end               exit 1
    ├── TradeConflict            two different trades under one id                   report, never drop
    └── StoreError               disk full, permission, directory gone               stop

Messages are one sentence that names the thing and the rule: they are what the operator reads on stderr.
"""


class BackfillError(Exception):
    """The root: anything that backfilld raises on purpose."""


class SettingsError(BackfillError):
    """A setting, a command line value or an instrument breaks its rule. The operator must change it."""


class CacheLocked(BackfillError):
    """Another process holds the cache directory."""


class ExchangeError(BackfillError):
    """The exchange did not give what was asked for."""


class TransientError(ExchangeError):
    """The request may succeed later: timeout, reset, 5xx, cut or garbage body."""


class RateLimited(ExchangeError):
    """The exchange refused for request weight (429), banned this IP (418), or its CDN blocked us (403 or 503 pages).

    ``retry_after_s`` is the wait in seconds that the exchange named, or None if it named none.
    """

    def __init__(
        self, message: str, *, retry_after_s: float | None, banned: bool = False, blocked: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.banned = banned
        self.blocked = blocked


class RequestRejected(ExchangeError):
    """The exchange refused for good: ``status`` is HTTP's, ``code`` Binance's (None for a body that is not
    Binance's)."""

    def __init__(self, message: str, *, status: int, code: int | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class UnexpectedAnswer(ExchangeError):
    """An answer with status 200 that is not what was asked for. Nothing of it may be merged.

    ``absent`` is the first and the last of the ids that the answer passed over, where it tells them.
    """

    def __init__(self, message: str, *, absent: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.absent = absent


class BackfillIncomplete(BackfillError):
    """The end of a backfill that could not get all of its window, or could not prove it."""


class TradeConflict(BackfillError):
    """Two different trades stand under one aggregate trade id."""


class StoreError(BackfillError):
    """The cache directory cannot be read or written: full, read-only, gone, or not a directory."""
