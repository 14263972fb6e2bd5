"""The trades of one instrument: a past, and a future that appears as time passes.

Owns which rows can be seen at an instant. Must not know of HTTP, of markets or of who asks.

The tape is append-only in ids, and a row can be seen once every row up to it has ``T`` at or before the server's now:
what was visible once stays, and never changes. Live trades are made in chunks of ten seconds, each a function of the
seed and its place on the time axis, so two tapes with equal parameters agree at every instant, however they are asked.
"""

from array import array
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import accumulate

import polars as pl

from binance_simulator.generation import Cursor, Grid, Stretch, generated_rows, marked_rows
from binance_simulator.model import MS_PER_DAY, SCHEMA, day_start_ms

CHUNK_MS = 10_000
_MOST_PIECES = 32
_MOST_DIGITS = 8


@dataclass(frozen=True, slots=True)
class LiveTrades:
    """The growth of a tape: ``rate_per_s`` trades per second, from ``start_ms`` on."""

    start_ms: int
    rate_per_s: float
    seed: int = 0

    def rows_before_chunk(self, chunk: int) -> int:
        """Rows in all the chunks before this one; the rate is kept over any number of chunks."""
        return int(chunk * CHUNK_MS * self.rate_per_s / 1000)

    def stretch(self, chunk: int) -> Stretch:
        """The rows of one chunk of ten seconds."""
        rows = self.rows_before_chunk(chunk + 1) - self.rows_before_chunk(chunk)
        return Stretch(self.start_ms + chunk * CHUNK_MS, CHUNK_MS, rows)


class Tape:
    """Trades of one instrument with SCHEMA, in ascending id, growing with time.

    Build one with ``generate``, ``generate_days`` or ``from_frame``. ``grid`` holds the tick size and the lot size;
    ``ids`` and ``times_ms`` are the columns a and T of ``frame``, quick to search; ``is_chronological`` says whether T
    never decreases along the ids, ``restart_row`` where the newest run of ids begins. They grow with the
    frame and are only to be read.
    """

    def __init__(self, frame: pl.DataFrame, grid: Grid, live: LiveTrades | None, cursor: Cursor) -> None:
        self.grid = grid
        self._frame = frame
        self._live = live
        self._cursor = cursor
        self._chunks_made = 0
        self.ids = array("q")
        self.times_ms = array("q")
        self._latest_ms = self.times_ms
        self.is_chronological = True
        self.restart_row = 0
        self._index(frame)

    @classmethod
    def generate(
        cls,
        *,
        start_ms: int,
        stop_ms: int,
        trades: int,
        seed: int = 0,
        first_id: int = 3_800_397_495,
        tick: float | str | Decimal = "0.01",
        lot: float | str | Decimal = "0.00001",
        price: float = 87_648.21,
        markers: int = 0,
        live_rate_per_s: float = 0.0,
        price_precision: int | None = None,
    ) -> "Tape":
        """``trades`` trades in the half-open span from ``start_ms`` to ``stop_ms``, then live ones at the given rate.

        ``markers`` of them are the exchange's marker rows. Equal arguments give equal tapes.
        """
        grid = Grid.of(tick, lot, price_precision)
        live = LiveTrades(stop_ms, live_rate_per_s, seed) if live_rate_per_s > 0 else None
        cursor = _first_cursor(first_id, price, grid)
        return cls._of_stretches([Stretch(start_ms, stop_ms - start_ms, trades)], seed, grid, cursor, markers, live)

    @classmethod
    def generate_days(
        cls,
        *,
        first_day: date,
        stop_ms: int,
        trades_per_day: int,
        seed: int = 0,
        first_id: int = 3_800_397_495,
        tick: float | str | Decimal = "0.01",
        lot: float | str | Decimal = "0.00001",
        price: float = 87_648.21,
        markers: int = 0,
        live_rate_per_s: float = 0.0,
        price_precision: int | None = None,
    ) -> "Tape":
        """``trades_per_day`` trades in each UTC day from ``first_day`` on, up to ``stop_ms``, then live ones.

        The last day, if it is not whole, has its part of them. Equal arguments give equal tapes; a later ``stop_ms``
        changes no row of the days that were whole, if there are no markers.
        """
        grid = Grid.of(tick, lot, price_precision)
        live = LiveTrades(stop_ms, live_rate_per_s, seed) if live_rate_per_s > 0 else None
        stretches = []
        for start_ms in range(day_start_ms(first_day), stop_ms, MS_PER_DAY):
            span_ms = min(MS_PER_DAY, stop_ms - start_ms)
            stretches.append(Stretch(start_ms, span_ms, trades_per_day * span_ms // MS_PER_DAY))
        return cls._of_stretches(stretches, seed, grid, _first_cursor(first_id, price, grid), markers, live)

    @classmethod
    def _of_stretches(
        cls, stretches: list[Stretch], seed: int, grid: Grid, cursor: Cursor, markers: int, live: LiveTrades | None
    ) -> "Tape":
        frame, after = generated_rows(seed, grid, cursor, stretches)
        if markers:
            frame = marked_rows(frame, seed, markers)
            after = _cursor_behind(frame, grid, after)
        return cls(frame, grid, live, after)

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        *,
        tick: float | str | Decimal | None = None,
        lot: float | str | Decimal | None = None,
        live_rate_per_s: float = 0.0,
        live_start_ms: int | None = None,
        seed: int = 0,
        restarts: bool = False,
    ) -> "Tape":
        """A hand-made tape: rows appear when their T comes; live trades, if any, follow the last row.

        Live trades begin at ``live_start_ms``, by default at once after the last row: name a later instant for a
        frame from long ago, or the whole silence since is filled. Ids must ascend strictly, but may leave holes, and
        T may go back; with ``restarts`` ids may begin again below the last one.
        Tick and lot are by default the powers of ten that hold every p and q. Raises ValueError for
        ids that do not ascend, polars' errors for other columns.
        """
        frame = frame.select(list(SCHEMA)).cast(pl.Schema(SCHEMA)).rechunk()
        if not restarts and not (frame["a"].diff().drop_nulls() > 0).all():
            raise ValueError("the ids of a tape must ascend: column a does not")
        grid = Grid.of(_step(frame["p"]) if tick is None else tick, _step(frame["q"]) if lot is None else lot)
        cursor = _cursor_behind(frame, grid, Cursor(frame.height, 0, 0, int(1 / grid.tick)))
        live = None
        if live_rate_per_s > 0:
            begins_ms = _last_ms(frame) + 1 if live_start_ms is None else live_start_ms
            live = LiveTrades(begins_ms, live_rate_per_s, seed)
        return cls(frame, grid, live, cursor)

    @property
    def frame(self) -> pl.DataFrame:
        """Every row made so far, also those whose time has not come. Rows are only ever added."""
        return self._frame

    def append(self, rows: pl.DataFrame) -> None:
        """Add rows by hand behind the last one. Raises ValueError unless their ids ascend from there.

        They are visible from their T on. Meant for tapes without live trades.
        """
        rows = rows.select(list(SCHEMA)).cast(pl.Schema(SCHEMA))
        if not (pl.concat([self.frame["a"].tail(1), rows["a"]]).diff().drop_nulls() > 0).all():
            raise ValueError("the ids of a tape must ascend: appended rows do not follow the last one")
        self._extend(rows)
        self._cursor = _cursor_behind(self._frame, self.grid, self._cursor)

    def rows_visible(self, now_ms: int) -> int:
        """How many rows can be seen at the server's ``now_ms``: the first so many of ``frame``."""
        self._grow(now_ms)
        return bisect_right(self._latest_ms, now_ms)

    def visible(self, now_ms: int) -> pl.DataFrame:
        """The rows that can be seen at the server's ``now_ms``."""
        rows = self.rows_visible(now_ms)
        return self._frame.head(rows)

    def _grow(self, now_ms: int) -> None:
        if self._live is None:
            return
        chunks_due = (now_ms - self._live.start_ms) // CHUNK_MS + 1
        if chunks_due <= self._chunks_made:
            return
        stretches = [self._live.stretch(chunk) for chunk in range(self._chunks_made, chunks_due)]
        rows, self._cursor = generated_rows(self._live.seed, self.grid, self._cursor, stretches)
        self._chunks_made = chunks_due
        if rows.height:
            self._extend(rows)

    def _extend(self, rows: pl.DataFrame) -> None:
        self._frame = self._frame.vstack(rows)
        if self._frame.n_chunks() > _MOST_PIECES:
            self._frame = self._frame.rechunk()
        self._index(rows)

    def _index(self, added: pl.DataFrame) -> None:
        """Note the latest T up to each row too: a row behind one of the future cannot be seen before it."""
        was_latest_ms = self.times_ms[-1:]
        self.restart_row = max([self.restart_row, *(len(self.ids) + (added["a"].diff() < 0).arg_true()).to_list()])
        self.ids.extend(added["a"].to_list())
        self.times_ms.extend(added["T"].to_list())
        follows = not was_latest_ms or added.is_empty() or added["T"][0] >= was_latest_ms[0]
        if self.is_chronological and not (follows and added["T"].is_sorted()):
            self.is_chronological = False
        if not self.is_chronological:
            self._latest_ms = array("q", accumulate(self.times_ms, max))


def _first_cursor(first_id: int, price: float, grid: Grid) -> Cursor:
    return Cursor(0, first_id, first_id + first_id // 2, int(Decimal(str(price)) / grid.tick))


def _cursor_behind(frame: pl.DataFrame, grid: Grid, cursor: Cursor) -> Cursor:
    """The cursor that continues a frame; what an empty frame cannot tell comes from ``cursor``."""
    if frame.is_empty():
        return cursor
    prices = frame["p"].filter(frame["p"] > 0)
    walk_ticks = round(prices[-1] / float(grid.tick)) if prices.len() else cursor.walk_ticks
    last_id, last_trade_id = frame.select(pl.col("a").last(), pl.col("l").max()).row(0)
    return Cursor(cursor.row, last_id + 1, max(last_trade_id + 1, cursor.row), walk_ticks, bool(frame["m"][-1]))


def _last_ms(frame: pl.DataFrame) -> int:
    last_ms = frame.select(pl.col("T").max()).item()
    if last_ms is None:
        raise ValueError("a tape without rows needs live_start_ms: its live trades follow nothing")
    return int(last_ms)


def _step(column: pl.Series) -> Decimal:
    """The largest power of ten, from 1 to 1e-8, of which every value is a multiple."""
    for digits in range(_MOST_DIGITS):
        if (column.round(digits) == column).all():
            return Decimal(1).scaleb(-digits)
    return Decimal(1).scaleb(-_MOST_DIGITS)
