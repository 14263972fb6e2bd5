"""The archive's listing as S3 answers it: ListObjects, version 1, in XML.

Owns the paging by marker and delimiter, and the document. Pure; must not know what is behind a key.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

BUCKET = "data.binance.vision"
MOST_KEYS = 1000
"""Keys and common prefixes in one page, at most."""

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True, slots=True)
class ListingQuery:
    """One well-formed question; empty texts stand for what was not sent."""

    prefix: str = ""
    delimiter: str = ""
    marker: str = ""
    max_keys: int = MOST_KEYS


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page: keys, and prefixes that stand for all the keys under them; both count. The marker of the next page is
    empty unless the page is truncated and a delimiter was sent: without one the last key serves."""

    keys: Sequence[str]
    common_prefixes: Sequence[str]
    is_truncated: bool
    next_marker: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """What a listing tells of one key."""

    key: str
    modified_ms: int
    etag: str
    size: int


def listing_page(keys: Iterable[str], query: ListingQuery) -> ListingPage:
    """The page of the keys that answers the question, in the order of their bytes."""
    under = {_entry(key, query) for key in keys if key.startswith(query.prefix)}
    entries = sorted((entry for entry in under if entry > query.marker), key=str.encode)
    page = entries[: min(query.max_keys, MOST_KEYS)]
    is_truncated = 0 < len(page) < len(entries)
    is_prefix = [_is_common_prefix(entry, query) for entry in page]
    return ListingPage(
        keys=[entry for entry, groups in zip(page, is_prefix, strict=True) if not groups],
        common_prefixes=[entry for entry, groups in zip(page, is_prefix, strict=True) if groups],
        is_truncated=is_truncated,
        next_marker=page[-1] if is_truncated and page and query.delimiter else "",
    )


def listing_xml(query: ListingQuery, page: ListingPage, objects: Iterable[ListedObject]) -> bytes:
    """The document of a page; ``objects`` tell of its keys, in their order."""
    parts = [
        _element("Name", BUCKET),
        _element("Prefix", query.prefix),
        _element("Marker", query.marker),
        *([_element("NextMarker", page.next_marker)] if page.next_marker else []),
        _element("MaxKeys", query.max_keys),
        *([_element("Delimiter", query.delimiter)] if query.delimiter else []),
        _element("IsTruncated", str(page.is_truncated).lower()),
        *(_contents(listed) for listed in objects),
        *(f"<CommonPrefixes>{_element('Prefix', prefix)}</CommonPrefixes>" for prefix in page.common_prefixes),
    ]
    return f'{_DECLARATION}<ListBucketResult xmlns="{_NAMESPACE}">{"".join(parts)}</ListBucketResult>'.encode()


def error_xml(code: str, message: str, **details: str) -> bytes:
    """The document of a refusal, as S3 writes it."""
    parts = [_element("Code", code), _element("Message", message), *(_element(*detail) for detail in details.items())]
    return f"{_DECLARATION}<Error>{''.join(parts)}</Error>".encode()


def _entry(key: str, query: ListingQuery) -> str:
    """The key, or the part of it up to the first delimiter behind the prefix."""
    if query.delimiter:
        head, delimiter, _ = key[len(query.prefix) :].partition(query.delimiter)
        if delimiter:
            return query.prefix + head + delimiter
    return key


def _is_common_prefix(entry: str, query: ListingQuery) -> bool:
    return bool(query.delimiter) and query.delimiter in entry[len(query.prefix) :]


def _contents(listed: ListedObject) -> str:
    modified = datetime.fromtimestamp(listed.modified_ms // 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    parts = [
        _element("Key", listed.key),
        _element("LastModified", modified),
        _element("ETag", listed.etag),
        _element("Size", listed.size),
        _element("StorageClass", "STANDARD"),
    ]
    return f"<Contents>{''.join(parts)}</Contents>"


def _element(name: str, value: Any) -> str:
    return f"<{name}>{escape(str(value))}</{name}>"
