"""Repairing a cache: a day that is wrong is moved aside whole and filled again.

Five steps under one lock: verify; move aside the days whose files or rows are wrong; run the ordinary pipeline over
them, and over the days that lack something; join the published file where the exchange could not bring all; verify
again. A day that was readable and could not be filled again is put back.

The archive fills past days and costs no request weight. Only where our rows came from the exchange itself, and the
archive has others, is the exchange asked for the day again: it has the last word.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from backfilld.adapters.binance_archive import BinanceArchive, open_archive
from backfilld.assembly import parquet_store
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.model import Instrument, day_of
from backfilld.core.replication import DayName
from backfilld.core.timespan import TimeSpan
from backfilld.errors import ExchangeError, SettingsError, StoreError
from backfilld.ports import DayPublished
from backfilld.services.compare_archive import compare_with_archive
from backfilld.services.progress import Watch, unwatched
from backfilld.services.refill import run_once, windows
from backfilld.services.verify import Verified, day_files, verify_files
from backfilld.services.wrong_days import WrongDay, wrong_days
from backfilld.settings import Settings
from backfilld.settings.encoding import keys_of
from backfilld.store.atomic import is_there, move_aside, translated
from backfilld.store.layout import archive_directory, day_file_name, instrument_directory
from backfilld.store.lock import locked
from backfilld.store.upkeep.inspection import Finding


@dataclass(frozen=True, slots=True)
class Step:
    """What was done about a day, in a sentence."""

    instrument: Instrument
    day: date
    sentence: str


@dataclass(slots=True)
class Repaired:
    """How the cache stands afterwards, what was done to it, and why it is not more."""

    verified: Verified
    steps: list[Step] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


async def repair_cache(
    settings: Settings,
    instruments: Sequence[Instrument] | None,
    *,
    against_archive: bool,
    watch: Watch = unwatched,
) -> Repaired:
    """Verify, repair and verify again.

    Raises CacheLocked while another instance uses the cache, SettingsError where there is nothing to verify or no file
    may be written, and ExchangeError for an archive that cannot be reached.
    """
    if not settings.cache_enabled:
        raise SettingsError("cache_enabled = false: a repair writes day files, and none may be written")

    keys = keys_of(settings)

    async def look() -> Verified:
        began = time.perf_counter()
        # Blocks the loop, in which nothing else runs meanwhile.
        verified = verify_files(day_files(settings.cache_dir, instruments), watch, keys)
        if not against_archive:
            return verified
        comparisons = await compare_with_archive(settings, verified.days, watch)
        return verified.with_comparisons(comparisons, time.perf_counter() - began - verified.seconds)

    day_files(settings.cache_dir, instruments)  # before a lock file is made where there is no cache
    with locked(settings.cache_dir, settings.state_path):
        repaired = Repaired(await look())
        if repaired.verified.findings:
            await _repair(settings, repaired, look)
    return repaired


async def _repair(settings: Settings, repaired: Repaired, look: Callable[[], Awaitable[Verified]]) -> None:
    wrong = wrong_days(repaired.verified)
    moved: dict[DayName, Path] = {}
    try:
        moved.update(_move_aside(settings, wrong, repaired))
        asked = {key for key, each in wrong.items() if each.exchange_decides}
        await _fill(settings, sorted(wrong.keys() - asked), repaired)
        await _fill(settings, sorted(asked), repaired, uses_archive=False)
        # The futures answer nothing about a day beyond their lookback: there the archive's version is all there is.
        unanswered = sorted(key for key in asked if not is_there(_path(settings, key)))
        await _fill(settings, unanswered, repaired)
    finally:
        # Also of a repair that something ended early.
        for name, path in moved.items():
            _put_back(settings, name, path, repaired)
    repaired.verified = await look()
    joined = await _join_published(settings, sorted(wrong_days(repaired.verified)), repaired)
    if joined:
        repaired.verified = await look()
    if repaired.reasons:
        repaired.verified = repaired.verified.with_findings(_gone(settings, wrong))


# -- moving aside and putting back


def _move_aside(
    settings: Settings, wrong: Mapping[DayName, WrongDay], repaired: Repaired
) -> Iterator[tuple[DayName, Path]]:
    """Move the wrong files aside; yield where those that are sound went."""
    for (instrument, day), each in sorted(wrong.items()):
        if each.reason is None:
            continue
        target = move_aside(_path(settings, (instrument, day)))
        repaired.steps.append(Step(instrument, day, f"moved aside as {target.name}: {each.reason}"))
        if each.is_sound:
            yield (instrument, day), target


def _put_back(settings: Settings, key: DayName, moved: Path, repaired: Repaired) -> None:
    """Put a sound file back where the day could not be filled again."""
    path = _path(settings, key)
    try:
        if not is_there(path):
            with translated(moved, "put back"):
                moved.rename(path)
            repaired.steps.append(Step(*key, "put back: the day could not be filled again"))
    except StoreError as error:
        repaired.reasons.append(str(error))


def _gone(settings: Settings, wrong: Mapping[DayName, WrongDay]) -> Iterator[Finding]:
    """The days that were moved aside and are not there now, which no look at files shows."""
    for key, each in wrong.items():
        if each.reason is not None and not is_there(_path(settings, key)):
            sentence = "it was moved aside and could not be filled again: backfilld fill fetches it"
            yield Finding(*key, "incomplete", sentence)


def _path(settings: Settings, key: DayName) -> Path:
    instrument, day = key
    return instrument_directory(settings.cache_dir, instrument) / day_file_name(day)


# -- filling the days again


async def _fill(settings: Settings, days: Sequence[DayName], repaired: Repaired, *, uses_archive: bool = True) -> None:
    """Run the pipeline once over the days, span by span."""
    for window, instruments in windows(days):
        try:
            outcomes = await run_once(settings, window, instruments, uses_archive=uses_archive)
        except StoreError as error:
            repaired.reasons.append(str(error))
            continue
        for outcome in outcomes:
            repaired.outcomes.append(outcome)
            repaired.reasons.extend(f"{outcome.instrument}: {reason}" for reason in outcome.reasons)
            sentence = f"{outcome.downloaded:,} trades fetched, {outcome.requests} requests, weight {outcome.weight}"
            repaired.steps.append(Step(outcome.instrument, day_of(window.start_ms), f"{_until(window)}{sentence}"))


def _until(window: TimeSpan) -> str:
    first, last = day_of(window.start_ms), day_of((window.stop_ms or 1) - 1)
    return "" if first == last else f"to {last}: "


# -- joining what the exchange could not bring


async def _join_published(settings: Settings, days: Sequence[DayName], repaired: Repaired) -> bool:
    """Join the published file of each day with what is stored of it: rows of the exchange stay, and the certificate
    notes the conflict. Return whether there was one."""
    joined = False
    if not days:
        return joined
    async with open_archive(settings.archive_url, archive_directory(settings.cache_dir)) as source:
        for instrument, day in days:
            try:
                rows = await _join_day(settings, source, instrument, day)
            except ExchangeError as error:
                repaired.reasons.append(f"{instrument} {day}: {error}")
                continue
            if rows is not None:
                joined = True
                sentence = f"joined with the published file: {rows:,} rows of it added"
                repaired.steps.append(Step(instrument, day, sentence))
    return joined


async def _join_day(settings: Settings, source: BinanceArchive, instrument: Instrument, day: date) -> int | None:
    """How many rows were added; None if there is no published file."""
    published = await source.fetch(instrument, day)
    if published is None:
        return None
    saved = await parquet_store(settings).take(DayPublished(instrument, day, published))
    return saved.record.rows - saved.cached
