"""Which days are known to be in the bucket: one small JSON file per instrument in the state directory.

It saves asking the bucket, and is not the truth: a note that is lost is made again by looking into the bucket. Notes of
another bucket do not count.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import msgspec

from backfilld.core.model import Instrument
from backfilld.core.replication import PushNote
from backfilld.store.state_file import peek_state, save_state

FOLDER = "pushed"

_MOST_BYTES = 16 << 20
"""Of the file: a day takes about 100 bytes."""


class _Notes(msgspec.Struct, frozen=True):
    url: str
    days: dict[date, PushNote]


def load_notes(state_dir: Path, url: str, instrument: Instrument) -> dict[date, PushNote]:
    """The notes of an instrument's days in the bucket ``url``; none where there are none that can be read."""
    found = peek_state(_path(state_dir, instrument), _Notes, _MOST_BYTES)
    return found.days if found is not None and found.url == url else {}


def save_notes(state_dir: Path, url: str, instrument: Instrument, notes: Mapping[date, PushNote]) -> None:
    """Replace the notes of an instrument. Raises StoreError."""
    save_state(_path(state_dir, instrument), _Notes(url, dict(sorted(notes.items()))))


def _path(state_dir: Path, instrument: Instrument) -> Path:
    return state_dir / FOLDER / f"{instrument.market}-{instrument.symbol}.json"
