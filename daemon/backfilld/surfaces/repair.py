"""``backfilld verify --repair``: what is bad is moved aside or taken out, and exactly that is fetched again.

Three steps, each on what the one before left: the files are mended; the ordinary pipeline runs once over the days
concerned, so that the exchange is the judge where it can be asked; what it could not bring is joined from the published
files. Then all is verified again.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from itertools import groupby

import click
import trio

from backfilld.adapters.binance_archive import BinanceArchive, open_archive
from backfilld.assembly import assembled, encoding_of, parquet_store
from backfilld.core.backfill.outcome import EXIT_DONE, EXIT_INCOMPLETE, Outcome, overall_exit_code
from backfilld.core.model import IdRange, Instrument, day_of, day_start_ms, day_stop_ms
from backfilld.core.timespan import TimeSpan
from backfilld.errors import ExchangeError, SettingsError, StoreError
from backfilld.settings import Settings
from backfilld.store.atomic import move_aside
from backfilld.store.layout import archive_directory, instrument_directory
from backfilld.store.lock import locked
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.forgetting import forget
from backfilld.store.upkeep.inspection import Finding, Inspected
from backfilld.supervisor import cause_of, run_pipeline
from backfilld.surfaces.logs import configure_logs
from backfilld.surfaces.verdicts import print_verdicts
from backfilld.surfaces.verify import Verified, day_files, examine

BAD_FILE = {"unreadable", "altered", "order", "duplicate", "time", "value", "certificate", "digest"}
"""Of such a file nothing is believed."""

_Key = tuple[Instrument, date]


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done about a day, in a sentence."""

    instrument: Instrument
    day: date
    sentence: str


def repair(
    settings: Settings, instruments: Sequence[Instrument] | None, *, against_archive: bool, as_json: bool
) -> int:
    """Verify, repair, verify again and say what was done; return the exit code.

    Raises CacheLocked while another instance holds the cache, and what :func:`backfilld.surfaces.verify.examine` does.
    """
    if not settings.cache_enabled:
        raise SettingsError("cache_enabled = false: a repair writes day files, and none may be written")
    configure_logs(settings.log_format, "critical")
    day_files(settings.cache_dir, instruments)
    look = partial(examine, settings, instruments, against_archive=against_archive, quiet=as_json)
    with locked(settings.cache_dir):
        verified = look()
        deeds = _mend(settings, verified)
    filled = _Filled([], [], [])
    if verified.findings:
        _backfill(settings, _days_of(verified), filled)
        with locked(settings.cache_dir):
            verified = look()
            joined = trio.run(_join_published, settings, _days_of(verified), filled.reasons)
            verified = look() if joined else verified
        deeds += [*filled.deeds, *joined]
    _print(settings, verified, deeds, as_json=as_json)
    if not verified.findings:
        return EXIT_DONE
    for reason in filled.reasons:
        click.echo(f"backfilld: {reason}", err=True)
    return overall_exit_code(filled.outcomes) or EXIT_INCOMPLETE


# -- mending what is on disk


@dataclass(slots=True)
class _Wrong:
    """What is wrong with a day file: the file as such (``moved`` says why), or these ids and these day starts."""

    moved: str | None
    ids: list[IdRange]
    day_starts: set[int]


def _mend(settings: Settings, verified: Verified) -> list[Deed]:
    """Move aside what is bad as a file, and remove from the others what is known to be wrong."""
    deeds = []
    for (instrument, day), wrong in _wrongs(verified).items():
        manager = _manager(settings, instrument)
        if wrong.moved is not None:
            moved = move_aside(manager.get_cache_path(day))
            deeds.append(Deed(instrument, day, f"moved aside as {moved.name}: {wrong.moved}"))
        elif wrong.ids or wrong.day_starts:
            removed = forget(manager, day, wrong.ids, wrong.day_starts)
            if removed:
                said = (
                    f"{removed:,} rows that differ from the published ones taken out; they are in the report beside it"
                )
                deeds.append(Deed(instrument, day, said))
    return deeds


def _wrongs(verified: Verified) -> Mapping[_Key, _Wrong]:
    days = {(each.instrument, each.day): each for each in verified.days}
    wrongs: dict[_Key, _Wrong] = {}
    for finding in verified.findings:
        key = finding.instrument, finding.day
        wrong = wrongs.setdefault(key, _Wrong(None, [], set()))
        if finding.kind in BAD_FILE:
            wrong.moved = wrong.moved or finding.sentence
        elif finding.kind in {"differs", "missing"} and finding.ids is not None:
            wrong.ids.append(finding.ids)
            wrong.day_starts |= _starts_contradicted(days[key], finding.ids)
        elif finding.kind == "chain":
            before = _day_before(verified.days, finding)
            other = wrongs.setdefault((before.instrument, before.day), _Wrong(None, [], set()))
            _unchain(finding, before, other, days[key], wrong)
    return wrongs


def _starts_contradicted(inspected: Inspected, ids: IdRange) -> set[int]:
    """The day starts claimed that cannot be, as these ids are of the day."""
    facts = inspected.facts
    if facts is None:
        return set()
    starts = {facts.first_id} if ids.first_id < facts.first_id else set()
    return starts | (_beyond(inspected) if ids.last_id > facts.last_id else set())


def _beyond(inspected: Inspected) -> set[int]:
    facts = inspected.facts
    if facts is None:
        return set()
    return {facts.last_id + 1 if facts.chain.next_first_id is None else facts.chain.next_first_id}


def _day_before(days: Sequence[Inspected], finding: Finding) -> Inspected:
    """The day that the finding's does not join."""
    return max(
        (each for each in days if each.instrument == finding.instrument and each.day < finding.day and each.facts),
        key=lambda each: each.day,
    )


def _unchain(finding: Finding, before: Inspected, its: _Wrong, after: Inspected, wrong: _Wrong) -> None:
    """Two days that share ids are both bad; of two that leave a gap the ends are in doubt."""
    if before.facts is None or after.facts is None:
        return
    if after.facts.first_id <= before.facts.last_id:
        its.moved = its.moved or f"it shares ids with {after.day}"
        wrong.moved = wrong.moved or finding.sentence
    else:
        its.day_starts |= _beyond(before)
        wrong.day_starts.add(after.facts.first_id)


# -- fetching what is missing then


def _days_of(verified: Verified) -> list[_Key]:
    """The days to fill, in order. Those that a newer program wrote are left alone."""
    newer = {(each.instrument, each.day) for each in verified.findings if each.kind == "newer"}
    return sorted(_wrongs(verified).keys() - newer)


def _windows(days: Sequence[_Key]) -> Iterator[tuple[TimeSpan, tuple[Instrument, ...]]]:
    """Runs of days, and whose they are."""
    runs: dict[tuple[date, date], list[Instrument]] = {}
    for instrument, own in groupby(days, key=lambda each: each[0]):
        ordered = [day for _, day in own]
        # Days in a row keep their distance to their place in the list.
        for _, run in groupby(enumerate(ordered), key=lambda each: each[1] - timedelta(days=each[0])):
            found = [day for _, day in run]
            runs.setdefault((found[0], found[-1]), []).append(instrument)
    for (first, last), instruments in sorted(runs.items()):
        yield TimeSpan(day_start_ms(first), day_stop_ms(last)), tuple(instruments)


@dataclass(frozen=True, slots=True)
class _Filled:
    """What running the pipeline came to; ``reasons`` tell what kept it from being complete."""

    outcomes: list[Outcome]
    deeds: list[Deed]
    reasons: list[str]


def _backfill(settings: Settings, days: Sequence[_Key], filled: _Filled) -> None:
    """Run the pipeline once over the days, run by run."""
    for window, instruments in _windows(days):
        try:
            found = trio.run(_backfill_window, settings, window, instruments)
        except StoreError as error:
            filled.reasons.append(str(error))
            continue
        for outcome in found:
            filled.outcomes.append(outcome)
            filled.reasons.extend(f"{outcome.instrument}: {reason}" for reason in outcome.reasons)
            said = f"{outcome.downloaded:,} trades fetched, {outcome.requests} requests, weight {outcome.weight}"
            filled.deeds.append(Deed(outcome.instrument, day_of(window.start_ms), f"{_until(window)}{said}"))


def _until(window: TimeSpan) -> str:
    first, last = day_of(window.start_ms), day_of((window.stop_ms or 1) - 1)
    return "" if first == last else f"to {last}: "


async def _backfill_window(settings: Settings, window: TimeSpan, instruments: tuple[Instrument, ...]) -> list[Outcome]:
    with assembled(settings, once=True, instruments=instruments, window=window) as assembly:
        try:
            async with trio.open_nursery() as nursery:
                if sys.stdout.isatty():
                    from backfilld.surfaces.progress import show_progress  # noqa: PLC0415

                    nursery.start_soon(show_progress, assembly.pipeline)
                await run_pipeline(assembly.pipeline)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise cause_of(group) from None
        found: list[Outcome] = []
        while assembly.outcomes.statistics().current_buffer_used:
            found.append(assembly.outcomes.receive_nowait())
        return found


# -- joining what the exchange could not bring


async def _join_published(settings: Settings, days: Sequence[_Key], reasons: list[str]) -> list[Deed]:
    """Join the published file of each day with what is held of it: held rows of REST stay, and are noted as such."""
    deeds: list[Deed] = []
    if not days:
        return deeds
    async with open_archive(settings.archive_url, archive_directory(settings.cache_dir)) as source:
        for instrument, day in days:
            try:
                rows = await _join_day(settings, source, instrument, day)
            except ExchangeError as error:
                reasons.append(f"{instrument} {day}: {error}")
                continue
            if rows is not None:
                deeds.append(Deed(instrument, day, f"joined with the published file: {rows:,} rows of it added"))
    return deeds


async def _join_day(settings: Settings, source: BinanceArchive, instrument: Instrument, day: date) -> int | None:
    """How many rows were added; None if there is no published file."""
    published = await source.fetch(instrument, day)
    if published is None:
        return None
    store = parquet_store(settings)
    saved = await store.take(instrument, day, published, None)
    return saved.record.rows - saved.cached


# -- saying so


def _print(settings: Settings, verified: Verified, deeds: Sequence[Deed], *, as_json: bool) -> None:
    if not as_json:
        for each in deeds:
            click.echo(f"{each.instrument} {each.day}: {each.sentence}")
    told = [{"instrument": str(each.instrument), "day": each.day.isoformat(), "done": each.sentence} for each in deeds]
    print_verdicts(settings.cache_dir, verified, as_json=as_json, also={"repairs": told})


def _manager(settings: Settings, instrument: Instrument) -> BackfillCacheManager:
    return BackfillCacheManager(instrument_directory(settings.cache_dir, instrument), instrument, encoding_of(settings))
