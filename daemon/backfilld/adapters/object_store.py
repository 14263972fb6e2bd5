"""A bucket on S3, Google Cloud Storage or Azure as an ObjectStore. The only module that knows obstore.

Owns the thread hop, the time limits, and how the library's errors become ours. No text of the library reaches a
message: it may contain a signed URL. The library's threads do not survive a fork: a request of a child would wait for
ever, so it is refused.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import obstore
import trio
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from backfilld.core.liveness import Waits
from backfilld.errors import ObjectRefused, RemoteDenied, RemoteUnreachable
from backfilld.ports.remote import ObjectContent, StoredObject

T = TypeVar("T")

PROBE_KEY = ".backfilld/probe"
"""A small object that stays in the bucket: it is created once, and never deleted, so no right to delete is needed."""

OTHER_TAG = '"00000000000000000000000000000000"'
"""A tag that no object of ours has."""

RETRIES = 4
"""How often the library asks again after 429 or 5xx, within the time limit of one request."""

NO_BUCKET = "there is no such bucket"

_STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z ]*)?)")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
METADATA_ADDRESS = "169.254.169.254"
"""Where the library looks for the credentials of a cloud's machine if the environment has none."""

_asking: list[int] = []
"""The process that has asked a bucket, here or before a fork."""

_TRANSPORT = {
    "Connection refused": "the connection was refused",
    "TimedOut": "there was no answer in time",
    "dns error": "its name could not be resolved",
    "certificate": "its certificate was not accepted",
    "URL scheme is not allowed": "plain http is not allowed",
}
"""What the library's text contains, and what it means."""


@dataclass(frozen=True, slots=True)
class RemoteLocation:
    """Where the bucket is, and how it is to be asked. Credentials come from the environment, as each cloud's own tools
    read them."""

    url: str
    endpoint: str | None = None
    region: str | None = None
    allow_http: bool = False
    timeout_s: float = 20.0
    concurrent: int = 4


def open_object_store(location: RemoteLocation, waits: Waits | None = None) -> "BucketStore":
    """The bucket of the location; nothing is asked of it yet. ``waits`` shows what is asked to whoever watches. Raises
    RemoteDenied for what the library refuses."""
    try:
        store = _library_store(location)
        return BucketStore(store, location.url, location.concurrent, waits, 2 * location.timeout_s)
    except (exceptions.BaseError, ValueError) as error:
        raise RemoteDenied(f"{location.url}: the bucket cannot be set up: {_reason(error)}") from None


def _library_store(location: RemoteLocation) -> Any:
    parts = urlsplit(location.url)
    limit = timedelta(seconds=location.timeout_s)
    shared: dict[str, Any] = {
        "prefix": parts.path.strip("/") or None,
        "client_options": {"timeout": limit, "connect_timeout": limit, "allow_http": location.allow_http},
        "retry_config": {"max_retries": RETRIES, "retry_timeout": limit},
    }
    match parts.scheme:
        case "s3":
            return S3Store(parts.netloc, **shared, **_given(endpoint=location.endpoint, region=location.region))
        case "gs":
            return GCSStore(parts.netloc, **shared)
        case "az":
            return AzureStore(parts.netloc, **shared, **_given(endpoint=location.endpoint))
        case "memory":
            return MemoryStore()
        case scheme:
            raise ValueError(f"no store for {scheme}://")


def _given(**settings: str | None) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value}


class BucketStore:
    """One bucket. Implements :class:`backfilld.ports.remote.ObjectStore`."""

    def __init__(
        self, store: Any, name: str, concurrent: int = 4, waits: Waits | None = None, takes_s: float = 0.0
    ) -> None:
        self._store = store
        self._name = name
        self._waits = waits or Waits()
        self._takes_s = takes_s
        # It bounds the threads, abandoned ones included: those live until the library's own time limit.
        self._limiter = trio.CapacityLimiter(concurrent)

    async def probe(self, *, writes: bool) -> None:
        """Ask for the bucket; with ``writes`` also create what is there, and replace what has another tag."""
        await self._run("list", "", lambda: _first(obstore.list(self._store, ".backfilld", chunk_size=1)))
        if not writes:
            return
        attributes = {"purpose": "backfilld checks that conditions of writes are kept"}
        if await self.put_if_absent(PROBE_KEY, b"backfilld\n", attributes) is not None:
            again = await self.put_if_absent(PROBE_KEY, b"backfilld\n", attributes)
            if again is not None:
                raise RemoteDenied(f"{self._name}: the store created an object that existed (If-None-Match is ignored)")
        if await self._put(PROBE_KEY, b"backfilld\n", attributes, {"e_tag": OTHER_TAG}) is not None:
            raise RemoteDenied(f"{self._name}: the store replaced an object of another tag (If-Match is ignored)")

    async def put_if_absent(self, key: str, body: bytes, attributes: Mapping[str, str]) -> StoredObject | None:
        """Create an object by one PUT, which stores all of it or nothing."""
        return await self._put(key, body, attributes, "create")

    async def put_if_match(
        self, key: str, body: bytes, attributes: Mapping[str, str], etag: str
    ) -> StoredObject | None:
        """Replace an object by its tag. Some servers want the tag without its quotes, and none of them says so."""
        done = await self._put(key, body, attributes, {"e_tag": etag})
        if done is not None:
            return done
        found = await self.head(key)
        if found is None or found.etag != etag:
            return None
        done = await self._put(key, body, attributes, {"e_tag": etag.strip('"')})
        if done is None and await self.head(key) == found:
            raise RemoteDenied(self._sentence("put", key, f"the store refuses the tag {etag} that it names itself"))
        return done

    async def get(self, key: str, *, limit_bytes: int) -> ObjectContent | None:
        """Read an object whose size is within the limit."""

        def read() -> ObjectContent:
            result = obstore.get(self._store, key)
            found = _stored(result.meta)
            if found.bytes > limit_bytes:
                raise ObjectRefused(f"{self._name}/{key}: it has {found.bytes} bytes, and the limit is {limit_bytes}")
            body = b"".join(map(bytes, result.stream()))
            if len(body) != found.bytes:
                raise RemoteUnreachable(f"{self._name}: get {key}: {len(body)} of {found.bytes} bytes came")
            return ObjectContent(found, body, dict(result.attributes))

        return await self._run("get", key, read)

    async def tail(self, key: str, *, tail_bytes: int) -> ObjectContent | None:
        """Read the end of an object."""

        def read() -> ObjectContent:
            result = self._from_the_end(key, tail_bytes)
            body = b"".join(map(bytes, result.stream()))
            return ObjectContent(_stored(result.meta), body[-tail_bytes:], dict(result.attributes))

        return await self._run("get", key, read)

    def _from_the_end(self, key: str, tail_bytes: int) -> Any:
        try:
            return obstore.get(self._store, key, options={"range": {"suffix": tail_bytes}})
        except exceptions.NotSupportedError:
            # Azure counts from the beginning alone.
            size = int(obstore.head(self._store, key)["size"])
            if not size:
                return obstore.get(self._store, key)
            return obstore.get(self._store, key, options={"range": (max(0, size - tail_bytes), size)})

    async def head(self, key: str) -> StoredObject | None:
        """Ask for the size and the tag of an object."""
        return await self._run("head", key, lambda: _stored(obstore.head(self._store, key)))

    async def objects(self, prefix: str, *, after: str | None = None) -> Sequence[StoredObject]:
        """List a folder and what is below it."""

        def read() -> list[StoredObject]:
            listed = obstore.list(self._store, prefix or None, offset=after, chunk_size=1000)
            return sorted((_stored(meta) for chunk in listed for meta in chunk), key=lambda each: each.key)

        return await self._run("list", prefix, read) or []

    async def folders(self, prefix: str) -> Sequence[str]:
        """List the folders in a folder."""

        def read() -> list[str]:
            found = obstore.list_with_delimiter(self._store, prefix or None)
            return sorted(str(each).rstrip("/") for each in found["common_prefixes"])

        return await self._run("list", prefix, read) or []

    async def _put(self, key: str, body: bytes, attributes: Mapping[str, str], mode: Any) -> StoredObject | None:
        """One PUT under a condition; None if the condition does not hold."""

        def write() -> StoredObject | None:
            try:
                done = obstore.put(self._store, key, body, attributes=dict(attributes), mode=mode, use_multipart=False)
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return None
            except FileNotFoundError:
                raise RemoteDenied(self._sentence("put", key, NO_BUCKET)) from None
            return StoredObject(key, len(body), done["e_tag"] or "")

        return await self._run("put", key, write)

    async def _run(self, deed: str, key: str, work: Callable[[], T]) -> T | None:
        """What ``work`` returns, on a thread; None if it finds no such object. A cancellation does not wait for it."""

        def run() -> T | None:
            with self._translated(deed, key):
                try:
                    return work()
                except FileNotFoundError:
                    return None

        self._refuse_after_fork()
        with self._waits.wait(self._sentence(deed, key, "it"), trio.current_time(), self._takes_s):
            return await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._limiter)

    def _refuse_after_fork(self) -> None:
        if not _asking:
            _asking.append(os.getpid())
        if _asking != [os.getpid()]:
            reason = "this process was forked from one that has used a bucket; start it by spawn, not by fork"
            raise RemoteDenied(f"{self._name}: {reason}")

    @contextmanager
    def _translated(self, deed: str, key: str) -> Iterator[None]:
        """Turn the library's errors into ours. Their text and their chain stay behind: they may name a signed URL."""
        try:
            yield
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise RemoteDenied(self._sentence(deed, key, f"access is denied ({_reason(error)})")) from None
        except (exceptions.BaseError, OSError, ValueError) as error:
            reason = _reason(error)
            if "NoSuchBucket" in reason or "ContainerNotFound" in reason:
                raise RemoteDenied(self._sentence(deed, key, NO_BUCKET)) from None
            denied = reason.startswith(("301", "307", "400", "401", "403", "404"))
            raise (RemoteDenied if denied else RemoteUnreachable)(self._sentence(deed, key, reason)) from None

    def _sentence(self, deed: str, key: str, reason: str) -> str:
        return f"{self._name}: {deed} {key}: {reason}" if key else f"{self._name}: {deed}: {reason}"


def _first(chunks: Any) -> list[Any]:
    return next(iter(chunks), [])


def _stored(meta: Any) -> StoredObject:
    return StoredObject(str(meta["path"]), int(meta["size"]), meta["e_tag"] or "")


def _reason(error: BaseException) -> str:
    """What went wrong, in our words: status and code of an answer, or what kind of connection failed."""
    text = str(error)
    if METADATA_ADDRESS in text:
        return "there are no credentials in the environment, and this machine has none of its own"
    status, code = _STATUS.search(text), _CODE.search(text)
    if status:
        return f"{status[1].strip()}{f' {code[1]}' if code else ''}"
    return next(
        (words for part, words in _TRANSPORT.items() if part in text), f"the library failed ({type(error).__name__})"
    )
