"""``backfilld.scan``: days of trades as a polars LazyFrame, and never a day that silently lacks something.

Owns what a caller hears of a stretch of time that is not complete. What is complete is for
:mod:`backfilld.store.shelf` to say.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from backfilld.core.frame import SCHEMA
from backfilld.core.model import Instrument
from backfilld.core.moments import Moment, moment_ms
from backfilld.errors import BackfillIncomplete, SettingsError
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of
from backfilld.settings.rules import instrument_of
from backfilld.store.format.dayfile import Encoding
from backfilld.store.shelf import Shelf, lazy_of

Incomplete = Literal["raise", "warn"]
"""What a scan does about a span that lacks something."""

_NAMED = 5
"""How many of the missing stretches a message names."""


class IncompleteSpan(UserWarning):
    """A scan lacks trades of the time that was asked for; the message names what is missing."""


def scan(
    instrument: Instrument | str | Sequence[Instrument | str],
    start: Moment,
    stop: Moment,
    *,
    cache_dir: str | Path | None = None,
    settings: Settings | None = None,
    incomplete: Incomplete = "raise",
    times: bool = False,
    remote: bool = False,
) -> pl.LazyFrame:
    """The trades with start <= T < stop, by id, read when collected; a filter on any column skips what it can.

    ``start`` and ``stop`` are aware datetimes, ISO 8601 text of such, dates for the midnight (UTC) at which they begin,
    or numpy's datetime64 in UTC. An instrument is ``market:SYMBOL``; ``BTC/USDT`` and lower case are understood. With
    ``times`` the column ``time`` has T as a datetime in UTC besides. Of a sequence of instruments come the trades of
    one after the other, with the columns ``market`` and ``symbol`` besides. The cache is ``cache_dir``, or that of the
    settings, or of the settings in force here. With ``remote`` the sealed days of the bucket (REMOTE_URL) are read
    instead, each object once, by the manifests: nothing is listed.

    Raises BackfillIncomplete if any trade of the time could be missing, naming what is, and DayLocked for a day that no
    key opens; with ``incomplete="warn"`` it gives what is stored and warns of the rest (IncompleteSpan). Raises
    SettingsError for a naive datetime, an empty span and what is not an instrument, and with ``remote`` RemoteError for
    the bucket.

    Examples:
        >>> import polars as pl
        >>> day = scan("spot:BTCUSDT", "2025-11-07", "2025-11-08")
        >>> day.select(vwap=(pl.col("p") * pl.col("q")).sum() / pl.col("q").sum()).collect().shape
        (1, 1)
        >>> scan("spot:BTCUSDT", "2025-10-01", "2025-10-02")
        Traceback (most recent call last):
        backfilld.errors.BackfillIncomplete: ...
    """
    start_ms, stop_ms = moment_ms(start), moment_ms(stop)
    if incomplete not in {"raise", "warn"}:
        raise SettingsError(f"incomplete = {incomplete!r}: it must be 'raise' or 'warn'")
    if start_ms >= stop_ms:
        raise SettingsError(f"the span from {start} to {stop} is empty: start must be before stop")
    wanted = [instrument] if isinstance(instrument, str | bytes) or not isinstance(instrument, Sequence) else instrument
    instruments = list(map(instrument_of, wanted))
    if not instruments:
        raise SettingsError("name at least one instrument, such as spot:BTCUSDT")
    settings = settings or Settings()
    if remote:
        within = _in_bucket(instruments, start_ms, stop_ms, settings, incomplete)
    else:
        root = Path(cache_dir) if cache_dir is not None else settings.cache_dir
        within = _in_cache(root, encoding_of(settings), instruments, start_ms, stop_ms, incomplete)
    chosen = within.select(list(SCHEMA)) if wanted == [instrument] else within
    return chosen.with_columns(pl.col("T").cast(pl.Datetime("ms", "UTC")).alias("time")) if times else chosen


def _in_cache(
    root: Path,
    encoding: Encoding,
    instruments: Sequence[Instrument],
    start_ms: int,
    stop_ms: int,
    incomplete: Incomplete,
) -> pl.LazyFrame:
    shelves = [Shelf(root, each, encoding, is_strict=incomplete == "raise") for each in instruments]
    _tell(
        [gap for shelf in shelves for gap in shelf.gaps(start_ms, stop_ms)],
        incomplete,
        f"the cache {root}{'' if root.is_dir() else ', which is not a directory,'}",
    )
    frame = lazy_of([source for shelf in shelves for source in shelf.sources(start_ms, stop_ms)])
    if all(shelf.are_exactly(start_ms, stop_ms) for shelf in shelves):
        return frame
    return frame.filter(pl.col("T").is_between(start_ms, stop_ms, closed="left"))


def _in_bucket(
    instruments: Sequence[Instrument], start_ms: int, stop_ms: int, settings: Settings, incomplete: Incomplete
) -> pl.LazyFrame:
    from backfilld.adapters.bucket_days import DaysInBucket  # noqa: PLC0415 - an extra
    from backfilld.adapters.bucket_scan import scan_bucket  # noqa: PLC0415
    from backfilld.assembly import object_store_of  # noqa: PLC0415

    bucket = DaysInBucket(object_store_of(settings), encoding_of(settings))
    gaps, frame = scan_bucket(bucket, instruments, start_ms, stop_ms, settings.remote_concurrent)
    _tell(gaps, incomplete, "the bucket")
    return frame


def _tell(gaps: Sequence[str], incomplete: Incomplete, where: str) -> None:
    if not gaps:
        return
    more = f" and {len(gaps) - _NAMED} more" if len(gaps) > _NAMED else ""
    sentence = f"{where} does not hold all of the span: {'; '.join(gaps[:_NAMED])}{more}"
    if incomplete == "raise":
        error = BackfillIncomplete(sentence)
        error.add_note("backfilld.fetch (or backfilld fill on the command line) fetches and stores what is missing")
        raise error
    warnings.warn(sentence, IncompleteSpan, stacklevel=4)
