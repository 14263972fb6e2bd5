"""``backfilld tail``: an instrument's trades on stdout, one on a line, until Ctrl-C."""

import json
import os
import select
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial

import polars as pl
import trio
from trio_util import move_on_when

from backfilld.core.frame import SCHEMA
from backfilld.core.model import Instrument
from backfilld.services.following import follow
from backfilld.settings import Settings
from backfilld.supervisor import cause_of
from backfilld.surfaces.table import terminal_width

WITH_DAY = 80
"""Columns of a terminal that has room for the day."""


async def print_trades(
    settings: Settings, instrument: Instrument, from_id: int | None, start: str | None, *, as_json: bool
) -> None:
    """Print trades as they come, until SIGINT or SIGTERM. Raises FollowEnded, which says where it stopped.

    The signals are waited for: a KeyboardInterrupt could be raised in any task of the stream's pipeline, which would
    take it for a crash, and start again.
    """
    lines = _json_lines if as_json else _plain_lines

    async def print_all() -> None:
        async with aclosing(follow(instrument, from_id=from_id, start=start, settings=settings)) as frames:
            async for frame in frames:
                await _write(sys.stdout.fileno(), lines(frame))

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with move_on_when(partial(anext, signals)):
                await print_all()
        except BaseExceptionGroup as group:
            if group.subgroup(BrokenPipeError):
                raise BrokenPipeError from None
            raise cause_of(group) from None


async def _write(descriptor: int, lines: Iterable[str]) -> None:
    """Write whole lines; a reader that takes nothing is waited for, so that a signal still ends the command.

    A pipe that is writable takes ``PIPE_BUF`` bytes at once (poll(2)). The descriptor stays blocking: other programs
    may write to the same terminal.
    """
    for piece in _pieces(lines):
        # A file and /dev/null cannot be waited for; they never make anyone wait.
        with suppress(PermissionError):
            await trio.lowlevel.wait_writable(descriptor)
        os.write(descriptor, piece)


def _pieces(lines: Iterable[str]) -> Iterator[bytes]:
    """Lines together, as many as fit ``PIPE_BUF`` bytes."""
    piece = b""
    for line in map(str.encode, lines):
        if len(piece) + len(line) > select.PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    yield piece


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
