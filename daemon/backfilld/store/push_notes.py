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
from backfilld.store.atomic import replacing
from backfilld.store.state_file import UNREAD, read_state

FOLDER = "pushed"

_MOST_BYTES = 16 << 20
"""Of the file: a day takes about 100 bytes."""


class _Note(msgspec.Struct, frozen=True, omit_defaults=True):
    digest: str
    conflict: str | None = None


class _Notes(msgspec.Struct, frozen=True):
    url: str
    days: dict[date, _Note]


def load_notes(state_dir: Path, url: str, instrument: Instrument) -> dict[date, PushNote]:
    """The notes of an instrument's days in the bucket ``url``; none where there are none that can be read."""
    try:
        found = msgspec.json.decode(read_state(_path(state_dir, instrument), _MOST_BYTES) or b"", type=_Notes)
    except UNREAD:
        return {}
    if found.url != url:
        return {}
    return {day: PushNote(each.digest, each.conflict) for day, each in found.days.items()}


def save_notes(state_dir: Path, url: str, instrument: Instrument, notes: Mapping[date, PushNote]) -> None:
    """Replace the notes of an instrument. Raises StoreError."""
    days = {day: _Note(note.digest, note.conflict) for day, note in sorted(notes.items())}
    body = msgspec.json.encode(_Notes(url, days))
    with replacing(_path(state_dir, instrument)) as path:
        path.write_bytes(body)


def _path(state_dir: Path, instrument: Instrument) -> Path:
    return state_dir / FOLDER / f"{instrument.market}-{instrument.symbol}.json"
