"""One published day on disk, read in order of its ids whatever order the file has.

Owns putting rows in order and collapsing those that share an id, at bounded memory: a file in order, as nearly all are,
is gone through once; another one once for each half a million ids.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import TypeVar

import polars as pl

from backfilld.core.frame import empty_trades
from backfilld.core.model import INT64_MAX, IdRange
from backfilld.errors import ArchiveError
from backfilld.store.archive_import.archive_csv import trade_frames
from backfilld.store.archive_import.archive_findings import ANY_ID, Audit, Findings, Intake, Repeats, once

T = TypeVar("T")

BUCKET_ROWS = 1 << 19
"""How many rows of a file out of order are put in order at once."""


class ArchiveDay:
    """The zip at ``path``, published for a day. ``findings`` are there when it was read to its end, and
    ``strays``, rows near a midnight that were left out for their ids.

    Ids that are not ``within`` those that the day can have are another day's: the exchange has used ids twice, on both
    sides of a midnight. So are those from ``behind_id`` on, where their time is near the end of the day.
    """

    def __init__(self, path: Path, day: date, *, within: IdRange = ANY_ID, behind_id: int = INT64_MAX) -> None:
        self.path = path
        self.day = day
        self.findings = Findings()
        self.strays = empty_trades()
        self._within = within
        self._behind_id = behind_id

    def read(self, use: Callable[[Iterator[pl.DataFrame]], T]) -> T:
        """What ``use`` makes of the trades of the day: frames that ascend strictly in ``a`` throughout, each id once.

        ``use`` is called a second time, to begin anew, if the rows turn out to be out of order when some were given
        already. Raises ArchiveError, which may be at the end: nothing of such a file may be kept. Raises StoreError.
        """
        try:
            with closing(self._in_one_pass()) as trades:
                return use(trades)
        except _OutOfOrder:
            with closing(self._in_buckets()) as trades:
                return use(trades)

    def first_id(self) -> int | None:
        """The lowest id of the day in the first rows of the file; None if none of them is of the day."""
        intake = self._intake()
        with closing(trade_frames(self.path)) as frames:
            firsts = (frame["a"].min() for frame in filter(_has_rows, map(intake.admitted, frames)))
            return next((int(first) for first in firsts), None)  # type: ignore[arg-type]

    def _intake(self) -> Intake:
        return Intake(self.day, self._within, self._behind_id)

    def _in_one_pass(self) -> Generator[pl.DataFrame, None, None]:
        intake, audit, repeats = self._intake(), Audit(), Repeats()
        last = empty_trades()
        with closing(trade_frames(self.path)) as frames:
            for frame in filter(_has_rows, map(intake.admitted, frames)):
                piece = _ordered(frame, last, repeats)
                if piece.height:
                    last = piece[-1:]
                    yield audit.take(piece)
        self._conclude(audit.findings(intake, repeats), intake)

    def _in_buckets(self) -> Generator[pl.DataFrame, None, None]:
        intake, audit, repeats = self._intake(), Audit(), Repeats()
        bucket = _Bucket(-1)
        while bucket.is_cut or bucket.last_id < 0:
            intake = self._intake()
            bucket = _Bucket(bucket.last_id)
            with closing(trade_frames(self.path)) as frames:
                for frame in filter(_has_rows, map(intake.admitted, frames)):
                    bucket.add(frame)
            trades, others = bucket.emptied()
            repeats.add(others)
            yield audit.take(trades)
        self._conclude(audit.findings(intake, repeats), intake)

    def _conclude(self, findings: Findings, intake: Intake) -> None:
        if not findings.given:
            raise ArchiveError(f"{self.path.name} holds no trade of {self.day}", kind="empty")
        self.findings, self.strays = findings, intake.strays


def _has_rows(frame: pl.DataFrame) -> bool:
    return frame.height > 0


class _OutOfOrder(Exception):
    """A row came whose place in the order of ids was given already."""


def _ordered(frame: pl.DataFrame, last: pl.DataFrame, repeats: Repeats) -> pl.DataFrame:
    """The rows in order, each id once, all above that of ``last``, the row that was given last."""
    ids = frame["a"]
    if (last.is_empty() or ids[0] > last["a"][0]) and (ids[1:] > ids[:-1]).all():
        return frame
    kept, others = once(pl.concat([last, frame]))
    if last.height and kept["a"][0] < last["a"][0]:
        raise _OutOfOrder
    repeats.add(others)
    return kept[last.height :]


class _Bucket:
    """The rows with the BUCKET_ROWS lowest ids above ``after_id``, out of rows in any order."""

    def __init__(self, after_id: int) -> None:
        self.last_id = after_id
        self.is_cut = False
        """Whether there are rows above those kept."""
        self._after_id = after_id
        self._kept = empty_trades()
        self._others = once(empty_trades())[1]
        self._pending: list[pl.DataFrame] = []
        self._pending_rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Rows in any order."""
        wanted = frame["a"] > self._after_id
        if self.is_cut:
            wanted &= frame["a"] <= self.last_id
        kept = frame.filter(wanted)
        self._pending.append(kept)
        self._pending_rows += kept.height
        if self._pending_rows > BUCKET_ROWS:
            self._compact()

    def emptied(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows, each id once and in order, and the others that share their ids (see :func:`once`)."""
        self._compact()
        return self._kept, self._others.sort("a", maintain_order=True)

    def _compact(self) -> None:
        """The rows kept so far stand first, as they did in the file."""
        kept, others = once(pl.concat([self._kept, *self._pending]))
        self.is_cut |= kept.height > BUCKET_ROWS
        self._kept = kept[:BUCKET_ROWS]
        self.last_id = self._kept["a"][-1]
        self._others = pl.concat([self._others, others]).filter(pl.col("a") <= self.last_id)
        self._pending, self._pending_rows = [], 0
