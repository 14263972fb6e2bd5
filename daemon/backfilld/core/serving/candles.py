"""Candles of stored trades, in exact integers, as the exchange writes them on spot.

Owns the arithmetic. Prices and quantities are integers of the eighth decimal and products are exact, so a sum does not
depend on the order of its parts. Marker rows are not trades. An interval without a trade repeats the last close.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from backfilld.core.day.anomalies import MARKER
from backfilld.core.serving.intervals import Interval
from backfilld.core.serving.live_candles import LiveCandle, units_text
from backfilld.core.serving.questions import CandlesQuestion
from backfilld.core.serving.texts import DIGITS, units
from backfilld.core.serving.timeline import Piece, Timeline

MINUTE_MS = 60_000

_SUMS = {
    "o": pl.col("o").first(),
    "h": pl.col("h").max(),
    "l": pl.col("l").min(),
    "c": pl.col("c").last(),
    "v": pl.col("v").sum(),
    "x": pl.col("x").sum(),
    "n": pl.col("n").sum(),
    "tv": pl.col("tv").sum(),
    "tx": pl.col("tx").sum(),
    "fi": pl.col("fi").first(),
    "la": pl.col("la").last(),
}

Bars = pl.DataFrame
"""A row per span with trades: ``t`` its start in ms, o h l c v and taker volume ``tv`` in units of 1e-8, quote volumes
``x`` and ``tx`` in units of 1e-16, ``n`` trades, the ids ``fi`` and ``la`` of the first and the last single trade."""

Span = tuple[int, int]
"""The open time of the first candle, and the one after the last."""


def bars_of(trades: pl.DataFrame, span_ms: int) -> Bars:
    """Bars of trades in the order of their ids, on a grid of UTC."""
    traded = trades.filter(~MARKER)
    price = units(traded["p"]).to_physical().cast(pl.Int128)
    quantity = units(traded["q"]).to_physical().cast(pl.Int128)
    taken = traded["m"].not_().cast(pl.Int128)
    rows = pl.DataFrame(
        {
            "t": traded["T"] - traded["T"] % span_ms,
            **dict.fromkeys(("o", "h", "l", "c"), price),
            "v": quantity,
            "x": price * quantity,
            "n": traded["l"] - traded["f"] + 1,
            "tv": quantity * taken,
            "tx": price * quantity * taken,
            "fi": traded["f"],
            "la": traded["l"],
        }
    )
    return rows.group_by("t", maintain_order=True).agg(**_SUMS)


def span_asked(question: CandlesQuestion, earliest_ms: int, latest_ms: int) -> Span | None:
    """Which candles are asked for, if now is between these two instants of the exchange's clock; None where the two
    make a difference, and where there are none."""
    spans = {_span_asked(question, now_ms) for now_ms in (earliest_ms, latest_ms)}
    return spans.pop() if len(spans) == 1 else None


def _span_asked(question: CandlesQuestion, now_ms: int) -> Span | None:
    interval = question.interval
    last_ms = interval.open_ms(now_ms if question.end_ms is None else min(question.end_ms, now_ms))
    if question.start_ms is None:
        return interval.after_ms(last_ms, 1 - question.limit), interval.next_ms(last_ms)
    open_ms = interval.open_ms(question.start_ms)
    first_ms = open_ms if open_ms == question.start_ms else interval.next_ms(open_ms)
    if first_ms > last_ms:
        return None
    return first_ms, min(interval.after_ms(first_ms, question.limit), interval.next_ms(last_ms))


def pieces_for(span: Span, timeline: Timeline) -> Sequence[Piece] | None:
    """The pieces that have all trades of the span, and the one before it if there is one; None where that is not
    proven."""
    start_ms, stop_ms = span
    first, last = timeline.from_ms(start_ms), timeline.up_to_ms(stop_ms - 1)
    if first is None or last is None:
        return None
    if first == len(timeline.pieces) or (first > 0 and timeline.adjoins(first - 1)):
        first -= 1
    whole = all(timeline.adjoins(at) for at in range(first, last))
    return timeline.pieces[first : last + 1] if whole and timeline.are_chronological(first, last) else None


def candles(interval: Interval, span: Span, bars: Sequence[Bars]) -> list[list[object]] | None:
    """The candles of the span, from bars in the order of their ids; None where the close before it is not known."""
    start_ms, stop_ms = span
    every = pl.concat(bars) if bars else bars_of_nothing()
    before = every.filter(pl.col("t") < start_ms)
    close = None if before.is_empty() else int(before["c"][-1])
    within = every.filter(pl.col("t").is_between(start_ms, stop_ms, closed="left"))
    opens = [interval.open_ms(time_ms) for time_ms in within["t"]]
    found = within.with_columns(t=pl.Series(opens, dtype=pl.Int64)).group_by("t", maintain_order=True).agg(**_SUMS)
    by_open = {row["t"]: row for row in found.iter_rows(named=True)}
    return list(_filled(interval, span, by_open, close)) if close is not None or start_ms in by_open else None


def bars_of_nothing() -> Bars:
    """No bars."""
    whole = ("o", "h", "l", "c", "v", "x", "tv", "tx")
    sums, ids = dict.fromkeys(whole, pl.Int128()), dict.fromkeys(("n", "fi", "la"), pl.Int64())
    return pl.DataFrame(schema={"t": pl.Int64(), **sums, **ids}).select("t", *_SUMS)


def current(span: Span, bars: Sequence[Bars]) -> LiveCandle | None:
    """The candle that goes on now; None where not even a close before it is known."""
    every = pl.concat(bars) if bars else bars_of_nothing()
    found = every.filter(pl.col("t") >= span[0]).select(**_SUMS).row(0, named=True)
    if found["o"] is not None:
        return LiveCandle.of(*span, found)
    return LiveCandle.empty(*span, int(every["c"][-1])) if every.height else None


def _filled(
    interval: Interval, span: Span, by_open: dict[int, dict[str, int]], close: int | None
) -> Iterator[list[object]]:
    open_ms, stop_ms = span
    while open_ms < stop_ms:
        next_ms = interval.next_ms(open_ms)
        found = by_open.get(open_ms)
        if found is not None:
            close = found["c"]
            yield candle_row(open_ms, next_ms, found)
        elif close is not None:
            yield candle_row(open_ms, next_ms, {"o": close, "h": close, "l": close, "c": close})
        open_ms = next_ms


def candle_row(open_ms: int, next_ms: int, found: dict[str, int]) -> list[object]:
    """A candle as the exchange's array."""
    prices = [units_text(found[name]) for name in ("o", "h", "l", "c")]
    volume, taken = units_text(found.get("v", 0)), units_text(found.get("tv", 0))
    quote, quote_taken = units_text(found.get("x", 0) // 10**DIGITS), units_text(found.get("tx", 0) // 10**DIGITS)
    return [open_ms, *prices, volume, next_ms - 1, quote, found.get("n", 0), taken, quote_taken, "0"]
