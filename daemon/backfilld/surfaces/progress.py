"""What a person sees on a terminal: a progress bar while it runs, a summary at the end. Owns rich."""

from collections.abc import Sequence
from typing import Any

import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from backfilld.core.backfill.outcome import Outcome
from backfilld.core.markets import RULES
from backfilld.supervisor import Pipeline

REFRESH_S = 0.1


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:>9,.0f} trades/s", style="cyan")


async def show_progress(pipeline: Pipeline) -> None:
    """Draw a bar of trades done of those known to be wanted, with speed, used weight and time left, until cancelled."""
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:>11,.0f} of {task.fields[wanted]}"),
        _Rate(),
        TextColumn("{task.fields[weight]}", style="magenta"),
        TextColumn("{task.fields[archive]}", style="blue"),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, transient=True, refresh_per_second=1 / REFRESH_S) as progress:
        task = progress.add_task("", total=None, wanted="…", weight="", archive="")
        while True:
            statistics = pipeline.statistics.value
            known = statistics.wanted > 0
            progress.update(
                task,
                completed=statistics.fetched,
                total=statistics.wanted if known else None,
                wanted=f"{statistics.wanted:,}" if known else "…",
                weight=_weight(pipeline),
                archive=f"{statistics.archive_days:,} days from the archive" if statistics.archive_days else "",
            )
            await trio.sleep(REFRESH_S)


def _weight(pipeline: Pipeline) -> str:
    parts = []
    for market, budget in pipeline.governor.value.items():
        text = f"{market} weight {budget.used}/{budget.allowed} per {budget.interval}"
        if budget.others:
            text += f", others {budget.others}"
        if budget.paused_ms:
            text += f", {budget.reason} for {budget.paused_ms / 1000:.0f} s"
        parts.append(text)
    return "  ".join(parts)


def print_summary(outcomes: Sequence[Outcome], console: Console | None = None) -> None:
    """Print a table with a column an instrument."""
    table = Table(title="BackfillPlan", title_style="bold", title_justify="left")
    table.add_column("")
    for outcome in outcomes:
        colour = "green" if outcome.complete else "red"
        table.add_column(f"[{colour}]{outcome.instrument}", justify="right")
    for name, cells in _rows(outcomes):
        table.add_row(name, *cells)
    (console or Console()).print(table)


def _rows(outcomes: Sequence[Outcome]) -> list[tuple[str, list[str]]]:
    def each(form: str, figure: str) -> list[str]:
        values = [getattr(o, figure) for o in outcomes]
        return ["-" if value is None else format(value, form) for value in values]

    def of_context(form: str, figure: str) -> list[str]:
        values: list[Any] = [o.context and getattr(o.context, figure) for o in outcomes]
        return ["-" if value is None else format(value, form) for value in values]

    return [
        ("complete", ["yes" if o.complete else "NO" for o in outcomes]),
        ("trades", each(",", "trades")),
        ("downloaded", each(",", "downloaded")),
        ("cache hit ratio", each(".1%", "hit_ratio")),
        ("seconds", each(".2f", "seconds")),
        ("requests", each(",", "requests")),
        ("weight", each(",", "weight")),
        ("VWAP", of_context(",.8g", "vwap")),
        ("POC", of_context(",.10g", "poc")),
        ("range", of_context(",.8g", "price_range")),
        ("cumulative delta", of_context(",.8g", "delta")),
        ("quantities in", [RULES[o.instrument.market].quantities for o in outcomes]),
    ]
