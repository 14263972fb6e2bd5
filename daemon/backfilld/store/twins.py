"""The twin of a day file: the file that it replaced last, under a hidden name, which becomes the next one.

A rewrite costs what the day has. Where only later rows came, it costs what is new: the twin lacks the rows of the last
two rewrites, so its full row groups stay, its end is written anew, and it takes the place of the file, which becomes
the twin. The file is byte for byte that of a full rewrite.

| state   | on disk                            | the next rewrite                                                  |
|---------|------------------------------------|-------------------------------------------------------------------|
| none    | the file                           | is a full one; what it replaces is the twin if the day goes on    |
| ready   | the file, the twin                 | extends the twin if both are as they were left, and nobody has it |
|         |                                    | open; else deletes it, and is a full one                          |
| in hand | the file, the twin with a torn end | ends: the twin replaces the file, ready; or fails: deleted, none  |

The file is always whole: until the rename the old one, synced long ago; after it the new one, synced before. What has
a second name, which is somebody's backup, is not a twin. A process remembers its twins; those of a dead one are swept
as the temporary files that they are by name. Encrypted files have none: Arrow cannot go on with one.

Owns which twins there are. Must not decide when a day is rewritten (:mod:`backfilld.core.day.saving`).
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from backfilld.core.model import Instrument
from backfilld.store.atomic import replacing, temporary_name
from backfilld.store.format.continued_day import Begun, ContinuedDayWriter, begun_in
from backfilld.store.format.dayfile import DayWriter, Encoding
from backfilld.store.layout import FullStamp, Stamp, full_stamp, stamp_of
from backfilld.store.open_files import is_known_to_be_closed


@dataclass(frozen=True, slots=True)
class _Twin:
    """A twin, and both files as they were left."""

    path: Path
    stamp: FullStamp | None
    file_stamp: Stamp | None

    def is_as_left(self, file: Path) -> bool:
        """Whether nobody has changed the twin, linked it elsewhere, or changed the file."""
        stamps = full_stamp(self.path), stamp_of(file)
        return None not in stamps and stamps == (self.stamp, self.file_stamp) and self.path.stat().st_nlink == 1


class Twins:
    """The twins of the files that one process writes, which are deleted with it."""

    def __init__(self) -> None:
        self._ready: dict[Path, _Twin] = {}
        weakref.finalize(self, _delete_all, self._ready)

    @contextmanager
    def rewriting(
        self, path: Path, day: date, instrument: Instrument | None, encoding: Encoding, directory: Path
    ) -> Iterator[DayWriter]:
        """As :func:`backfilld.store.format.dayfile.rewriting`, of a day that goes on: it has row groups that stay, only
        later rows came, and they need no digest. The writer may have rows already: up to its ``last_id``.

        The twin is in ``directory``, which nobody else reads.
        """
        twin, begun = self._begun(path, day, instrument)
        left, replaced = directory / temporary_name(path), stamp_of(path)
        try:
            with (
                replacing(path, by=twin, keeping=left) as temporary,
                _opened(temporary, begun, day, instrument, encoding) as writer,
            ):
                yield writer
        except BaseException:
            _delete(left)
            raise
        if stamp_of(left) == replaced:
            self._ready[path] = _Twin(left, full_stamp(left), stamp_of(path))
        else:
            # The disk links nothing; or a thread that was given up on replaced the file meanwhile.
            _delete(left)

    def drop(self, path: Path) -> tuple[None, None]:
        """Delete the twin of a file, if it has one."""
        if path in self._ready:
            _delete(self._ready.pop(path).path)
        return None, None

    def drop_in(self, directory: Path) -> None:
        """Delete the twins of the files in a directory."""
        for path in [each for each in tuple(self._ready) if each.parent == directory]:
            self.drop(path)

    def give_way(self) -> None:
        """Delete all twins: the disk may need the room."""
        _delete_all(self._ready)

    def _begun(self, path: Path, day: date, instrument: Instrument | None) -> tuple[Path, Begun] | tuple[None, None]:
        """The twin, which is no longer ready then, and what stays of it; None for one that is not to be changed."""
        twin = self._ready.get(path)
        if twin is not None and twin.is_as_left(path) and is_known_to_be_closed(twin.path):
            begun = begun_in(twin.path, day, instrument)
            if begun is not None:
                del self._ready[path]
                return twin.path, begun
        return self.drop(path)


def _opened(path: Path, begun: Begun | None, day: date, instrument: Instrument | None, encoding: Encoding) -> DayWriter:
    if begun is None:
        return DayWriter(path, day, instrument, encoding, digested=False)
    return ContinuedDayWriter(path, begun, instrument, encoding)


def _delete_all(ready: dict[Path, _Twin]) -> None:
    while ready:
        _delete(ready.popitem()[1].path)


def _delete(path: Path) -> None:
    """A name that cannot be deleted is swept by the next process."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
