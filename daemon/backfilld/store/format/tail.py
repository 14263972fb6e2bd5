"""The certificate of a day file of which only the last bytes are there, as they come from a bucket."""

import io
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq

from backfilld.core.day.certificate import Certificate
from backfilld.errors import DayLocked
from backfilld.store.format.ending import ENDING_BYTES, footer_bytes
from backfilld.store.format.footer import METADATA_KEY, NewerSchema, UntrustedFile, decoded
from backfilld.store.format.keys import ENCRYPTED_MAGIC, NO_KEYS, Key, KeyRing, key_text_in

TAIL_BYTES = 64 << 10
"""What is read first: the footer of a day of ten million trades has about 50 kB."""

MAX_FOOTER_BYTES = 64 << 20
"""The longest footer that is read; that of a day with very many absent ids is a few MB."""


def missing_bytes(tail: bytes, file_bytes: int) -> int:
    """How many of the file's last bytes the footer takes, 0 if ``tail`` has them all. Raises UntrustedFile."""
    if len(tail) < ENDING_BYTES:
        raise UntrustedFile("it is too short for a Parquet file")
    needed = footer_bytes(tail) + ENDING_BYTES
    if needed > min(file_bytes, MAX_FOOTER_BYTES):
        raise UntrustedFile(f"it names a footer of {needed} bytes")
    return needed if needed > len(tail) else 0


def certificate_in(tail: bytes, keys: KeyRing = NO_KEYS, name: str = "it") -> tuple[Certificate, Key | None]:
    """The certificate in the end of a day file, and the key that opened it, None for a plain one. Errors call the file
    ``name``. Raises UntrustedFile, and DayLocked where no key opens it."""
    try:
        metadata, opened_by = _metadata_in(tail, keys, name)
        return decoded(metadata[METADATA_KEY.encode()]), opened_by
    except (pa.ArrowException, OSError, ValueError, OverflowError, KeyError, NewerSchema) as error:
        raise UntrustedFile(f"it has no certificate that can be read ({type(error).__name__})") from error


def _metadata_in(tail: bytes, keys: KeyRing, name: str) -> tuple[dict[bytes, bytes], Key | None]:
    if not tail.endswith(ENCRYPTED_MAGIC):
        return pq.read_metadata(io.BytesIO(tail)).metadata or {}, None
    text = key_text_in(io.BytesIO(tail))
    for key in keys.candidates(text):
        with suppress(pa.ArrowException, OSError, ValueError):
            found = pq.read_metadata(io.BytesIO(tail), decryption_properties=key.decryption())
            return found.metadata or {}, key
    if keys.has(text):
        raise UntrustedFile("its footer cannot be decrypted by its key")
    raise DayLocked(f"{name} {keys.lock_reason(text)}; it stays as it is")
