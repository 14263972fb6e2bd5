"""Which sealed days were read in full, and are as they were then: one text file per instrument in the state directory.

It saves reading history again at each start. It is not the truth: for a line that is missing, torn or of another file
the day is read once more. What counts is the inode, the size and both times of a file; nobody can set the time of
its last change. Lines are appended without a sync. Where there are keys, the certificates stay in the encrypted files
and the lines have the stamps alone.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zlib import crc32

import msgspec

from backfilld.core.day.certificate import Certificate
from backfilld.store.atomic import is_there, replacing, translated
from backfilld.store.format.footer import SCHEMA_VERSION
from backfilld.store.layout import FullStamp, full_stamp, journal_name, names_in
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.regular_file import open_regular
from backfilld.store.state_file import UNREAD, read_state

FOLDER = "known"

_LINES_TO_SPARE = 64
"""Lines that no longer count in a file before it is written anew."""

_MOST_BYTES = 64 << 20
"""Of the file: a line has some hundred bytes, unless very many ids of its day are absent."""

_FIELDS = 7
"""Of a line behind its check: the schema's version, the day, the four numbers of the stamp, the certificate."""

_NO_CERTIFICATE = b"-"

_DAY = 2
"""Of these the day, counted with the check."""


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: FullStamp
    certificate: bytes


class KnownDays:
    """The known days of one instrument."""

    def __init__(self, state_dir: Path, manager: BackfillCacheManager) -> None:
        self._manager = manager
        self._has_keys = bool(manager.encoding.keys.keys)
        instrument = manager.instrument
        name = "any" if instrument is None else f"{instrument.market}-{instrument.symbol}"
        self._plain_path = state_dir / FOLDER / f"{name}.known"
        self._path = state_dir / FOLDER / f"{name}.stamps.known" if self._has_keys else self._plain_path
        self._lines = 0
        self._days: dict[date, _Known] = {}
        """Those that were looked at."""
        self._unread = self._read()
        """The newest line of each day that was not looked at yet, by the day's text."""

    def certificates(self, days: Collection[date]) -> Mapping[date, Certificate]:
        """The certificates of those of the days whose file is as it was and that have no journal."""
        journals = frozenset(names_in(self._manager.journals))
        found: dict[date, Certificate] = {}
        for day in days:
            known = self._known(day)
            if known is None or journal_name(day) in journals:
                continue
            if full_stamp(self._manager.get_cache_path(day)) != known.stamp:
                continue
            certificate = self._certificate(day, known)
            if certificate is not None:
                found[day] = certificate
        return found

    def note(self, certificate: Certificate, stamp: FullStamp | None) -> None:
        """The file with this stamp was just written, or read in full, and has this certificate. Only sealed days
        without a journal are noted. Raises StoreError."""
        day = certificate.day
        if not certificate.sealed or stamp is None or is_there(self._manager.journal_path(day)):
            return
        known = _Known(stamp, _NO_CERTIFICATE if self._has_keys else msgspec.json.encode(certificate))
        if self._known(day) == known:
            return
        self._days[day] = known
        if self._lines > 2 * (len(self._days) + len(self._unread)) + _LINES_TO_SPARE:
            self._rewrite()
        else:
            self._append(_line(day, known))

    def _certificate(self, day: date, known: _Known) -> Certificate | None:
        if known.certificate == _NO_CERTIFICATE:
            return self._manager.known(day)
        try:
            return msgspec.json.decode(known.certificate, type=Certificate)
        except msgspec.DecodeError:
            return None

    def _known(self, day: date) -> _Known | None:
        line = self._unread.pop(day.isoformat().encode(), None)
        if line is not None and (entry := _entry(line)) is not None:
            self._days[day] = entry
        return self._days.get(day)

    def _read(self) -> dict[bytes, bytes]:
        """A start with a few days does not look into the lines of years."""
        try:
            body = read_state(self._path, _MOST_BYTES) or b""
        except UNREAD:
            return {}
        lines = [line for line in body.splitlines() if line]
        self._lines = len(lines)
        return {fields[_DAY]: line for line in lines if len(fields := line.split(b" ", _DAY + 1)) > _DAY}

    def _append(self, line: bytes) -> None:
        with translated(self._path, "write"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._has_keys:
                # What was noted before there were keys says in the clear what the files encrypt.
                self._plain_path.unlink(missing_ok=True)
            descriptor = open_regular(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            with os.fdopen(descriptor, "ab") as file:
                file.write(line)
        self._lines += 1

    def _rewrite(self) -> None:
        # A copy: the reader and the writer note their days on threads of their own. A line may get lost between them.
        lines = {day: b"\n%s\n" % line for day, line in dict(self._unread).items()}
        lines |= {day.isoformat().encode(): _line(day, known) for day, known in dict(self._days).items()}
        with replacing(self._path) as temporary:
            temporary.write_bytes(b"".join(lines[day] for day in sorted(lines)))
        self._lines = len(lines)


def _line(day: date, known: _Known) -> bytes:
    """A newline first: what a crash has cut off does not swallow the next line."""
    numbers = " ".join(map(str, (SCHEMA_VERSION, day.isoformat(), *known.stamp)))
    text = numbers.encode() + b" " + known.certificate
    return b"\n%08x %s\n" % (crc32(text), text)


def _entry(line: bytes) -> _Known | None:
    """What a line says; None for one that is torn, or of another version."""
    check, _, text = line.partition(b" ")
    fields = text.split(b" ", _FIELDS - 1)
    if len(fields) != _FIELDS or check != b"%08x" % crc32(text) or fields[0] != b"%d" % SCHEMA_VERSION:
        return None
    inode, size, changed_ns, touched_ns = map(int, fields[2:6])
    return _Known((inode, size, changed_ns, touched_ns), fields[6])
