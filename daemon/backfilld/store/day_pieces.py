"""One stored day as pieces of contiguous ids, for the endpoint, which reads a few rows of it at a time.

Owns what a piece of a file or of a journal proves. Synchronous; reads and changes nothing. What is in no piece is not
served.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import polars as pl

from backfilld.core.day.anomalies import MARKER
from backfilld.core.day.certificate import Certificate
from backfilld.core.model import IdRange, Instrument
from backfilld.core.serving.timeline import Piece
from backfilld.core.timespan import StoredSpan
from backfilld.store.format.day_reader import GroupEdges
from backfilld.store.format.dayfile import spans_of
from backfilld.store.format.footer import UntrustedFile
from backfilld.store.layout import Stamp, stamp_of
from backfilld.store.manager import BackfillCacheManager

_OUT_OF_TIME = {"time_inversions", "markers"}
"""Findings of a day whose times do not ascend with the ids, or may not."""

MOST_JOURNALED = 400_000
"""Rows of a journal that are kept in memory for one day, 20 MB: the newest of them."""

Stamps = tuple[Stamp | None, Stamp | None]
"""Of the day file and of its journal."""


@dataclass(frozen=True, slots=True)
class GroupKey:
    """A row group of a file; another file at the same place has another stamp."""

    instrument: Instrument
    day: date
    number: int
    stamp: Stamp | None


@dataclass(slots=True, eq=False)
class FrameKey:
    """Rows in memory, and their bars of a minute once somebody has made them."""

    trades: pl.DataFrame
    minutes: pl.DataFrame | None = None

    def rows(self, ids: IdRange) -> pl.DataFrame:
        """The trades with these ids, which must be here."""
        return self.trades if self.trades.height == len(ids) else rows_of(self.trades, ids)


def rows_of(trades: pl.DataFrame, ids: IdRange) -> pl.DataFrame:
    """As many trades as the ids are, from the first id on."""
    return trades.slice(bisect_left(trades["a"], ids.first_id), len(ids))


@dataclass(frozen=True, slots=True)
class DayPieces:
    """A day as it stood when it had these stamps."""

    stamps: Stamps
    pieces: Sequence[Piece] = ()
    absent: Sequence[IdRange] = ()
    is_chronological: bool = True


def stamps_of(manager: BackfillCacheManager, day: date) -> Stamps:
    """What changes when the day does."""
    return stamp_of(manager.get_cache_path(day)), stamp_of(manager.journal_path(day))


def day_pieces(manager: BackfillCacheManager, instrument: Instrument, day: date) -> DayPieces:
    """The pieces of a day. Raises UntrustedFile, DayLocked, StoreError."""
    stamps = stamps_of(manager, day)
    with manager.reading(day) as reader:
        certificate, within = reader.certificate, reader.spans_in_file
        edges, beside = reader.edges(), reader.beside_file().tail(MOST_JOURNALED)
    in_file = _in_groups(edges, within, [GroupKey(instrument, day, at, stamps[0]) for at in range(len(edges))])
    found: list[tuple[StoredSpan, GroupKey | FrameKey]] = sorted(
        [*in_file, *pieces_of(beside)], key=lambda each: each[0].ids.first_id
    )
    ordered = (
        not _OUT_OF_TIME & certificate.findings.keys()
        and are_chronological(beside)
        and all(before.last_ms <= after.first_ms for (before, _), (after, _) in pairwise(found))
    )
    pieces = [_placed(span, key, certificate, is_chronological=ordered) for span, key in found]
    return DayPieces(stamps, pieces, certificate.absent, ordered)


def are_chronological(trades: pl.DataFrame) -> bool:
    """Whether the times ascend with the ids, and no row is a filler."""
    return trades["T"].is_sorted() and not bool(trades.select(MARKER.any()).item())


def pieces_of(trades: pl.DataFrame) -> Iterator[tuple[StoredSpan, FrameKey]]:
    """Rows in memory, cut where ids are missing."""
    start = 0
    for span in spans_of(trades):
        yield span, FrameKey(trades.slice(start, len(span.ids)))
        start += len(span.ids)


def group_rows(manager: BackfillCacheManager, key: GroupKey) -> pl.DataFrame:
    """The trades of a row group. Raises UntrustedFile where the file is another one by now, and what a file raises."""
    with manager.reading(key.day) as reader:
        if stamp_of(manager.get_cache_path(key.day)) != key.stamp:
            raise UntrustedFile("it was replaced meanwhile")
        edges, trades = reader.edges()[key.number], reader.row_group(key.number)
    ids = trades["a"]
    if ids.is_empty() or IdRange(ids[0], ids[-1]) != edges.ids or not (ids.diff().drop_nulls() > 0).all():
        raise UntrustedFile("its ids do not ascend")
    return trades


def _in_groups(
    edges: Sequence[GroupEdges], spans: Sequence[StoredSpan], keys: Sequence[GroupKey]
) -> Iterator[tuple[StoredSpan, GroupKey]]:
    """The parts of the spans that lie in each row group."""
    for group, key in zip(edges, keys, strict=True):
        for span in spans:
            first_id = max(group.ids.first_id, span.ids.first_id)
            last_id = min(group.ids.last_id, span.ids.last_id)
            if first_id <= last_id:
                first_ms = span.first_ms if first_id == span.ids.first_id else group.first_ms
                last_ms = span.last_ms if last_id == span.ids.last_id else group.last_ms
                yield StoredSpan(IdRange(first_id, last_id), first_ms, last_ms), key


def _placed(span: StoredSpan, key: GroupKey | FrameKey, certificate: Certificate, *, is_chronological: bool) -> Piece:
    return Piece(
        span.ids,
        span.first_ms,
        span.last_ms,
        key,
        certificate.day,
        opens=certificate.opened and span.ids.first_id == certificate.first_id,
        closes=certificate.closed and span.ids.last_id == certificate.last_id,
        is_chronological=is_chronological,
    )
