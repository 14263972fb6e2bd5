"""Trades as the JSON text of each market, made in blocks and cut into pages.

Owns the text of a row: which fields, in which form. Must not choose rows.

A row's text never changes, so a page is a slice of a block that was written once: consecutive pages cost the CPU
little more than a copy. Blocks lie at fixed row numbers; the unfinished last one is written anew each time.
"""

from collections import OrderedDict

import polars as pl

from binance_simulator.decimals import SPOT_DIGITS, decimal_text
from binance_simulator.generation import Grid, digits_of
from binance_simulator.model import Market
from binance_simulator.tape import Tape

BLOCK_ROWS = 4096
_KEPT_BLOCKS = 64
_EVERY_NTH_WITHOUT_RPI = 41
"""One row in so many has ``nq`` zero while q is not: the exchange has such rows."""


def row_text(market: Market, grid: Grid) -> pl.Expr:
    """The expression that writes a row of SCHEMA as the market's JSON object."""
    price_shown, quantity_shown = shown_digits(market, grid)
    price = decimal_text("p", digits_of(grid.tick), price_shown)
    quantity = decimal_text("q", digits_of(grid.lot), quantity_shown)
    parts: list[str | pl.Expr] = ['{"a":', pl.col("a"), ',"p":"', price, '","q":"', quantity]
    if market is Market.UM:
        without = pl.col("a") % _EVERY_NTH_WITHOUT_RPI == 0
        parts += ['","nq":"', pl.when(without).then(pl.lit("0")).otherwise(quantity)]
    parts += ['","f":', pl.col("f"), ',"l":', pl.col("l"), ',"T":', pl.col("T"), ',"m":', pl.col("m")]
    if market is Market.SPOT:
        parts += [',"M":', pl.col("M")]
    parts.append("}")
    return pl.concat_str(pl.lit(part) if isinstance(part, str) else part for part in parts)


def shown_digits(market: Market, grid: Grid) -> tuple[int, int]:
    """Decimals of a price and of a quantity in the market's JSON."""
    if market is Market.SPOT:
        return SPOT_DIGITS, SPOT_DIGITS
    return grid.price_precision, grid.quantity_precision


class _Block:
    """The text of consecutive rows, joined by commas, and where each row begins in it."""

    __slots__ = ("_begins", "_text")

    def __init__(self, rows: pl.DataFrame, text_of_row: pl.Expr) -> None:
        texts = rows.select(text_of_row.alias("text"))["text"]
        self._text = str(texts.str.join(",").item()).encode()
        self._begins = [0, *(texts.str.len_bytes().cast(pl.Int64) + 1).cum_sum().to_list()]

    def rows(self, start: int, stop: int) -> bytes:
        """The text of the rows ``start`` to ``stop`` of the block (half-open, not empty)."""
        return self._text[self._begins[start] : self._begins[stop] - 1]


class Pages:
    """Writes pages of one tape for one market."""

    def __init__(self, tape: Tape, market: Market) -> None:
        self._tape = tape
        self._text_of_row = row_text(market, tape.grid)
        self._blocks: OrderedDict[int, _Block] = OrderedDict()

    def page(self, rows: range | pl.DataFrame) -> bytes:
        """The JSON array of the rows: a range of row numbers of the tape, or a frame."""
        if isinstance(rows, pl.DataFrame):
            return b"[" + b",".join(self._pieces_of_frame(rows)) + b"]"
        return b"[" + b",".join(self._pieces(rows.start, rows.stop)) + b"]"

    def _pieces(self, start: int, stop: int) -> list[bytes]:
        pieces = []
        while start < stop:
            number, offset = divmod(start, BLOCK_ROWS)
            take = min(stop - start, BLOCK_ROWS - offset)
            pieces.append(self._rows_in_block(number, offset, offset + take))
            start += take
        return pieces

    def _rows_in_block(self, number: int, start: int, stop: int) -> bytes:
        block = self._blocks.get(number)
        if block is not None:
            self._blocks.move_to_end(number)
            return block.rows(start, stop)
        first_row = number * BLOCK_ROWS
        if first_row + BLOCK_ROWS > self._tape.frame.height:
            part = self._tape.frame.slice(first_row + start, stop - start)
            return _Block(part, self._text_of_row).rows(0, stop - start)
        block = self._blocks[number] = _Block(self._tape.frame.slice(first_row, BLOCK_ROWS), self._text_of_row)
        if len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return block.rows(start, stop)

    def _pieces_of_frame(self, rows: pl.DataFrame) -> list[bytes]:
        return [] if rows.is_empty() else [_Block(rows, self._text_of_row).rows(0, rows.height)]
