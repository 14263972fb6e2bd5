"""Small files of the state directory: nothing is waited for, and nothing larger than ours is read."""

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from backfilld.core.model import Instrument
from backfilld.store.key_wear import key_uses
from backfilld.store.known_days import KnownDays
from backfilld.store.layout import instrument_directory
from backfilld.store.listing_cache import load_listing
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.push_notes import load_notes
from backfilld.store.shown_state import load_shown

BTC = Instrument.parse("spot:BTCUSDT")
DAY = date(2025, 11, 7)


def known(cache_dir: Path) -> dict[date, Any]:
    """What the notes of sealed days say."""
    manager = BackfillCacheManager(instrument_directory(cache_dir, BTC), BTC)
    return dict(KnownDays(cache_dir / ".backfilld", manager).certificates([DAY]))


READERS: dict[str, Callable[[Path], object]] = {
    "known/spot-BTCUSDT.known": known,
    "pushed/spot-BTCUSDT.json": lambda cache_dir: load_notes(cache_dir / ".backfilld", "s3://bucket", BTC),
    "listing/spot-BTCUSDT.json": lambda cache_dir: load_listing(cache_dir / ".backfilld", "http://a", BTC, DAY, DAY),
    "key_wear.json": lambda cache_dir: key_uses(cache_dir / ".backfilld" / "key_wear.json"),
    "shown/market=spot/symbol=BTCUSDT.json": lambda cache_dir: load_shown(cache_dir, BTC),
}


def spoilt(path: Path, kind: str) -> None:
    """Put something there that is not a small file."""
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to("/dev/zero")
        case "deep":
            path.write_bytes(b"[" * 200_000)
        case "binary":
            path.write_bytes(b'{"\xff\xfe": 1}')
        case _:
            path.touch()
            os.truncate(path, 1 << 40)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["sparse", "pipe", "directory", "link", "deep", "binary"])
def test_what_is_no_small_file_says_nothing(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / ".backfilld" / name
    path.parent.mkdir(parents=True)
    spoilt(path, kind)
    assert not READERS[name](tmp_path)
