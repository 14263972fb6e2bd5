"""Small JSON files of the state directory: read without following links and within a bound, written 0600.

What they say may have been written by anybody: a reader checks every value.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from backfilld.errors import StoreError
from backfilld.store.atomic import replacing, translated
from backfilld.store.regular_file import NotRegular, open_regular

T = TypeVar("T")

MOST_BYTES = 1 << 20
"""The largest state file that is read; ours have a few kB."""

UNUSABLE = (ValueError, RecursionError)
"""What is raised for a state file that this program has not written, by reading or by decoding it."""

UNREAD = (StoreError, *UNUSABLE)
"""The same, or the disk refuses it. Whoever must not forget what is in the file tells the two apart."""


def read_state(path: Path, most_bytes: int = MOST_BYTES) -> bytes | None:
    """The content; None if there is no such file. Raises ValueError for a link, a pipe, a device and a file that is too
    large, and StoreError if the disk refuses."""
    with translated(path, "read"):
        try:
            descriptor = open_regular(path)
        except FileNotFoundError:
            return None
        except NotRegular as error:
            raise ValueError(f"{path} is not a file") from error
        with os.fdopen(descriptor, "rb") as file:
            body = file.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise ValueError(f"{path} is larger than {most_bytes:,} bytes")
    return body


def load_state(path: Path, kind: type[T], most_bytes: int = MOST_BYTES) -> T | None:
    """The value in the file; None if there is no such file, or if it is not what this program writes. Raises StoreError
    if the disk refuses."""
    try:
        return msgspec.json.decode(read_state(path, most_bytes) or b"", type=kind)
    except UNUSABLE:
        return None


def peek_state(path: Path, kind: type[T], most_bytes: int = MOST_BYTES) -> T | None:
    """The same, and None if the disk refuses: for what may be forgotten."""
    with suppress(StoreError):
        return load_state(path, kind, most_bytes)
    return None


def save_state(path: Path, value: object, *, synced: bool = True) -> None:
    """Replace the file by this value. Otherwise as :func:`write_state`."""
    write_state(path, msgspec.json.encode(value), synced=synced)


def write_state(path: Path, body: bytes, *, synced: bool = True) -> None:
    """Replace the file; nobody but its owner may read it. Raises StoreError. ``synced`` as in :func:`replacing`."""
    with replacing(path, synced=synced) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
