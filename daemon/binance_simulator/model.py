"""The exchange's nouns: markets, the pools of request weight, instruments, days, and the columns of a trade frame.

Owns the vocabulary of the simulator. It resembles backfilld's on purpose and shares none of its code: the simulator is
what backfilld's answers are compared with, so a mistake in one of them must not be a mistake in both.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import polars as pl

PAGE_ROWS = 1000
"""Rows in a full aggTrades page, the documented maximum of ``limit``."""

MS_PER_HOUR = 3_600_000
MS_PER_DAY = 24 * MS_PER_HOUR
INT64_MAX = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SCHEMA: dict[str, pl.DataType] = {
    "T": pl.Int64(),
    "a": pl.Int64(),
    "p": pl.Float64(),
    "q": pl.Float64(),
    "f": pl.Int64(),
    "l": pl.Int64(),
    "m": pl.Boolean(),
    "M": pl.Boolean(),
}
"""Columns of a trade frame, named as the exchange's JSON names them; T in ms since the epoch."""


class Pool(StrEnum):
    """A budget of request weight per IP address. USD-M and COIN-M share one since June 2026."""

    SPOT = "spot"
    FUTURES = "futures"


class Market(StrEnum):
    """The exchange's three trading systems; each has its own paths and ids."""

    SPOT = "spot"
    UM = "um"
    CM = "cm"

    @property
    def pool(self) -> Pool:
        """The budget that pays for this market's requests."""
        return Pool.SPOT if self is Market.SPOT else Pool.FUTURES


@dataclass(frozen=True, slots=True, order=True)
class Instrument:
    """One symbol of one market, written ``market:SYMBOL`` (``spot:BTCUSDT``)."""

    market: Market
    symbol: str

    @classmethod
    def parse(cls, text: str) -> "Instrument":
        """Read ``market:SYMBOL``. Raises ValueError naming the text and the rule."""
        market, _, symbol = text.partition(":")
        if market not in set(Market) or re.fullmatch(r"\w{1,60}", symbol) is None or symbol != symbol.upper():
            raise ValueError(
                f"instrument {text!r}: write market:SYMBOL, such as spot:BTCUSDT, um:BTCUSDT or cm:BTCUSD_PERP"
            )
        return cls(Market(market), symbol)

    def __str__(self) -> str:
        return f"{self.market}:{self.symbol}"


def day_of(time_ms: int) -> date:
    """The UTC day of an instant in ms since the epoch."""
    return (_EPOCH + timedelta(milliseconds=time_ms)).date()


def day_start_ms(day: date) -> int:
    """The first millisecond of a UTC day."""
    return (day - _EPOCH.date()).days * MS_PER_DAY


def day_stop_ms(day: date) -> int:
    """The first millisecond after a UTC day."""
    return day_start_ms(day) + MS_PER_DAY


def instant_ms(moment: datetime) -> int:
    """An aware datetime in ms since the epoch, rounded down. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone: add one, such as Z")
    return (moment - _EPOCH) // timedelta(milliseconds=1)
