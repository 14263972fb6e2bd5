"""A file that is being received: hashed as it grows, under a temporary name until it is whole.

Owns what touches the disk. Everything but :meth:`Spool.put` and the headers may block: call it on a thread. Raises
StoreError if the disk refuses.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from backfilld.errors import UnexpectedAnswer
from backfilld.store.atomic import temporary_name, translated

WRITE_BYTES = 1 << 20
"""Bytes that are gathered before a thread writes them."""

_ZIP_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")
_READ_BYTES = 1 << 20


class Spool:
    """The file that is to become ``target``; ``size`` counts the bytes received of it so far."""

    def __init__(self, target: Path) -> None:
        self._path = target.with_name(temporary_name(target))
        self.size = 0
        self._etag: str | None = None
        self._hash = hashlib.sha256()
        self._gathered = bytearray()
        self._beginning = b""
        self._must_truncate = False
        with translated(self._path, "write"):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")

    def put(self, chunk: bytes, place: str) -> bool:
        """Take the next bytes, sent by ``place``; true if they should be written now. Raises UnexpectedAnswer as soon
        as it shows that this is not a zip."""
        self.size += len(chunk)
        self._gathered += chunk
        if len(self._beginning) < 4:  # noqa: PLR2004 - as long as what it is compared with
            self._beginning += chunk[: 4 - len(self._beginning)]
            if not any(each.startswith(self._beginning) for each in _ZIP_BEGINNINGS):
                raise UnexpectedAnswer(f"{place} is not a zip: it begins with {bytes(self._gathered[:40])!r}")
        return len(self._gathered) >= WRITE_BYTES

    def begin_anew(self, etag: str | None = None) -> None:
        """Forget what was received; ``etag`` names what is about to be."""
        self.size, self._etag = 0, etag
        self._hash = hashlib.sha256()
        self._gathered.clear()
        self._beginning = b""
        self._must_truncate = True

    def resuming_headers(self) -> dict[str, str]:
        """What asks for the rest of the same file only, or for all of it where that cannot be made sure."""
        if not self.size or self._etag is None or self._etag.startswith("W/"):
            return {}
        return {"range": f"bytes={self.size}-", "if-range": self._etag}

    def write(self) -> None:
        """Write what was gathered."""
        with translated(self._path, "write"):
            if self._must_truncate:
                self._file.seek(0)
                self._file.truncate()
                self._must_truncate = False
            self._file.write(self._gathered)
        self._hash.update(self._gathered)
        self._gathered.clear()

    def finish(self) -> str:
        """Write the rest; return the sha256 of the whole."""
        self.write()
        with translated(self._path, "write"):
            self._file.flush()
        return self._hash.hexdigest()

    def keep(self, target: Path) -> None:
        """Give the file its name."""
        with translated(target, "write"):
            self._path.replace(target)

    def close(self) -> None:
        """Delete what was not kept."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def same_bytes(path: Path, sha256: str) -> bool:
    """Whether there is a file with this checksum."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                found.update(chunk)
    except OSError:
        return False
    return found.hexdigest() == sha256
