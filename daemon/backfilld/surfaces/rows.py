"""The lines that a terminal shows while a daemon runs: one row per instrument, and below them the request weight.

Owns the layout. A pure function of rows and a width: columns drop where they do not fit, and nothing is ever cut. A
piece of a line is its text and the name of its style.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["starting", "fetching", "complete", "live", "failing"]
Piece = tuple[str, str]
Line = tuple[Piece, ...]

GAP = "  "
INDENT = "    "
LONGEST_BESIDE = 24
"""First words up to this many characters have a place beside the figures; longer ones may have to stand below."""
_MINUTE_S, _HOUR_S = 60, 3600


@dataclass(frozen=True, slots=True)
class Row:
    """An instrument: ``done`` of ``wanted`` trades came, at ``rate`` per second. ``words`` say what it waits for or how
    it stands, the most important first."""

    instrument: str
    state: State
    done: int = 0
    wanted: int = 0
    rate: float = 0.0
    words: tuple[str, ...] = ()

    @property
    def left_s(self) -> float | None:
        """Seconds until all trades are here, at this rate."""
        return (self.wanted - self.done) / self.rate if self.rate > 0 else None


@dataclass(frozen=True, slots=True)
class _Columns:
    bar: int
    counts: bool = False
    percent: bool = False
    rate: bool = False
    left: bool = False


_LEVELS = (
    _Columns(30, counts=True, rate=True, left=True),
    _Columns(16, counts=True, rate=True, left=True),
    _Columns(16, counts=True, left=True),
    _Columns(10, counts=True, left=True),
    _Columns(10, percent=True, left=True),
    _Columns(0, percent=True, left=True),
    _Columns(0, percent=True),
)
"""Which columns there are, the richest first."""

_STYLES = {"starting": "dim", "fetching": "cyan", "complete": "green", "live": "green", "failing": "yellow"}


def row_lines(rows: Sequence[Row], width: int) -> list[Line]:
    """The lines of the rows, none longer than ``width``. Words that do not fit beside the figures stand below."""
    name_width = max((len(row.instrument) for row in rows), default=0)
    counting = [row for row in rows if row.wanted > row.done]
    columns = next((each for each in _LEVELS if _fits(counting, each, name_width, width)), _LEVELS[-1])
    return [line for row in rows for line in _lines(row, columns, counting, name_width, width)]


def _fits(rows: Sequence[Row], columns: _Columns, name_width: int, width: int) -> bool:
    """Whether the figures and the first words of every row fit."""
    words = max((min(len(row.words[0]), LONGEST_BESIDE) + len(GAP) for row in rows if row.words), default=0)
    return name_width + _figures_width(rows, columns) + words <= width


def _figures_width(rows: Sequence[Row], columns: _Columns) -> int:
    return max((sum(len(GAP) + len(text) for text, _ in _figures(row, columns, rows)) for row in rows), default=0)


def _figures(row: Row, columns: _Columns, rows: Sequence[Row]) -> Iterator[Piece]:
    """The cells of a row, each as wide as the widest of its column."""
    if columns.bar:
        yield _bar(row, columns.bar), _STYLES[row.state]
    for is_shown, text_of, style in (
        (columns.counts, _counts, ""),
        (columns.percent, _percent, ""),
        (columns.rate, _rate, "dim"),
        (columns.left, _left, ""),
    ):
        widest = max((len(text_of(each)) for each in rows), default=0)
        if is_shown and widest:
            yield text_of(row).rjust(widest), style


def _bar(row: Row, width: int) -> str:
    filled = min(width, int(width * row.done / row.wanted)) if row.wanted else 0
    return "━" * filled + "╌" * (width - filled)


def _counts(row: Row) -> str:
    return f"{row.done:,} of {row.wanted:,}"


def _percent(row: Row) -> str:
    return f"{int(100 * row.done / row.wanted)} %" if row.wanted else ""


def _rate(row: Row) -> str:
    return f"{row.rate:,.0f}/s" if row.rate else ""


def _left(row: Row) -> str:
    return "" if row.left_s is None else f"{duration(row.left_s)} left"


def _lines(row: Row, columns: _Columns, counting: Sequence[Row], name_width: int, width: int) -> Iterator[Line]:
    line: list[Piece] = [(row.instrument.ljust(name_width), "bold")]
    if row.wanted > row.done:
        line += [piece for cell in _figures(row, columns, counting) for piece in ((GAP, ""), cell)]
    rest = width - sum(len(text) for text, _ in line) - len(GAP)
    taken = _taken(row.words, rest)
    if taken:
        line += [(GAP, ""), (taken, _STYLES[row.state])]
    yield tuple(line)
    if row.words and not taken:
        yield from (((INDENT, ""), (part, _STYLES[row.state])) for part in _wrapped(row.words, width - len(INDENT)))


def _taken(words: Sequence[str], width: int) -> str:
    """As many of the words as fit."""
    taken = ""
    for each in words:
        longer = f"{taken}, {each}" if taken else each
        if len(longer) > width:
            break
        taken = longer
    return taken


def _wrapped(parts: Sequence[str], width: int) -> Iterator[str]:
    """All of the parts, as many on a line as fit; a part that is longer than a line is broken at its words."""
    import textwrap  # noqa: PLC0415 - seldom needed

    yield from textwrap.wrap(", ".join(parts), max(width, 1))


def part_lines(parts: Sequence[str], width: int) -> list[Line]:
    """Parts of a report, as many on a line as fit."""
    lines: list[str] = []
    for part in parts:
        joined = f"{lines[-1]}{GAP}{part}" if lines else part
        if lines and len(joined) <= width:
            lines[-1] = joined
        else:
            lines += _wrapped([part], width)
    return [((line, "dim"),) for line in lines]


def duration(seconds: float) -> str:
    """``41 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:  # noqa: PLR2004 - up to here seconds are easier to read than minutes
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / _MINUTE_S:.0f} min" if seconds < 2 * _HOUR_S else f"{seconds / _HOUR_S:.1f} h"
