"""A day file that goes on where it ended: its full row groups stay as they are, and the rest is encoded again.

The result is byte for byte what :class:`DayWriter` makes of all the rows. Owns how Arrow is made to write the end of a
file; the way back for a footer of another form is to write the whole day.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from re import Match

import polars as pl
import pyarrow as pa

from backfilld.core.day.anomalies import Anomalies
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import Instrument
from backfilld.errors import DayLocked, StoreError
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.dayfile import DayWriter, Encoding
from backfilld.store.format.digest import stamp_file
from backfilld.store.format.ending import ENDING_BYTES
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.plain_footer import footer_in, footer_of, with_groups_before

_MAGIC_BYTES = 4
"""What Arrow writes before the first row group; here the end of one that stays."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What stays of a file: its certificate, the footers of the row groups but the last, where these end; and the rows
    of the last one, which are encoded again."""

    certificate: Certificate
    groups: tuple[Match[bytes], ...]
    stop: int
    rest: pl.DataFrame


def begun_in(path: Path, day: date, instrument: Instrument | None) -> Begun | None:
    """What stays of a plain day file whose every byte is as it was written; None for any other."""
    footer, _ = footer_of(path)
    if footer is None:
        return None
    with suppress(UntrustedFile, DayLocked, StoreError, OSError), DayReader(path, day, instrument) as reader:
        last = len(footer.groups) - 1
        stop = next(chunk.start for chunk in footer.chunks_of(last))
        return Begun(reader.checked(), footer.groups[:-1], stop, reader.row_group(last))
    return None


class ContinuedDayWriter(DayWriter):
    """Writes the end of a day file in place; takes the rows behind its last. Nobody else may read the file."""

    def __init__(self, path: Path, begun: Begun, instrument: Instrument | None, encoding: Encoding) -> None:
        self._file_path, self._begun = path, begun
        start = begun.stop - _MAGIC_BYTES
        with path.open("r+b") as file:
            file.seek(start)
            self._overwritten = file.read(_MAGIC_BYTES)
            file.truncate(start)
        self._sink = pa.OSFile(str(path), "ab")
        # Arrow refuses to go on with a file, by this place; it writes to the end all the same.
        os.lseek(self._sink.fileno(), 0, os.SEEK_SET)
        super().__init__(self._sink, begun.certificate.day, instrument, encoding, digested=False)
        self.last_id = begun.certificate.last_id
        self._pending, self._known_rows = begun.rest, begun.rest.height
        self._spans = list(begun.certificate.spans)
        self._anomalies = Anomalies(dict(begun.certificate.findings), begun.rest[-1:])

    def __exit__(self, *failure: object) -> None:
        try:
            super().__exit__(*failure)
        finally:
            self._sink.close()
        if self._is_finished:
            self._join()
            stamp_file(self._file_path)
            self.bytes = self._file_path.stat().st_size

    def _join(self) -> None:
        """Put the row groups that stayed into the footer."""
        with self._file_path.open("r+b") as file:
            file.seek(self._begun.stop)
            written = file.read()
            footer = footer_in(written) or b""
            place = self._begun.stop + len(written) - ENDING_BYTES - len(footer)
            whole = with_groups_before(self._begun.groups, footer, self._begun.stop)
            file.seek(self._begun.stop - _MAGIC_BYTES)
            file.write(self._overwritten)
            file.seek(place)
            file.write(whole + len(whole).to_bytes(4, "little") + written[-_MAGIC_BYTES:])
            file.flush()
            os.ftruncate(file.fileno(), file.tell())
