"""Small words that every surface uses, and lines that fit the terminal."""

import os
import shlex
import shutil
import sys
import textwrap
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backfilld.settings import Settings


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def size(count: int) -> str:
    """Bytes as ``812 B``, ``172 kB``, ``3.5 MB``, ``1.2 GB``."""
    for unit, digits, name in ((1e9, 1, "GB"), (1e6, 1, "MB"), (1e3, 0, "kB")):
        if count >= unit:
            return f"{count / unit:.{digits}f} {name}"
    return f"{count} B"


def fill_command(settings: "Settings", instrument: object, first: date, last: date) -> str:
    """How to fetch days that are not stored, into the cache that was named, as the end of a sentence."""
    wanted = f"--instrument {instrument}"
    if settings.source_of("cache_dir") == "--cache-dir":
        wanted += f" --cache-dir {shlex.quote(str(settings.cache_dir))}"
    if first >= datetime.now(UTC).date():
        return f"backfilld run --once {wanted} fetches today"
    return f"backfilld fill --from {first} --to {last} {wanted} fetches what is missing"


def has_colours() -> bool:
    """Whether stdout is a terminal that may be written to in colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def age(hours: float) -> str:
    """A stretch of time as ``less than a minute``, ``12 min``, ``3.5 h``, ``363 days``."""
    if hours >= 48:  # noqa: PLR2004 - two days
        return f"{hours / 24:,.0f} days"
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else "less than a minute"


def fitted(text: str, *, indent: str = "  ") -> str:
    """The text in lines that fit the terminal, broken between words alone: a path can be copied."""
    width = shutil.get_terminal_size().columns
    if len(text) <= width:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def say(text: str, *, err: bool = False, indent: str = "  ") -> None:
    """Print a line, on stderr if ``err``; on a terminal it goes on below, after ``indent``, where it is too long."""
    stream = sys.stderr if err else sys.stdout
    print(fitted(text, indent=indent) if stream.isatty() else text, file=stream)
