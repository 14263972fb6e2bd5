"""``backfilld chart``: one stored day as a picture. Owns the default file name and the sentence that names the file."""

import warnings
from datetime import date
from pathlib import Path

from backfilld.core.day.start import ONE_DAY
from backfilld.core.model import Instrument
from backfilld.errors import SettingsError, StoreError
from backfilld.scanning import IncompleteSpan, scan
from backfilld.services.chart import check_format, day_chart, write_chart
from backfilld.settings import Settings
from backfilld.surfaces.logs import complain
from backfilld.surfaces.words import fill_command, say


def draw(settings: Settings, instrument: Instrument, day: date, out: Path | None) -> None:
    """Write the chart of what is stored of a day to ``out``. Missing trades leave gaps in it. Raises SettingsError,
    StoreError."""
    path = out or Path(f"{instrument.market}-{instrument.symbol}-{day}.html")
    check_format(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", IncompleteSpan)
        lazy = scan(instrument, day, day + ONE_DAY, settings=settings, incomplete="warn")
    trades = lazy.collect()
    if trades.is_empty():
        command = fill_command(settings, instrument, day, day)
        raise SettingsError(f"{instrument} {day}: there is no trade to draw; {command}")
    for each in caught:
        complain(str(each.message))
    try:
        write_chart(day_chart(trades, f"{instrument} {day}"), path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    say(f"{path.absolute()}: {instrument} {day}")
