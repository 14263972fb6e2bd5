"""One answer of an HTTP server, bounded where it enters: how much of it is read, and how it is unpacked.

Owns the bounds of headers and bodies. What an answer means is read elsewhere.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

import trio

from backfilld.core.inflate import DAMAGE, inflater
from backfilld.errors import ExchangeError, TransientError, UnexpectedAnswer

MOST_HEADERS = 100
"""Headers of an answer that are looked at; Binance sends about 20."""

HEADER_LENGTH = 1000
"""Characters of a header that are kept; the longest one in use is a security policy of a few hundred."""

_GZIP = 31
"""zlib's number for a gzip wrapper around a window of any size."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered: ``base`` is the base URL that was asked, ``packed`` the body as it came, headers by name
    in lower case."""

    base: str
    path: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    packed: bytes = b""

    def body(self, limit: int) -> bytes | ExchangeError:
        """The body without its coding, of at most ``limit`` bytes: a small one may unpack to gigabytes."""
        coding = self.headers.get("content-encoding", "").strip().lower()
        if coding in {"", "identity"}:
            return self.packed if len(self.packed) <= limit else _too_large(limit)
        if coding not in {"gzip", "x-gzip"}:
            return UnexpectedAnswer(f"the answer is packed as {coding[:60]!r}, and gzip was asked for")
        return _inflated(self.packed, limit)


def headers_in(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name in lower case; those that come several times are joined by commas, as HTTP reads them."""
    found: dict[str, str] = {}
    for raw_name, raw_value in list(pairs)[:MOST_HEADERS]:
        name, value = raw_name.decode("latin-1").lower(), raw_value[:HEADER_LENGTH].decode("latin-1")
        found[name] = f"{found[name]}, {value}"[:HEADER_LENGTH] if name in found else value
    return found


async def received(chunks: AsyncIterable[bytes], limit: int) -> bytes:
    """All chunks, joined. Raises UnexpectedAnswer above ``limit`` bytes: no more of it is read then."""
    parts: list[bytes] = []
    size = 0
    iterator = aiter(chunks)
    async for chunk in iterator:
        size += len(chunk)
        if size > limit:
            await abandon(iterator)
            raise _too_large(limit)
        parts.append(chunk)
    return b"".join(parts)


async def abandon(chunks: AsyncIterator[bytes]) -> None:
    """Let the generators that the HTTP library reads through end: one that is left in its middle is reported as leaked.

    The next wait for bytes is cancelled, and with it all of them; what is buffered by then is bounded by the library.
    """
    with trio.CancelScope() as scope:
        scope.cancel()
        async for _ in chunks:
            pass


def _inflated(packed: bytes, limit: int) -> bytes | ExchangeError:
    stream = inflater(_GZIP)
    try:
        body = bytes(stream.decompress(packed, limit + 1))
    except DAMAGE as error:
        return TransientError(f"the gzip of the answer is damaged ({error})")
    if len(body) > limit:
        return _too_large(limit)
    return body if stream.eof else TransientError("the gzip of the answer is cut")


def _too_large(limit: int) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"the answer is larger than {limit:,} bytes")
