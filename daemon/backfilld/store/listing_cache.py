"""What the archive's listing said of an instrument, kept for some hours: one JSON file each in the state directory."""

import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import msgspec

from backfilld.core.model import Instrument
from backfilld.store.state_file import peek_state, save_state

FRESH_S = 6 * 3600
"""How long a listing stays valid: the archive publishes a day once."""


class _Listing(msgspec.Struct, frozen=True):
    url: str
    asked_s: float
    first: date
    last: date
    days: dict[date, int]


def load_listing(state_dir: Path, url: str, instrument: Instrument, first: date, last: date) -> dict[date, int] | None:
    """The bytes of each published day in the span; None if that is not known, or not any more."""
    found = peek_state(_path(state_dir, instrument), _Listing)
    if found is None:
        return None
    is_fresh = 0 <= time.time() - found.asked_s < FRESH_S
    if found.url != url or not is_fresh or found.first > first or found.last < last:
        return None
    return {day: size for day, size in found.days.items() if first <= day <= last}


def save_listing(
    state_dir: Path, url: str, instrument: Instrument, first: date, last: date, days: Mapping[date, int]
) -> None:
    """Keep a listing. Raises StoreError."""
    save_state(_path(state_dir, instrument), _Listing(url, time.time(), first, last, dict(days)))


def _path(state_dir: Path, instrument: Instrument) -> Path:
    return state_dir / "listing" / f"{instrument.market}-{instrument.symbol}.json"
