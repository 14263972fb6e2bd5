"""Trades as the JSON text of the exchange, digit by digit.

Owns the text of numbers. Spot writes eight decimals, futures the digits that exchangeInfo names for the symbol.

A float64 is within half a unit of the eighth decimal only below 1e5, where polars' cast to decimals is exact; above it
the shortest text that reads back as the same float is the exchange's, with zeros behind it.
"""

from dataclasses import dataclass

import polars as pl

from backfilld.core.model import Instrument, Market

DIGITS = 8
_EXACT_BELOW = 1e5
_PLAIN_BELOW = 1e16
"""From here on a float's shortest text is in powers of ten."""

_UNITS = pl.Decimal(38, DIGITS)

LACKING = frozenset((Market.UM,))
"""Markets whose trades carry a field that is not stored: ``nq``."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Digits behind the point of prices and of quantities."""

    price: int = DIGITS
    quantity: int = DIGITS


def units(values: pl.Series) -> pl.Series:
    """The numbers as decimals of eight digits. Raises ValueError for one that no market has."""
    most = values.max()
    if most is None or most < _EXACT_BELOW:  # type: ignore[operator]  # a float column has a float maximum
        return values.cast(_UNITS)
    if not most < _PLAIN_BELOW:  # type: ignore[operator]
        raise ValueError("a number is too large for a price or a quantity")
    return values.cast(pl.String).cast(_UNITS)


def number_texts(values: pl.Series, digits: int) -> pl.Series:
    """The texts of the numbers. Raises ValueError if they need more digits than the market writes."""
    texts = units(values).cast(pl.String)
    if digits == DIGITS:
        return texts
    cut = DIGITS - digits
    rest = texts.str.tail(cut)
    if bool((rest != "0" * cut).any()):
        raise ValueError(f"a number has more than {digits} digits behind the point")
    return texts.str.head(-cut - (digits == 0))


def trades_text(instrument: Instrument, trades: pl.DataFrame, digits: Digits) -> bytes:
    """A JSON array of the trades. The field ``nq`` of USD-M futures is not stored, and left out."""
    if trades.is_empty():
        return b"[]"
    price, quantity = number_texts(trades["p"], digits.price), number_texts(trades["q"], digits.quantity)
    names = ("f", "l", "T", "m", "M") if instrument.market is Market.SPOT else ("f", "l", "T", "m")
    shown = pl.DataFrame([trades["a"], price.alias("p"), quantity.alias("q"), *(trades[name] for name in names)])
    return shown.write_json().encode()
