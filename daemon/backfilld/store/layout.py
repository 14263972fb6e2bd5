"""Where things lie in a cache directory. Owns the names of directories and files, and nothing of what is in them."""

import os
import re
import stat
from datetime import date
from functools import lru_cache
from pathlib import Path

from backfilld.core.model import EARLIEST_MS, LATEST_MS, Instrument, day_of
from backfilld.errors import SettingsError
from backfilld.store.atomic import translated

STATE_DIRECTORY = ".backfilld"
"""Holds the instance lock and what the governor remembers."""

Stamp = tuple[int, int, int]
"""Inode, size and time of change in ns: another file at a path has another stamp."""

FullStamp = tuple[int, int, int, int]
"""Inode, size, and times of change of content and of file, in ns. Nobody can set the last one."""

_DAY_FILE = re.compile(r"backfill_(\d{4}-\d\d-\d\d)\.parquet")
_FIRST_DAY, _LAST_DAY = day_of(EARLIEST_MS), day_of(LATEST_MS)
"""A name with another day is not a day file: what is missing between it and the others would be millions of days."""

_NAMES_KEPT = 8192
"""For how many file names the parsed day is cached: 20 years of days. All instruments share the same names."""

_JOURNAL = re.compile(r"(\d{4}-\d\d-\d\d)\.journal")


def instrument_directory(cache_dir: Path, instrument: Instrument) -> Path:
    """The directory of one instrument, in Hive's form: ``market=spot/symbol=BTCUSDT``."""
    return cache_dir / f"market={instrument.market}" / f"symbol={instrument.symbol}"


def state_directory(cache_dir: Path) -> Path:
    """Where the daemon keeps what is not trades, and where its socket is."""
    return cache_dir / STATE_DIRECTORY


def archive_directory(cache_dir: Path) -> Path:
    """Where published files are kept from their download until their day stands."""
    return cache_dir / STATE_DIRECTORY / "archive"


def journal_directory(directory: Path) -> Path:
    """Where the journals of an instrument's days are: below the state directory of the cache."""
    if instrument_of(directory.absolute()) is None:
        return directory / STATE_DIRECTORY / "journal"
    return directory.parent.parent / STATE_DIRECTORY / "journal" / directory.parent.name / directory.name


def journal_name(day: date) -> str:
    """The journal of one day: ``2025-11-07.journal``."""
    return f"{day.isoformat()}.journal"


def instrument_of(directory: Path) -> Instrument | None:
    """The instrument whose directory this is, or None for a directory that is not in Hive's form."""
    market, symbol = directory.parent.name, directory.name
    if not (market.startswith("market=") and symbol.startswith("symbol=")):
        return None
    try:
        return Instrument.parse(f"{market.removeprefix('market=')}:{symbol.removeprefix('symbol=')}")
    except SettingsError:
        return None


def instruments_in(cache_dir: Path) -> list[Instrument]:
    """The instruments that have a directory, in order. Raises StoreError: what cannot be listed is not empty."""
    with translated(cache_dir, "list"):
        markets = [cache_dir / name for name in names_in(cache_dir) if name.startswith("market=")]
        found = [(market / name, instrument_of(market / name)) for market in markets for name in names_in(market)]
        return sorted(each for path, each in found if each is not None and _is_directory(path))


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        return False


def day_file_name(day: date) -> str:
    """The file of one day: ``backfill_2025-11-07.parquet``."""
    return f"backfill_{day.isoformat()}.parquet"


def days_in(directory: Path) -> list[date]:
    """The days that have a file in an instrument's directory, ascending."""
    # The names sort as their days do, and faster.
    return [day for name in sorted(names_in(directory)) if (day := _day_in(_DAY_FILE, name)) is not None]


def journals_in(directory: Path) -> dict[date, Path]:
    """The journals of days in a journal directory."""
    found = ((_day_in(_JOURNAL, name), directory / name) for name in names_in(directory))
    return {day: path for day, path in found if day is not None}


def names_in(directory: Path) -> list[str]:
    """The names in a directory; none if there is no such directory. Raises OSError for what the disk refuses."""
    try:
        return os.listdir(directory)  # noqa: PTH208 - of years of days the names alone
    except (FileNotFoundError, NotADirectoryError):
        return []


@lru_cache(_NAMES_KEPT)
def _day_in(form: re.Pattern[str], name: str) -> date | None:
    match = form.fullmatch(name)
    try:
        day = date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None
    return day if day is not None and _FIRST_DAY <= day <= _LAST_DAY else None


def stamp_of(path: Path) -> Stamp | None:
    """Which file stands at a path, as far as this can be seen without reading it; None for no file."""
    try:
        found = path.stat(follow_symlinks=False)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def full_stamp(path: Path) -> FullStamp | None:
    """Which regular file stands at a path, and when it was last changed; None for no such file."""
    try:
        found = path.stat(follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
