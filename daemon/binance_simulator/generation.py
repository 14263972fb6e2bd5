"""Invented trades that look like real ones: bursts, quiet stretches, a price walk on the tick grid.

Owns the columns of generated rows as pure functions of a seed and a row number, vectorised. Must not know of clocks,
of growth in real time or of who asks.

Every row is numbered; a row's gap, step and size are hashes of its number. What accumulates (price, trade ids, side)
starts from a `Cursor` and is summed over integers, so that rows made in one piece or in many are the same rows.
"""

import math
import random
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from binance_simulator.model import SCHEMA

_BLOCK_ROWS = 512
"""Rows that share one mood: how fast trades come, and whether they come in a flood."""

_FLOOD_SHARE = 0.03
_NEW_MS_CHANCE_IN_FLOOD = 1 / 150
_NEW_MS_CHANCE = 0.3
_FLIP_CHANCE = 0.3
_STAY_CHANCE = 0.6
_LARGEST_LOTS = 5_000_000


@dataclass(frozen=True, slots=True)
class Grid:
    """The steps of price and quantity: integers here, one division away from the price that is served."""

    tick: Decimal
    lot: Decimal
    price_precision: int
    quantity_precision: int
    """Decimals that the futures markets write; not the tick's: USD-M writes 85299.90 on a tick of 0.1."""

    @classmethod
    def of(
        cls,
        tick: float | str | Decimal,
        lot: float | str | Decimal,
        price_precision: int | None = None,
        quantity_precision: int | None = None,
    ) -> "Grid":
        """A grid from numbers as people write them (0.01, "0.01"). Each precision is at least what its step needs."""
        steps = Decimal(str(tick)), Decimal(str(lot))
        price, quantity = (digits_of(step) for step in steps)
        return cls(*steps, max(price, price_precision or 0), max(quantity, quantity_precision or 0))


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a sequence of rows stands: the next row's number and ids, the last price (in ticks) and side.

    ``walk_ticks`` is the price before it is reflected at the floor of the grid, so it may be below one.
    """

    row: int
    next_id: int
    next_trade_id: int
    walk_ticks: int
    buyer_maker: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """``rows`` rows that fall into the ``span_ms`` milliseconds from ``start_ms`` (half-open)."""

    start_ms: int
    span_ms: int
    rows: int


def digits_of(step: Decimal) -> int:
    """Decimal digits that a step needs: 2 for 0.01, 0 for 1 and for 10."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def generated_rows(seed: int, grid: Grid, cursor: Cursor, stretches: list[Stretch]) -> tuple[pl.DataFrame, Cursor]:
    """The rows that follow ``cursor``, spread over the stretches, and the cursor after them.

    The frame has SCHEMA; T never decreases inside a stretch and stays inside it.
    """
    rows = sum(stretch.rows for stretch in stretches)
    if rows == 0:
        return pl.DataFrame(schema=SCHEMA), cursor
    raw = _numbered(stretches, cursor.row).with_columns(
        gap_us=_gap_us(seed),
        step=_price_step(seed),
        lots=_lots(seed),
        trades=_trades(seed),
        flip=(_uniform("row", seed, "flip") < _FLIP_CHANCE).cast(pl.Int64),
    )
    walked = _walked(raw, cursor)
    last = walked.row(-1, named=True)
    after = Cursor(cursor.row + rows, last["a"] + 1, last["l"] + 1, last["walk"], last["m"])
    return _on_grid(walked, grid), after


def marked_rows(frame: pl.DataFrame, seed: int, markers: int) -> pl.DataFrame:
    """The frame with ``markers`` rows turned into the exchange's markers: p = q = 0, f = l = -1, a and T kept.

    The trade ids close up over a marker: its row was a duplicate, its trades belong to no one.
    """
    chosen = random.Random(f"markers {seed}").sample(range(frame.height), min(markers, frame.height))
    is_marker = pl.int_range(pl.len()).is_in(pl.lit(pl.Series(sorted(chosen), dtype=pl.Int64)).implode())
    dropped = pl.when(is_marker).then(pl.col("l") - pl.col("f") + 1).otherwise(0).cum_sum()
    return frame.with_columns(
        p=pl.when(is_marker).then(0.0).otherwise("p"),
        q=pl.when(is_marker).then(0.0).otherwise("q"),
        f=pl.when(is_marker).then(-1).otherwise(pl.col("f") - dropped),
        l=pl.when(is_marker).then(-1).otherwise(pl.col("l") - dropped),
    )


def _numbered(stretches: list[Stretch], first_row: int) -> pl.DataFrame:
    """One line per row: its number, its 512-row block, and the stretch it falls into."""
    spread = pl.DataFrame(
        {
            "start_ms": [stretch.start_ms for stretch in stretches],
            "span_ms": [stretch.span_ms for stretch in stretches],
            "rows": [stretch.rows for stretch in stretches],
        },
        schema=dict.fromkeys(("start_ms", "span_ms", "rows"), pl.Int64),
    )
    repeated = spread.filter(pl.col("rows") > 0).select(pl.col("start_ms", "span_ms").repeat_by("rows").explode())
    row = pl.int_range(first_row, first_row + pl.len(), dtype=pl.Int64)
    return repeated.with_columns(row=row, block=row // _BLOCK_ROWS)


def _uniform(column: str, seed: int, purpose: str) -> pl.Expr:
    """A number in (0, 1) for each value of the column, independent for each purpose."""
    salt = random.Random(f"{seed} {purpose}").getrandbits(63)
    return (pl.col(column).hash(salt) // 2**11).cast(pl.Float64) / 2.0**53 + 2.0**-54


def _gap_us(seed: int) -> pl.Expr:
    """Relative time since the previous row: mostly none (a burst), longer or shorter by the block's mood."""
    chance = (
        pl.when(_uniform("block", seed, "flood") < _FLOOD_SHARE).then(_NEW_MS_CHANCE_IN_FLOOD).otherwise(_NEW_MS_CHANCE)
    )
    pace = (_uniform("block", seed, "pace") * 6).exp()
    pause = -_uniform("row", seed, "pause").log() * pace * 1000
    return pl.when(_uniform("row", seed, "new ms") < chance).then(pause).otherwise(0.0).cast(pl.Int64)


def _price_step(seed: int) -> pl.Expr:
    """Ticks from the previous price: usually none, else as often up as down."""
    uniform = _uniform("row", seed, "step")
    outside = (uniform - _STAY_CHANCE) / (1 - _STAY_CHANCE)
    size = 1 + (_uniform("row", seed, "step size") ** 4 * 6).cast(pl.Int64)
    return pl.when(uniform < _STAY_CHANCE).then(0).when(outside < 1 / 2).then(size).otherwise(-size)


def _lots(seed: int) -> pl.Expr:
    """Lots of a row: many small ones, a few very large."""
    return (10 * _uniform("row", seed, "lots") ** -0.9).clip(1, _LARGEST_LOTS).cast(pl.Int64)


def _trades(seed: int) -> pl.Expr:
    """Trades aggregated in a row: mostly one, seldom dozens."""
    return (_uniform("row", seed, "trades") ** -0.5).clip(1, 60).cast(pl.Int64)


def _walked(raw: pl.DataFrame, cursor: Cursor) -> pl.DataFrame:
    """What accumulates over the rows: time in its stretch, price, trade ids and side."""
    elapsed = pl.col("gap_us").cum_sum().over("start_ms")
    gaps = pl.col("gap_us").sum().over("start_ms")
    whole = gaps + gaps // pl.len().over("start_ms") + 1
    return raw.with_columns(
        # A quotient below one, floored, stays inside the stretch and never decreases.
        T=pl.col("start_ms") + (elapsed.cast(pl.Float64) / whole * pl.col("span_ms")).floor().cast(pl.Int64),
        a=pl.col("row") - cursor.row + cursor.next_id,
        walk=pl.col("step").cum_sum() + cursor.walk_ticks,
        l=pl.col("trades").cum_sum() + cursor.next_trade_id - 1,
        m=(pl.col("flip").cum_sum() + int(cursor.buyer_maker)) % 2 == 1,
        M=pl.lit(value=True),
    ).with_columns(
        # A price cannot fall through the floor of the grid: it is reflected there.
        ticks=(pl.col("walk") - 1).abs() + 1,
        f=pl.col("l") - pl.col("trades") + 1,
    )


def _on_grid(walked: pl.DataFrame, grid: Grid) -> pl.DataFrame:
    return walked.with_columns(p=_steps("ticks", grid.tick), q=_steps("lots", grid.lot)).select(list(SCHEMA)).rechunk()


def _steps(column: str, step: Decimal) -> pl.Expr:
    """Steps as the float nearest to their decimal number: 8764821 ticks of 0.01 are exactly 87648.21."""
    digits = digits_of(step)
    units = (pl.col(column) * int(step.scaleb(digits))).cast(pl.Float64)
    # Polars divides by a constant as it multiplies by its reciprocal, which misses the nearest float; round does not.
    return (units / math.pow(10, digits)).round(digits)
