"""Sealed days straight from a bucket as a polars LazyFrame, without a cache.

A manifest names an instrument's days, so that nothing is listed and no footer is read to find them: one request per
instrument, then one per day, in the sequence of the days. Each object is checked before its rows are given away.
"""

import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl
import trio

from backfilld.adapters.bucket_days import DaysInBucket
from backfilld.core.day.start import has_no_room
from backfilld.core.frame import SCHEMA
from backfilld.core.model import Instrument, day_of, day_start_ms, day_stop_ms, days_from
from backfilld.errors import ObjectRefused
from backfilld.store.format.day_reader import DayReader
from backfilld.store.format.digest import RowsDigest
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.format.keys import KeyRing
from backfilld.store.manifest import ManifestDay
from backfilld.store.replica import MAX_DAY_BYTES
from backfilld.store.shelf import lazy_pieces

READ_AHEAD_BYTES = 256 << 20
"""The most bytes of objects that are downloaded before they are asked for; one object is allowed, whatever its size."""

_COLUMNS = pl.Schema({**SCHEMA, "market": pl.String(), "symbol": pl.String()})

Manifests = Mapping[Instrument, Mapping[date, ManifestDay] | None]


@dataclass(frozen=True, slots=True)
class _Day:
    instrument: Instrument
    line: ManifestDay


def scan_bucket(
    bucket: DaysInBucket, instruments: Sequence[Instrument], start_ms: int, stop_ms: int, concurrent: int
) -> tuple[list[str], pl.LazyFrame]:
    """What could be missing of the span in the bucket, and the trades that are there, with market and symbol.

    ``concurrent`` requests at a time. Raises RemoteError, which for a manifest that cannot be read is ObjectRefused.
    """
    manifests = _manifests(bucket, instruments, concurrent)
    gaps = [gap for each in instruments for gap in _gaps(each, manifests[each], start_ms, stop_ms)]
    wanted = [
        _Day(each, line)
        for each in instruments
        for day, line in sorted((manifests[each] or {}).items())
        if day_start_ms(day) < stop_ms and day_stop_ms(day) > start_ms
    ]
    return gaps, lazy_pieces(_Reader(bucket, wanted, start_ms, stop_ms, concurrent).pieces, _COLUMNS)


def _manifests(bucket: DaysInBucket, instruments: Sequence[Instrument], concurrent: int) -> Manifests:
    each_once = list(dict.fromkeys(instruments))
    with ThreadPoolExecutor(concurrent) as pool:
        found = pool.map(lambda each: trio.run(bucket.manifest, each), each_once)
        return dict(zip(each_once, found, strict=True))


def _gaps(
    instrument: Instrument, lines: Mapping[date, ManifestDay] | None, start_ms: int, stop_ms: int
) -> Iterator[str]:
    if lines is None:
        yield f"{instrument}: no manifest (backfilld catalog makes it)"
        return
    known = sorted(lines)
    for day in days_from(day_of(start_ms), day_of(stop_ms - 1)):
        if day not in lines and not _is_proven_empty(day, known, lines):
            yield f"{instrument} {day}: not in the manifest"


def _is_proven_empty(day: date, known: Sequence[date], lines: Mapping[date, ManifestDay]) -> bool:
    """Whether the ids of the days around it adjoin: then nothing was traded between them."""
    earlier = max((each for each in known if each < day), default=None)
    later = min((each for each in known if each > day), default=None)
    return earlier is not None and later is not None and has_no_room(lines[earlier], lines[later])


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads days in their sequence. The first one alone, so that its rows come soon; then some ahead."""

    bucket: DaysInBucket
    days: Sequence[_Day]
    start_ms: int
    stop_ms: int
    concurrent: int

    def pieces(self) -> Iterator[pl.DataFrame]:
        """The rows of the span, a row group at a time."""
        inside = pl.col("T").is_between(self.start_ms, self.stop_ms, closed="left")
        for each, body in self._bodies():
            names = {"market": str(each.instrument.market), "symbol": each.instrument.symbol}
            for piece in _row_groups(each, body, self.bucket.encoding.keys):
                yield piece.filter(inside).with_columns(pl.lit(text).alias(name) for name, text in names.items())

    def _bodies(self) -> Iterator[tuple[_Day, bytes]]:
        coming = iter(self.days)
        ahead: deque[tuple[_Day, Future[bytes]]] = deque()
        with ThreadPoolExecutor(self.concurrent) as pool:
            try:
                ahead += [(each, pool.submit(self._get, each)) for each in islice(coming, 1)]
                while ahead:
                    each, body = ahead.popleft()
                    yield each, body.result()
                    for following in islice(coming, self._room(ahead)):
                        ahead.append((following, pool.submit(self._get, following)))
            finally:
                # A reader that has seen enough does not wait for what is under way.
                pool.shutdown(wait=False, cancel_futures=True)

    def _room(self, ahead: Sequence[tuple[_Day, object]]) -> int:
        if sum(each.line.bytes for each, _ in ahead) > READ_AHEAD_BYTES:
            return 0 if ahead else 1
        return max(0, self.concurrent - len(ahead))

    def _get(self, each: _Day) -> bytes:
        found = trio.run(partial(self.bucket.objects.get, each.line.key, limit_bytes=MAX_DAY_BYTES))
        if found is None:
            raise ObjectRefused(f"{each.line.key} is in the manifest and not in the bucket; run backfilld catalog")
        return found.body


def _row_groups(each: _Day, body: bytes, keys: KeyRing) -> Iterator[pl.DataFrame]:
    """The rows of an object. Raises ObjectRefused, at the latest after the last of them, whose digest is known then."""
    with tempfile.NamedTemporaryFile(prefix="backfilld-scan-") as file:
        file.write(body)
        file.flush()
        try:
            with DayReader(Path(file.name), each.line.day, each.instrument, keys) as reader:
                _refuse_others(each, reader.checked().digest)
                digest = RowsDigest()
                for piece in reader.row_groups():
                    digest.add(piece)
                    yield piece
                _refuse_others(each, digest.hexdigest())
        except UntrustedFile as error:
            raise ObjectRefused(f"{each.line.key}: {error}") from error


def _refuse_others(each: _Day, digest: str | None) -> None:
    if digest != each.line.digest:
        raise ObjectRefused(f"{each.line.key} has other rows than the manifest names; run backfilld catalog")
