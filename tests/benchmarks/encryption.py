"""What encryption costs: the CPU time of every way to write and to read a day, and its size, against the same plain.

Both in turn in one process; CPU time is that of all threads, waiting for the disk not counted.
"""

import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl

import backfilld
from backfilld import Settings
from backfilld.core.day.addition import Addition
from backfilld.core.model import Instrument, day_of
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import medians_cpu_ms
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tapes import tape_of_today
from tests.store.keyrings import OLD, encrypting

TITLE = "Encryption"
BTC = Instrument.parse("spot:BTCUSDT")
MOST_WRITE, MOST_READ, MOST_SIZE = 1.10, 1.15, 1.01
PLAIN = "the same, plain"
CHECKPOINTS = 20
"""So many saves go to the journal before the file is rewritten."""


def measure(sizes: Sizes) -> list[Figure]:
    """For the largest number of trades."""
    rows = sizes.cached_rows[-1]
    tape = tape_of_today(rows + CHECKPOINTS * sizes.new_rows // 10)
    stored, tail = tape[:rows], tape[rows:]
    with tempfile.TemporaryDirectory() as directory:
        both = [_Cache(Path(directory) / name, encoding) for name, encoding in ENCODINGS.items()]
        return _measured(both, stored, tail, sizes.rounds)


ENCODINGS = {"encrypted": encrypting(OLD), "plain": Encoding()}


class _Cache:
    """A cache directory with one day, and what is done with it."""

    def __init__(self, directory: Path, encoding: Encoding) -> None:
        self.directory = directory
        self.encoding = encoding
        self.manager = BackfillCacheManager(instrument_directory(directory, BTC), BTC, encoding)
        key_file = directory.with_suffix(".keys")
        key_file.touch(0o600)
        key_file.write_text(f"{OLD.id} {_base64(OLD.secret)}\n")
        self.settings = Settings(cache_dir=directory, key_file=key_file)

    def write(self, day: date, stored: pl.DataFrame) -> None:
        """A day file from nothing."""
        self.manager.get_cache_path(day).unlink(missing_ok=True)
        self.manager.append(day, stored)

    def checkpoints(self, day: date, stored: pl.DataFrame, tail: pl.DataFrame) -> None:
        """Saves as a daemon does them, and the rewrite of the file after them."""
        self.write(day, stored)
        saves, step = WaitingDays(300), tail.height // CHECKPOINTS
        for start in range(0, tail.height, step):
            saves.append(self.manager, Addition(BTC, day, tail[start : start + step]), 0.0)
        saves.rewrite(self.manager, Addition(BTC, day, tail[:0]))

    def scan(self, day: date) -> pl.DataFrame:
        """All rows by the library."""
        lazy = backfilld.scan(BTC, day, day + timedelta(days=1), settings=self.settings, incomplete="warn")
        return lazy.collect()


def _base64(secret: bytes) -> str:
    import base64  # noqa: PLC0415

    return base64.b64encode(secret).decode()


def _measured(both: list[_Cache], stored: pl.DataFrame, tail: pl.DataFrame, rounds: int) -> list[Figure]:
    import warnings  # noqa: PLC0415

    warnings.simplefilter("ignore")
    day, name = day_of(stored["T"][0]), f"{stored.height:,} trades"

    def figure(what: str, most: float, deed: Callable[[_Cache], object]) -> Figure:
        ours, theirs = medians_cpu_ms(rounds, *[lambda each=each: deed(each) for each in both])
        return Figure(f"{name}: {what}", ours, "ms CPU", PLAIN, theirs, most_ratio=most)

    figures = [
        figure("write a day file", MOST_WRITE, lambda each: each.write(day, stored)),
        figure(f"write it, {CHECKPOINTS} checkpoints, write it again", MOST_WRITE,
               lambda each: each.checkpoints(day, stored, tail)),
    ]  # fmt: skip
    figures += [
        figure("check it at a start", MOST_READ, lambda each: each.manager.record(day)),
        figure("load it, checked", MOST_READ, lambda each: each.manager.load_cached_trades(day)),
        figure("go through its row groups", MOST_READ, lambda each: list(each.manager.row_groups(day))),
        figure("scan all of it", MOST_READ, lambda each: each.scan(day)),
    ]
    ours, theirs = (each.manager.get_cache_path(day).stat().st_size for each in both)
    return [*figures, Figure(f"{name}: size", ours, "B", PLAIN, theirs, most_ratio=MOST_SIZE)]
