"""Small tables as Parquet in memory, encrypted where files are: reports of conflicts, journal records, manifests."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from backfilld.store.format.day_reader import opened_parquet
from backfilld.store.format.ending import ENDING_BYTES, footer_bytes
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import Key, KeyRing, with_key_text


def table_as_bytes(
    frame: pl.DataFrame | pa.Table,
    keys: KeyRing,
    *,
    metadata: Mapping[str, str] | None = None,
    aad: bytes | None = None,
    codec: Literal["zstd", "none"] = "zstd",
) -> bytes:
    """The frame as a Parquet file. ``aad`` is the place to which an encrypted one belongs: it opens nowhere else."""
    key = keys.writing
    buffer = pa.BufferOutputStream()
    table = frame if isinstance(frame, pa.Table) else frame.rechunk().to_arrow()
    properties = None if key is None else key.encryption(aad)
    is_fast = codec == "none"
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression=codec,
        use_dictionary=not is_fast,
        write_statistics=not is_fast,
        store_schema=False,
        encryption_properties=properties,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(dict(metadata or {}))
    body = buffer.getvalue().to_pybytes()
    if key is None:
        return body
    keys.used(key, 2 + 2 * len(table.schema) * (1 if is_fast else 2))
    start = len(body) - ENDING_BYTES - footer_bytes(body)
    return body[:start] + with_key_text(body[start:], key)


@dataclass(frozen=True, slots=True)
class Table:
    """A frame, the metadata of its file, and the key that opened it, None for a plain one."""

    frame: pl.DataFrame
    metadata: Mapping[bytes, bytes]
    key: Key | None


def table_from_bytes(body: bytes, keys: KeyRing, path: Path) -> Table:
    """What :func:`table_as_bytes` has made. ``path`` is what errors name. Raises UntrustedFile, and DayLocked where no
    key opens it."""
    opened = opened_parquet(path, io.BytesIO(body), keys)
    # Without the metadata, which may be damaged: polars panics at text that is not UTF-8.
    frame = pl.from_arrow(_read(opened.file).replace_schema_metadata(None))
    if not isinstance(frame, pl.DataFrame):
        raise UntrustedFile("it is not a table")
    return Table(frame, opened.file.metadata.metadata or {}, opened.key)


def value_from_bytes(body: bytes, keys: KeyRing, path: Path, aad: bytes) -> tuple[pa.Buffer, Mapping[bytes, bytes]]:
    """The only value of a table of one, which is bytes, and the file's metadata; otherwise as
    :func:`table_from_bytes`."""
    opened = opened_parquet(path, io.BytesIO(body), keys, aad)
    table = _read(opened.file)
    if table.shape != (1, 1) or table.schema.types != [pa.binary()] or table.column(0).null_count:
        raise UntrustedFile("it is a table of another form")
    return table.column(0)[0].as_buffer(), opened.file.metadata.metadata or {}


def _read(file: pq.ParquetFile) -> pa.Table:
    try:
        return file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UntrustedFile(f"it cannot be decoded ({type(error).__name__})") from error
