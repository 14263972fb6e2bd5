"""``backfilld tail``: an instrument's trades on stdout, one on a line, until Ctrl-C."""

import json
import sys
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime

import polars as pl

from backfilld.core.frame import SCHEMA
from backfilld.core.model import Instrument
from backfilld.services.following import follow
from backfilld.settings import Settings
from backfilld.surfaces.table import terminal_width

WITH_DAY = 80
"""Columns of a terminal that has room for the day."""


async def print_trades(
    settings: Settings, instrument: Instrument, from_id: int | None, start: str | None, *, as_json: bool
) -> None:
    """Print trades as they come. Raises FollowEnded, which says where it stopped."""
    lines = _json_lines if as_json else _plain_lines
    async with aclosing(follow(instrument, from_id=from_id, start=start, settings=settings)) as frames:
        async for frame in frames:
            sys.stdout.write("".join(lines(frame)))
            sys.stdout.flush()


def _json_lines(trades: pl.DataFrame) -> Iterator[str]:
    for row in trades.select(list(SCHEMA)).iter_rows(named=True):
        yield json.dumps(row) + "\n"


def _plain_lines(trades: pl.DataFrame) -> Iterator[str]:
    width = terminal_width()
    form = "%Y-%m-%d %H:%M:%S.%f" if width is None or width >= WITH_DAY else "%H:%M:%S.%f"
    for row in trades.iter_rows(named=True):
        when = datetime.fromtimestamp(row["T"] / 1000, tz=UTC).strftime(form)[:-3]
        side = "sell" if row["m"] else "buy"
        yield f"{when}  {row['a']}  {side:4}  {row['q']:.12g} @ {row['p']:.12g}\n"
