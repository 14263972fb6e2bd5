"""The keys of encrypted files, and the plain part of such a file: which key it needs, and the digest of its bytes.

A day file is encrypted by Parquet's own encryption: AES_GCM_V1, one key for all of a file, its footer too. Parquet lets
a writer put text about the key before the encrypted footer, and Arrow does not write it. Owns that text: the id of the
key, a fingerprint of it, and the sha256 of the file. The fingerprint distinguishes a damaged file from one whose key is
missing. The key itself appears in no text: not in a repr, not in an error.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from backfilld.store.format.bounds import ThriftStruct
from backfilld.store.format.digest import BLANK
from backfilld.store.format.ending import ENDING_BYTES, footer_and_ending, footer_bytes, last_bytes, varint
from backfilld.store.format.footer import UntrustedFile

if TYPE_CHECKING:
    from pyarrow._parquet import FileDecryptionProperties, FileEncryptionProperties

ENCRYPTED_MAGIC = b"PARE"
"""With these four bytes a Parquet file begins and ends whose footer is encrypted."""

KEY_BYTES = 32

_MOST_PLAIN_BYTES = 4096
"""The plain part of a footer that is read: ours has about 150 bytes."""
_KEY_METADATA = 2
"""The field of Parquet's FileCryptoMetaData with the text about the key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of 32 bytes and the id that its owner gave it."""

    id: str
    secret: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Tells keys apart, and says nothing of them: a key is 32 random bytes."""
        return hashlib.sha256(b"backfilld key " + self.secret).hexdigest()[:16]

    def encryption(self, aad: bytes | None = None) -> "FileEncryptionProperties":
        """What Arrow's writers need. ``aad`` binds what is written to a place; its reader must know it."""
        properties: FileEncryptionProperties = _arrow_encryption().create_encryption_properties(
            self.secret, aad_prefix=aad, store_aad_prefix=False
        )
        return properties

    def decryption(self, aad: bytes | None = None) -> "FileDecryptionProperties":
        """What Arrow's readers need."""
        properties: FileDecryptionProperties = _arrow_encryption().create_decryption_properties(
            self.secret, aad_prefix=aad
        )
        return properties


def _arrow_encryption() -> Any:
    import pyarrow.parquet.encryption  # noqa: PLC0415 - only where there are keys

    return pyarrow.parquet.encryption


class KeyText(msgspec.Struct, frozen=True):
    """What a file says of its key, unencrypted: its id and fingerprint, and the sha256 of the file, taken with its own
    digits as zeros."""

    key: str
    fingerprint: str
    sha256: str = BLANK

    @classmethod
    def of(cls, key: Key) -> "KeyText":
        """The text of a file that is encrypted by this key; the digest is still blank."""
        return cls(key.id, key.fingerprint)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that open files. ``encrypts`` says whether what is written is encrypted, by the first one.

    ``origin`` is where they came from, for sentences. ``used`` is called with a key and how often it was used by each
    write.
    """

    keys: tuple[Key, ...] = ()
    encrypts: bool = False
    origin: str = ""
    used: Callable[[Key, int], None] = field(default=lambda _key, _uses: None, compare=False, repr=False)

    @property
    def writing(self) -> Key | None:
        """The key by which files are encrypted, None where they are not."""
        return self.keys[0] if self.encrypts and self.keys else None

    @property
    def for_reading(self) -> "KeyRing":
        """The same keys for a reader that does not mind plain files."""
        return replace(self, encrypts=False)

    def candidates(self, text: KeyText | None) -> tuple[Key, ...]:
        """The keys that may open a file: the one that it names, else all."""
        named = tuple(key for key in self.keys if text is not None and key.fingerprint == text.fingerprint)
        return named or self.keys

    def written_by(self, key: Key | None) -> "KeyRing":
        """The same keys; what is written is encrypted by this one, or plain for None."""
        if key is None:
            return replace(self, encrypts=False)
        return replace(self, keys=(key, *(each for each in self.keys if each != key)), encrypts=True)

    def has(self, text: KeyText | None) -> bool:
        """Whether the key that a file names is here: then what it cannot open is damaged."""
        return text is not None and any(key.fingerprint == text.fingerprint for key in self.keys)

    def lock_reason(self, text: KeyText | None) -> str:
        """Why a file stays closed: what it needs, and what there is."""
        needs = f"is encrypted by the key {text.key!r}" if text is not None else "is encrypted"
        if not self.keys:
            return f"{needs}, and no key opens it: name a key_file that has it"
        if text is not None and any(key.id == text.key for key in self.keys):
            return f"{needs}, and no key opens it: {self.origin} has another key under that id"
        return f"{needs}, and no key opens it: {self.origin} has {', '.join(each.id for each in self.keys)}"


NO_KEYS = KeyRing()


def key_text_in(file: BinaryIO) -> KeyText | None:
    """What an encrypted file, or the end of one, says of its key; None if it says nothing that we wrote."""
    size, ending = last_bytes(file)
    start = size - ENDING_BYTES - footer_bytes(ending)
    if start < 0:
        return None
    file.seek(start)
    try:
        text = ThriftStruct(file.read(min(_MOST_PLAIN_BYTES, footer_bytes(ending)))).binaries().get(_KEY_METADATA)
        return None if text is None else msgspec.json.decode(text, type=KeyText)
    except (UntrustedFile, ValueError, RecursionError):
        return None


def write_key_text(path: Path, key: Key) -> None:
    """Put the text about the key into a file that Arrow has just encrypted by it."""
    with path.open("r+b") as file:
        start, ending = footer_and_ending(file)
        file.seek(start)
        file.write(with_key_text(ending, key))


def with_key_text(ending: bytes, key: Key) -> bytes:
    """The end of an encrypted file, from the beginning of its footer, with the text about the key."""
    plain = ThriftStruct(ending)
    plain.binaries()
    text = msgspec.json.encode(KeyText.of(key))
    # A binary field with the next number, and the byte that ends the struct.
    named = ending[: plain.place - 1] + b"\x18" + varint(len(text)) + text + b"\0"
    footer = named + ending[plain.place : -ENDING_BYTES]
    return footer + len(footer).to_bytes(4, "little") + ENCRYPTED_MAGIC
