"""``backfilld fill --dry-run``: the estimate as a table and a line, or as one JSON document."""

import json
from collections import Counter
from functools import partial

import click
import trio

from backfilld.core.backfill.estimate import ARCHIVE, HELD, NOWHERE, REST, Estimate
from backfilld.core.model import Instrument
from backfilld.core.timespan import TimeSpan
from backfilld.services.estimate import FillEstimate, estimate_fill
from backfilld.settings import Settings
from backfilld.surfaces.logs import configure_logs
from backfilld.surfaces.table import Column, table_lines, terminal_width
from backfilld.surfaces.words import counted, say

COLUMNS = (
    Column("instrument"),
    Column("days", right=True),
    Column("held", right=True, rank=3),
    Column("archive", right=True, rank=2),
    Column("REST", right=True, rank=2),
    Column("nowhere", right=True, rank=4),
    Column("trades by REST", right=True, rank=1),
    Column("requests", right=True),
    Column("weight", right=True, rank=5),
    Column("download", right=True, rank=1),
)


def run_estimate(settings: Settings, window: TimeSpan, *, as_json: bool) -> None:
    """Estimate the fill and print it."""
    # The estimate asks a few questions, whose log belongs to nobody here.
    configure_logs(settings.log_format, "error")
    print_estimate(trio.run(partial(estimate_fill, settings, window)), as_json=as_json)


def print_estimate(estimate: FillEstimate, *, as_json: bool) -> None:
    """Print the estimate as a table, or as one JSON document."""
    if as_json:
        click.echo(json.dumps(_document(estimate), ensure_ascii=False))
        return
    rows = [_row(instrument, each) for instrument, each in estimate.instruments.items()]
    for line in table_lines(COLUMNS, rows, terminal_width()):
        say(line)
    say(f"about {counted(estimate.requests, 'request')}, exchangeInfo included; weight {estimate.weight:,}")
    lasts = f"{estimate.minutes:,.1f} minutes" if estimate.minutes >= 1 else "less than a minute"
    say(f"{lasts} at the budget; {_megabytes(estimate.bytes)} from the archive")


def _row(instrument: Instrument, each: Estimate) -> tuple[str, ...]:
    sources = Counter(each.days.values())
    figures = (len(each.days), sources[HELD], sources[ARCHIVE], sources[REST], sources[NOWHERE])
    costs = (each.trades, each.requests, each.weight)
    return (str(instrument), *(f"{figure:,}" for figure in (*figures, *costs)), _megabytes(each.bytes))


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _document(estimate: FillEstimate) -> dict[str, object]:
    return {
        "requests": estimate.requests,
        "weight": estimate.weight,
        "bytes": estimate.bytes,
        "minutes": round(estimate.minutes, 2),
        "instruments": [
            {
                "instrument": str(instrument),
                "requests": each.requests,
                "weight": each.weight,
                "trades": each.trades,
                "bytes": each.bytes,
                "days": [{"day": day.isoformat(), "source": source} for day, source in each.days.items()],
            }
            for instrument, each in estimate.instruments.items()
        ],
    }
