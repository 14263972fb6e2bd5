"""What saving a live day costs, by the clock of the benchmark and not by waiting.

A poll every 30 s, against writing the day anew at each of them. The reference is sampled: every sixtieth poll writes
the day anew, and counts sixty times.

Besides, one top-up of 300 trades between two rewrites, by how much is stored.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from backfilld.core.day.addition import Addition
from backfilld.core.day.start import DayStart
from backfilld.core.model import day_of
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.benchmarks.exchange import INSTRUMENT
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import median_of
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tapes import tape_of_today

TITLE = "A live day"
POLLS = 2_880
SAMPLED = 60
TOP_UP_ROWS = 300
SAVE_S = 300.0
MOST_OF_TODAYS = 0.08
MOST_GROWTH = 1.3


@dataclass
class _Spent:
    """CPU of this process in seconds, and bytes handed to the kernel."""

    cpu_s: float = 0.0
    bytes: float = 0.0

    @contextmanager
    def counted(self, times: int = 1) -> Iterator[None]:
        """Add what the block takes, so many times."""
        cpu_s, written = time.process_time(), _written()
        yield
        self.cpu_s += times * (time.process_time() - cpu_s)
        self.bytes += times * (_written() - written)


def measure(sizes: Sizes) -> list[Figure]:
    """The day at defaults, and top-ups by what is stored."""
    rows = sizes.live_day_rows
    ours, anew = _day(rows)
    against = "the day written anew at each poll"
    return [
        Figure(f"{rows:,} trades by {POLLS:,} polls: CPU", ours.cpu_s, "s", against, anew.cpu_s, None, MOST_OF_TODAYS),
        Figure("the same, written", ours.bytes / 1e6, "MB", against, anew.bytes / 1e6, None, MOST_OF_TODAYS),
        *_top_ups(sizes),
    ]


def _day(rows: int) -> tuple[_Spent, _Spent]:
    tape, ours, anew = tape_of_today(rows), _Spent(), _Spent()
    edges = [rows * number // POLLS for number in range(POLLS + 1)]
    with _saves(tape) as save, _store() as reference:
        for number in range(POLLS):
            piece = tape[edges[number] : edges[number + 1]]
            with ours.counted():
                save(piece, 30.0 * number)
            if number % SAMPLED == SAMPLED - 1:
                _write(reference, tape[edges[number + 1 - SAMPLED] : edges[number]], tape)
                with anew.counted(SAMPLED):
                    _write(reference, piece, tape)
    return ours, anew


def _top_ups(sizes: Sizes) -> Iterator[Figure]:
    """Between two rewrites, the first left out: it makes the journal."""
    few, *more = (_top_up(rows, sizes.rounds) for rows in sizes.pipeline_rows)
    for rows, spent in zip(sizes.pipeline_rows[1:], more, strict=True):
        name, against = f"top-up of {TOP_UP_ROWS} into {rows:,}", f"into {sizes.pipeline_rows[0]:,}"
        yield Figure(f"{name}: CPU", spent.cpu_s * 1e3, "ms", against, few.cpu_s * 1e3, most_ratio=MOST_GROWTH)
        yield Figure(f"{name}: written", spent.bytes, "bytes", against, few.bytes, most_ratio=MOST_GROWTH)


def _top_up(rows: int, rounds: int) -> _Spent:
    tape, found = tape_of_today(rows + TOP_UP_ROWS * (rounds + 1)), []
    with _saves(tape) as save:
        save(tape[:rows], 0.0)
        for start in range(rows, tape.height, TOP_UP_ROWS):
            spent = _Spent()
            with spent.counted():
                save(tape[start : start + TOP_UP_ROWS], 1.0)
            found.append(spent)
    costs = found[1:]
    return _Spent(median_of(costs, lambda each: each.cpu_s), median_of(costs, lambda each: each.bytes))


@contextmanager
def _saves(tape: pl.DataFrame) -> Iterator[Callable[[pl.DataFrame, float], None]]:
    """A daemon's saves, with the rewrites that are due."""
    days, day = WaitingDays(SAVE_S), day_of(tape["T"][0])
    starts = frozenset({DayStart(day, tape["a"][0])})
    with _store() as manager:

        def save(trades: pl.DataFrame, now_s: float) -> None:
            days.append(manager, Addition(INSTRUMENT, day, trades, starts), now_s)
            if any(at <= now_s for at in days.due_at().values()):
                days.rewrite(manager, Addition(INSTRUMENT, day, trades[:0], starts))

        yield save


@contextmanager
def _store() -> Iterator[BackfillCacheManager]:
    with tempfile.TemporaryDirectory(prefix="backfilld-bench-") as directory:
        yield BackfillCacheManager(instrument_directory(Path(directory), INSTRUMENT), INSTRUMENT)


def _write(manager: BackfillCacheManager, trades: pl.DataFrame, tape: pl.DataFrame) -> None:
    day = day_of(tape["T"][0])
    manager.append(day, trades, {DayStart(day, tape["a"][0])})


def _written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(fields["wchar"])
