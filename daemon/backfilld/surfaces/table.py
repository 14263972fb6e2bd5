"""Plain text tables that fit the terminal: columns drop by rank, and no cell is ever cut.

Owns the layout alone. Cells are plain text; nothing in them is markup.
"""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = "  "
NARROWEST_WRAP = 20
"""A column that wraps keeps at least this many characters; below that, lines are longer than the terminal."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: numbers stand ``right``. The column of the highest ``rank`` is the first to go where all of them do not
    fit; rank 0 stays. The last column may be one that ``wraps``."""

    name: str
    right: bool = False
    rank: int = 0
    wraps: bool = False


def terminal_width() -> int | None:
    """The columns of the terminal on stdout; None for a pipe or a file, where nothing has to fit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table_lines(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """The lines of the table, its header first; none for no rows."""
    if not rows:
        return
    kept = _fitting(columns, rows, width)
    widths = [_width(columns, rows, at) for at in kept]
    if width is not None and columns[kept[-1]].wraps:
        widths[-1] = min(widths[-1], max(NARROWEST_WRAP, width - sum(widths[:-1]) - len(GAP) * (len(kept) - 1)))
    yield _line([columns[at].name for at in kept], [columns[at] for at in kept], widths)
    for row in rows:
        yield from _lines([row[at] for at in kept], [columns[at] for at in kept], widths)


def _fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """The places of the columns that fit."""
    kept = list(range(len(columns)))
    while width is not None and _needed(columns, rows, kept) > width:
        worst = max(kept, key=lambda at: columns[at].rank)
        if columns[worst].rank == 0:
            break
        kept.remove(worst)
    return kept


def _needed(columns: Sequence[Column], rows: Sequence[Sequence[str]], kept: Sequence[int]) -> int:
    widths = [NARROWEST_WRAP if columns[at].wraps else _width(columns, rows, at) for at in kept]
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _width(columns: Sequence[Column], rows: Sequence[Sequence[str]], at: int) -> int:
    return max(len(columns[at].name), *(len(row[at]) for row in rows))


def _lines(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> Iterator[str]:
    """A row; the last cell goes on in further lines where it has to wrap."""
    last = textwrap.wrap(cells[-1], widths[-1]) or [""] if columns[-1].wraps else [cells[-1]]
    yield _line([*cells[:-1], last[0]], columns, widths)
    for more in last[1:]:
        yield _line([*("" for _ in cells[:-1]), more], columns, widths)


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    padded = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    )
    return GAP.join(padded).rstrip()
