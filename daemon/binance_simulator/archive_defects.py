"""The ways in which a published archive day is wrong, and what they do to its rows.

Owns the names of the defects and the spoiled rows. Pure: equal rows are spoiled equally. Must not know how a file is
written, summed or sent.
"""

from collections.abc import Collection
from enum import StrEnum

import polars as pl

from binance_simulator.generation import Grid

_EVERY_NTH_ROW = 50
_HOLE_SHARE = 100
"""A hole, or a run of doubled rows, is one row and a hundredth of the day's."""


class ArchiveDefect(StrEnum):
    """One thing that is wrong with a day. Several may be named; their effects on the rows come in this order."""

    TRUNCATED_DAY = "truncated_day"
    """The rows stop early: the first two fifths of them, at least one; the sum is right."""
    HOLES = "holes"
    """Two ranges of ids inside the day are left out, each of a hundredth of its rows; none in a day under four rows."""
    ZERO_QUANTITIES = "zero_quantities"
    """One row in fifty has q = 0, in place of the quantity that REST has."""
    CHANGED_VALUES = "changed_values"
    """One row in fifty is a tick dearer than REST has it, under the same id; marker rows stay as they are."""
    DOUBLED_ROWS = "doubled_rows"
    """A run of a hundredth of the rows stands twice, one after the other."""
    INTERLEAVED_RUNS = "interleaved_runs"
    """The two halves of the day alternate row by row; no row is missing."""
    REUSED_ID = "reused_id"
    """Before the day's own rows, another trade with the id of the row before the day, on which the exchange put its
    own; without a row before the day, nothing."""

    NO_HEADER = "no_header"
    """No header row, whatever the market's habit."""
    WITH_HEADER = "with_header"
    """A header row, whatever the market's habit."""
    WRONG_CASE = "wrong_case"
    """Booleans in the other markets' case: true on spot, True on futures."""
    MILLIS = "millis"
    """Times in milliseconds, whatever the date."""
    MICROS = "micros"
    """Times in microseconds, whatever the date."""
    TWO_CSVS = "two_csvs"
    """Two members in the zip, the first with the first half of the rows."""

    WRONG_CHECKSUM = "wrong_checksum"
    """A well-formed sum that is not the file's."""
    CUT_ZIP = "cut_zip"
    """The file ends after two thirds of its bytes, and the sum is that of these bytes."""
    CUT_TRANSFER = "cut_transfer"
    """The file and its sum are right, but every transfer ends after half of the announced bytes."""
    REPUBLISHED = "republished"
    """What is served until the zip was downloaded once has the day's other defects (alone: changed_values); what is
    served from then on has none. The sum, the ETag and Last-Modified change with it."""
    MISSING = "missing"
    """404 for the file and its sum, although the day was published."""
    HTML_200 = "html_200"
    """A captive portal's page with 200, for the file and for its sum."""

    ZIP_BOMB = "zip_bomb"
    """Two gigabytes of one row, in a few megabytes."""
    OVERLAPPING = "overlapping"
    """Thousands of entries that share the bytes of one member."""
    MANY_MEMBERS = "many_members"
    """The right member among 20,000 empty ones."""
    BZIP2 = "bzip2"
    LZMA = "lzma"
    """The right member, packed by a method that the archive never uses; its data are damaged."""
    LONG_LINE = "long_line"
    """A line of a gigabyte."""
    BLANK_CHECKSUM = "blank_checksum"
    """A right sum, then 20 kB of blanks and returns."""
    ENDLESS_CHECKSUM = "endless_checksum"
    """A right sum and name, then newlines without an end."""
    ENDLESS_FILE = "endless_file"
    """A file that does not end and announces no length."""
    WRONG_SIZE = "wrong_size"
    """HEAD announces the thousandth part of what GET sends."""


HOSTILE_DEFECTS = tuple(ArchiveDefect)[tuple(ArchiveDefect).index(ArchiveDefect.ZIP_BOMB) :]
"""Those that no archive has by mistake."""


def spoiled_rows(
    rows: pl.DataFrame, defects: Collection[ArchiveDefect], grid: Grid, row_before: pl.DataFrame
) -> pl.DataFrame:
    """The day's rows (SCHEMA) with those of the defects that concern rows.

    ``row_before`` holds the row before the day's first one, or none.
    """
    for defect in ArchiveDefect:
        if defect not in defects or rows.is_empty():
            continue
        match defect:
            case ArchiveDefect.TRUNCATED_DAY:
                rows = rows.head(max(1, rows.height * 2 // 5))
            case ArchiveDefect.HOLES:
                rows = _with_holes(rows)
            case ArchiveDefect.ZERO_QUANTITIES:
                rows = rows.with_columns(q=pl.when(_one_in_fifty(rows)).then(0.0).otherwise("q"))
            case ArchiveDefect.CHANGED_VALUES:
                dearer = _one_in_fifty(rows) & (pl.col("f") >= 0)
                rows = rows.with_columns(p=pl.when(dearer).then(_a_tick_up(grid)).otherwise("p"))
            case ArchiveDefect.DOUBLED_ROWS:
                start = rows.height // 3
                stop = start + 1 + rows.height // _HOLE_SHARE
                rows = pl.concat([rows.head(stop), rows.slice(start)])
            case ArchiveDefect.INTERLEAVED_RUNS:
                rows = _interleaved(rows)
            case ArchiveDefect.REUSED_ID:
                rows = pl.concat([_another_trade(rows.head(1), row_before, grid), rows])
            case _:
                pass
    return rows


def _one_in_fifty(rows: pl.DataFrame) -> pl.Expr:
    """One row in so many, the middle one among them: also a day of few rows has one."""
    return pl.int_range(pl.len()) % _EVERY_NTH_ROW == rows.height // 2 % _EVERY_NTH_ROW


def _a_tick_up(grid: Grid) -> pl.Expr:
    return pl.col("p") + float(grid.tick)


def _with_holes(rows: pl.DataFrame) -> pl.DataFrame:
    """Without two runs of rows, neither of which touches an end of the day."""
    if rows.height < 4:  # noqa: PLR2004 - two ends and two holes
        return rows
    length = 1 + rows.height // _HOLE_SHARE
    number = pl.int_range(pl.len())
    starts = (rows.height // 4, rows.height // 2)
    in_hole = [number.is_between(start, start + length, closed="left") for start in starts]
    return rows.filter(~pl.any_horizontal(in_hole))


def _interleaved(rows: pl.DataFrame) -> pl.DataFrame:
    half = (rows.height + 1) // 2
    number = pl.int_range(pl.len())
    return rows.sort(pl.when(number < half).then(2 * number).otherwise(2 * (number - half) + 1))


def _another_trade(first_row: pl.DataFrame, row_before: pl.DataFrame, grid: Grid) -> pl.DataFrame:
    """At the time of the day's first row, a tick dearer than the trade before the day, and with its id."""
    return row_before.with_columns(_a_tick_up(grid), T=pl.lit(first_row["T"].item()))
