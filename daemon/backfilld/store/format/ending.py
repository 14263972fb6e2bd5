"""The end of a Parquet file: its footer, four bytes with the length of the footer, and four of magic."""

import os
from typing import BinaryIO

ENDING_BYTES = 8
"""The length of the footer, and the magic."""


def footer_bytes(ending: bytes) -> int:
    """The length of the footer, as the last bytes of a file name it."""
    return int.from_bytes(ending[-ENDING_BYTES:-4], "little")


def last_bytes(file: BinaryIO) -> tuple[int, bytes]:
    """The size of the file, and its last ENDING_BYTES."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - ENDING_BYTES))
    return size, file.read(ENDING_BYTES)


def footer_and_ending(file: BinaryIO) -> tuple[int, bytes]:
    """Where the footer begins, and everything from there to the end of the file."""
    size, ending = last_bytes(file)
    start = max(0, size - ENDING_BYTES - footer_bytes(ending))
    file.seek(start)
    return start, file.read()


def varint(number: int) -> bytes:
    """A number in Thrift's compact protocol, in which footers are written: seven bits a byte, the lowest first."""
    found = bytearray()
    while number >= 0x80:  # noqa: PLR2004 - the bit that says that the number goes on
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
