"""What a person sees on a terminal: the rows of all instruments while it runs, a summary at the end. Owns rich."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import rich
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from backfilld.core.backfill.outcome import Outcome
from backfilld.core.markets import RULES
from backfilld.pipeline import Pipeline
from backfilld.surfaces.logs import REPEATS
from backfilld.surfaces.rows import GAP, Line, Row, part_lines, row_lines
from backfilld.surfaces.running_rows import RowMaker, notes_of

REFRESH_S = 0.2
LEAST_HEIGHT = 8
"""Lines of the smallest terminal that is reckoned with."""
_TROUBLED_FIRST = ("failing", "starting", "fetching", "live", "complete")


async def show_progress(pipeline: Pipeline) -> None:
    """Draw the rows of all instruments and the request weight, until cancelled; then nothing of it stays."""
    console, maker = rich.get_console(), RowMaker(REPEATS.out_of_reach_s, REPEATS.without_stream_s)
    with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            seen = pipeline.snapshot()
            lines = screen_lines(maker.rows(seen), notes_of(seen), console.width, console.height)
            live.update(_drawn(lines), refresh=True)
            await trio.sleep(REFRESH_S)


def screen_lines(rows: Sequence[Row], notes: Sequence[str], width: int, height: int) -> list[Line]:
    """The lines of a screen. Where not all rows fit, those that wait or fail come first, and the others are counted."""
    below = part_lines(notes, width)
    room = max(height, LEAST_HEIGHT) - len(below) - 2
    lines = row_lines(rows, width)
    if len(lines) <= room:
        return [*lines, *below]
    urgent = sorted(rows, key=lambda row: _TROUBLED_FIRST.index(row.state))
    shown = next(n for n in range(len(urgent), -1, -1) if len(row_lines(urgent[:n], width)) < room)
    more = f"and {len(urgent) - shown:,} more"
    return [*row_lines(urgent[:shown], width), ((more, "dim"),), *below]


def _drawn(lines: Iterable[Line]) -> Text:
    return Text("\n", no_wrap=True, overflow="crop").join(Text.assemble(*line) for line in lines)


def print_summary(outcomes: Sequence[Outcome], console: Console | None = None) -> None:
    """Print a table with a column per instrument; as many side by side as fit."""
    console = console or rich.get_console()
    left = list(outcomes)
    while left:
        count = next((n for n in range(len(left), 1, -1) if _width(left[:n]) <= console.width), 1)
        console.print(_table(left[:count]), soft_wrap=True, highlight=False)
        left = left[count:]


def _width(outcomes: Sequence[Outcome]) -> int:
    return max(map(len, _lines(outcomes)))


def _table(outcomes: Sequence[Outcome]) -> Text:
    first, *others = _lines(outcomes)
    colour = "green" if all(outcome.complete for outcome in outcomes) else "red"
    return Text("\n").join([Text(first, style=f"bold {colour}"), *map(Text, others)])


def _lines(outcomes: Sequence[Outcome]) -> list[str]:
    cells = [("", [str(o.instrument) for o in outcomes]), *_figures(outcomes)]
    names = max(len(name) for name, _ in cells)
    widths = [max(len(values[at]) for _, values in cells) for at in range(len(outcomes))]
    return [
        GAP.join([name.ljust(names), *(value.rjust(width) for value, width in zip(values, widths, strict=True))])
        for name, values in cells
    ]


def _figures(outcomes: Sequence[Outcome]) -> list[tuple[str, list[str]]]:
    def each(form: str, value_of: Callable[[Outcome], Any]) -> list[str]:
        return ["-" if (value := value_of(o)) is None else format(value, form) for o in outcomes]

    def of_context(form: str, figure: str) -> list[str]:
        return each(form, lambda o: o.context and getattr(o.context, figure))

    return [
        ("complete", ["yes" if o.complete else "NO" for o in outcomes]),
        ("trades", each(",", lambda o: o.trades)),
        ("downloaded", each(",", lambda o: o.downloaded)),
        ("stored before", each(".1%", lambda o: o.hit_ratio if o.trades else None)),
        ("seconds", each(".2f", lambda o: o.seconds)),
        ("requests", each(",", lambda o: o.requests)),
        ("weight", each(",", lambda o: o.weight)),
        ("VWAP", of_context(",.8g", "vwap")),
        ("POC", of_context(",.10g", "poc")),
        ("range", of_context(",.8g", "price_range")),
        ("cumulative delta", of_context(",.8g", "delta")),
        ("quantities in", [RULES[o.instrument.market].quantities for o in outcomes]),
    ]
