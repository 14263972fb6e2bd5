"""``backfilld export``: stored days as bars or trades, to a file or, as CSV, to stdout."""

import os
import sys
from collections.abc import Iterator
from datetime import date
from io import BufferedIOBase
from pathlib import Path
from typing import cast

import polars as pl

from backfilld.core.day.start import ONE_DAY
from backfilld.core.model import Instrument
from backfilld.errors import BackfillIncomplete, SettingsError, StoreError
from backfilld.services.export import Format, exported, write_pieces
from backfilld.settings import Settings
from backfilld.surfaces.words import counted, fill_command, say


def export_days(
    settings: Settings, instrument: Instrument, first: date, last: date, every: str | None, form: str, out: Path | None
) -> None:
    """Write the days from the first to the last. A file appears whole or not at all. Raises SettingsError,
    BackfillIncomplete, StoreError."""
    try:
        _write(exported(settings, instrument, first, last + ONE_DAY, every), instrument, every, form, out)
    except BackfillIncomplete as error:
        raise BackfillIncomplete(f"{error}; {fill_command(settings, instrument, first, last)}") from error


def _write(
    pieces: Iterator[pl.DataFrame], instrument: Instrument, every: str | None, form: str, out: Path | None
) -> None:
    if out is None:
        if form != "csv":
            raise SettingsError(f"--format {form} needs --out FILE: only csv goes to stdout")
        write_pieces(pieces, "csv", cast("BufferedIOBase", sys.stdout.buffer))
        return
    if not out.name:
        raise SettingsError("--out is empty: name a file")
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            rows = write_pieces(pieces, cast("Format", form), file)
        temporary.replace(out)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    say(f"{out}: {counted(rows, 'bar' if every else 'trade')} of {instrument}")
