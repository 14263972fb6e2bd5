"""The nouns: instruments, days, and ranges of aggregate trade ids.

Owns the vocabulary that every layer shares. Must not know where trades come from or where they go. Settings import it:
polars is in :mod:`backfilld.core.frame`, so that a command without trades starts without it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import msgspec

from backfilld.errors import SettingsError

PAGE_ROWS = 1000
"""Rows in a full aggTrades page: the largest `limit` that the exchange documents."""

MS_PER_DAY = 86_400_000
INT64_MAX = 2**63 - 1

EARLIEST_MS = 1_230_768_000_000
LATEST_MS = 4_102_444_800_000
"""2009 and 2100: a `T` in seconds or microseconds falls outside."""


class Market(StrEnum):
    """The exchange's three trading systems; each has its own host and ids. What differs between them is in
    ``backfilld.core.markets``."""

    SPOT = "spot"
    UM = "um"
    CM = "cm"


_SYMBOL = re.compile(r"\w{1,60}")


@dataclass(frozen=True, slots=True, order=True)
class Instrument:
    """One symbol of one market, written ``market:SYMBOL`` (``spot:BTCUSDT``)."""

    market: Market
    symbol: str

    @classmethod
    def parse(cls, text: str) -> "Instrument":
        """Read ``market:SYMBOL``. Raises SettingsError naming the text and the rule.

        A symbol is letters (any script: the exchange lists ``币安人生USDT``), digits and ``_``, which also keeps it
        inside its own directory of the cache.
        """
        market, colon, symbol = text.strip().partition(":")
        if not colon or market not in set(Market):
            raise SettingsError(
                f"instrument {text!r}: write market:SYMBOL with market one of {', '.join(Market)}, such as spot:BTCUSDT"
            )
        if not _SYMBOL.fullmatch(symbol):
            raise SettingsError(f"instrument {text!r}: a symbol is 1 to 60 letters, digits and _, such as BTCUSDT")
        if symbol != symbol.upper():
            raise SettingsError(f"instrument {text!r}: symbols are upper case, write {market}:{symbol.upper()}")
        return cls(Market(market), symbol)

    def __str__(self) -> str:
        return f"{self.market}:{self.symbol}"

    def __hash__(self) -> int:
        # What is known is looked up by instrument, thousands of times a second; few symbols are in several markets.
        return hash(self.symbol)


MAX_ID = 2**53
"""No id of the exchange's is higher: its counters are JSON numbers, which carry integers exactly only up to here."""


class IdRange(msgspec.Struct, frozen=True, order=True, array_like=True, gc=False):
    """Aggregate trade ids ``first_id`` to ``last_id``, both inclusive, never empty. In JSON an array of the two."""

    first_id: int
    last_id: int

    def __post_init__(self) -> None:
        if self.first_id > self.last_id:
            raise ValueError(f"empty id range {self.first_id}..{self.last_id}")

    def __len__(self) -> int:
        return self.last_id - self.first_id + 1


def day_of(time_ms: int) -> date:
    """The UTC day that holds the instant ``time_ms`` (ms since the epoch)."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)).date()


def day_start_ms(day: date) -> int:
    """The first millisecond of the UTC day, in ms since the epoch."""
    return (day - date(1970, 1, 1)).days * MS_PER_DAY


def day_stop_ms(day: date) -> int:
    """The first millisecond after the UTC day: days are half-open."""
    return day_start_ms(day) + MS_PER_DAY


def days_from(first: date, last: date) -> list[date]:
    """The days from the first to the last, both included; none if the first is the later one."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def instant_ms(moment: datetime) -> int:
    """An aware datetime as ms since the epoch, rounded down. Raises SettingsError for a naive one."""
    if moment.tzinfo is None:
        raise SettingsError(f"{moment!r} has no time zone: give an aware datetime, such as one in UTC")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def iso(time_ms: int) -> str:
    """The instant as ISO 8601 in UTC, to the second, as the logs write it."""
    return datetime.fromtimestamp(time_ms // 1000, tz=UTC).isoformat()
