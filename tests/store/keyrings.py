"""Keys for tests, and what must be nowhere in a file that they encrypt."""

from pathlib import Path

from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.keys import Key, KeyRing

OLD = Key("2026-q3", bytes(range(32)))
NEW = Key("2026-q4", bytes(range(32, 64)))
STRANGE = Key("2026-q3", bytes(range(64, 96)))
"""Another key under an id that is used already."""


def encrypting(*keys: Key) -> Encoding:
    """Files are written by the first key, and read by all."""
    return Encoding(keys=KeyRing(keys, encrypts=True, origin="/etc/keys"))


def reading(*keys: Key) -> Encoding:
    """Files are written plain."""
    return Encoding(keys=KeyRing(keys, origin="/etc/keys"))


def tree_of(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below a directory: which one it is, when it was written, what is in it."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(directory)): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in files
    }
