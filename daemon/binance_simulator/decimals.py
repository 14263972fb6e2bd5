"""Decimal text of prices, quantities and sums, digit by digit as the exchange writes it.

Owns the way from a float on a decimal grid to its text. A float is split into whole and fraction before it is scaled:
both parts are then exact, which one rounding of the whole number is not from 2**53 units on.
"""

import polars as pl

SPOT_DIGITS = 8
"""Decimals of every price and quantity on spot."""


def decimal_text(column: str, digits: int, shown: int) -> pl.Expr:
    """A float column, which lies on a grid of ``digits`` decimals, as text with ``shown`` decimals (at least those)."""
    whole, units = _parts(column, digits)
    if shown == 0:
        return whole.cast(pl.String)
    padding = pl.lit("0" * (shown - digits))
    if digits == 0:
        return pl.concat_str(whole, pl.lit("."), padding)
    return pl.concat_str(whole, pl.lit("."), units.cast(pl.String).str.zfill(digits), padding)


def integer_units(column: str, digits: int) -> pl.Expr:
    """A float column on a grid of ``digits`` decimals as exact integers of the last decimal (Int128)."""
    whole, units = _parts(column, digits)
    exact: pl.Expr = whole.cast(pl.Int128) * 10**digits + units.cast(pl.Int128)
    return exact


def units_text(units: int, digits: int, shown: int) -> str:
    """Integers of the ``digits``-th decimal as text with ``shown`` decimals; what is finer is cut off."""
    if units < 0:
        return f"-{units_text(-units, digits, shown)}"
    scaled = units * 10 ** (shown - digits) if shown >= digits else units // 10 ** (digits - shown)
    whole, fraction = divmod(scaled, 10**shown)
    return f"{whole}.{fraction:0{shown}}" if shown else str(whole)


def _parts(column: str, digits: int) -> tuple[pl.Expr, pl.Expr]:
    """Whole numbers and units of the last decimal below one."""
    whole = pl.col(column).floor()
    units = ((pl.col(column) - whole) * 10**digits).round().cast(pl.Int64)
    return whole.cast(pl.Int64) + units // 10**digits, units % 10**digits
