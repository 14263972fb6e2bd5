"""Every exception that backfilld raises on purpose, sorted by who can act.

    BackfillError
    ├── SettingsError            the operator: the key, the value, the rule          exit 78
    ├── CacheLocked              another instance holds the cache                    exit 75
    ├── ExchangeError
    │   ├── TransientError       time will fix it: timeout, reset, 5xx, broken body  retry
    │   │   └── Unreachable      no connection: nothing was sent                     retry, charge nothing
    │   ├── RateLimited          429, 418, pages of the CDN: everyone waits          pause
    │   ├── RequestRejected      4xx: unknown symbol, wrong URL, our bug             give up, say so
    │   ├── UnexpectedAnswer     200, but not what was asked for                     retry, never merge
    │   ├── StreamLost           a live connection ended or could not be opened       connect again
    │   └── ArchiveError         a published file that cannot be used: kind says why  REST takes over
    ├── BackfillIncomplete       ids are missing or conflict at the end               exit 1
    ├── RemoteError              the object store
    │   ├── RemoteUnreachable    time will fix it: no answer, 5xx, throttled         exit 75
    │   ├── RemoteDenied         the operator: key, bucket, or ignored conditions    exit 78
    │   └── ObjectRefused        an object that is not what its key says             next source
    ├── LostTask                 a task of a fleet went with its scheduler            do it again
    ├── FollowEnded              a live tail stopped; next_id is where to go on        follow again
    ├── TradeConflict            two different trades under one id                   report, never drop
    ├── DayLocked                an encrypted day file, and no key opens it          exit 78
    └── StoreError               disk full, permission, directory gone               retry, or stop
        └── DayDamaged           a day file was damaged while in use                 move aside, fetch again

Messages are one sentence that names the thing and the rule: they are what the operator reads on stderr.
"""

from typing import Literal

EXIT_DONE = 0
EXIT_INCOMPLETE = 1
EXIT_TRY_LATER = 75
"""sysexits' EX_TEMPFAIL: time may change it."""
EXIT_SETTINGS = 78
"""sysexits' EX_CONFIG: the operator must change it; the unit does not start the daemon again after it."""

ArchiveFault = Literal["absent", "checksum", "cut", "shape", "value", "empty", "large"]
"""Why a file of the archive cannot be used."""


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


class Unreachable(TransientError):
    """There is not even a connection: refused, no route, no name, no TLS. Nothing was sent, nothing is charged."""


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

    ``absent`` is the first and the last of the ids that the answer jumped over, where it jumped farther than one
    answer may. ``contradicts`` is the id of a stored trade beside which it cannot be true. ``is_alone`` if it may be
    right, and too few answers have said the same yet.
    """

    def __init__(
        self,
        message: str,
        *,
        absent: tuple[int, int] | None = None,
        contradicts: int | None = None,
        is_alone: bool = False,
    ) -> None:
        super().__init__(message)
        self.is_alone = is_alone
        self.absent = absent
        self.contradicts = contradicts


class StreamLost(ExchangeError):
    """A connection to the exchange's streams could not be opened, or ended."""


class ArchiveError(ExchangeError):
    """A file of the public archive that cannot be used. Nothing of it may be merged.

    ``kind`` says why: ``absent`` (announced, but not there), ``checksum`` (other bytes than published, twice),
    ``cut`` (an incomplete or damaged zip), ``shape`` (no CSV of aggregate trades), ``value`` (a field that cannot be
    read or is impossible; the message names line and column), ``empty`` (no trade of the day), ``large`` (beyond all
    bounds of size).
    """

    def __init__(self, message: str, *, kind: ArchiveFault) -> None:
        super().__init__(message)
        self.kind = kind


class BackfillIncomplete(BackfillError):
    """The end of a backfill that could not get all of its window, or could not prove it."""


class RemoteError(BackfillError):
    """The object store did not do what it was asked for."""


class RemoteUnreachable(RemoteError):
    """The object store may do it later: no answer in time, a broken connection, 5xx, too many requests."""


class RemoteDenied(RemoteError):
    """The object store will never do it as things are set: the credentials are refused, the bucket is missing, or the
    store ignores the conditions of a write."""


class ObjectRefused(RemoteError):
    """An object is not what its key says, or is larger than such an object can be. Nothing of it may be used."""


class LostTask(BackfillError):
    """A task of a fleet of which nothing is known any more: its scheduler, or the connection to it, is gone."""


class FollowEnded(BackfillError):
    """Following an instrument came to an end. All trades before ``next_id`` were given, and none after; None if none
    was given."""

    def __init__(self, message: str, *, next_id: int | None) -> None:
        super().__init__(message)
        self.next_id = next_id


class TradeConflict(BackfillError):
    """Two different trades stand under one aggregate trade id."""


class DayLocked(BackfillError):
    """A day file is encrypted and no key opens it. It is never moved, replaced or fetched again."""


class StoreError(BackfillError):
    """The cache directory cannot be read or written: full, read-only, gone, or not a directory."""


class DayDamaged(StoreError):
    """A day file that was whole when it was opened is not any more."""
