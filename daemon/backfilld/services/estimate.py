"""Estimating a fill: where each day will come from, and about what it will cost."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial

from backfilld.adapters.binance_archive import open_archive
from backfilld.assembly import exchange, parquet_store
from backfilld.core.backfill.estimate import Estimate, Known, estimate
from backfilld.core.backfill.outcome import TOO_OLD, UNKNOWN_SYMBOL
from backfilld.core.backfill.questions import Before, Since
from backfilld.core.backfill.sources import archive_days, seam_days, within_reach
from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY
from backfilld.core.markets import RULES, Pool, limits_of
from backfilld.core.model import Instrument, day_of, day_start_ms, day_stop_ms
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.fair_queue import Rank
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import CacheLocked, ExchangeError, RequestRejected, SettingsError, StoreError
from backfilld.ports import ArchiveSource, ExchangeClient, OpenClient, Urgency
from backfilld.services.side_by_side import side_by_side
from backfilld.settings import Settings
from backfilld.store.governor_state import load_remembered, peek_remembered, remembered_now, save_remembered
from backfilld.store.layout import archive_directory
from backfilld.store.lock import locked
from backfilld.supervisor import cause_of
from backfilld.supervisor_governor import GovernorParts, run_governed

AT_ONCE = 8
"""How many questions go to the archive at a time. They cost no request weight; more would be impolite."""

HASTY = Urgency(Rank.TODAY, patience_s=0.0)
"""An estimate waits for weight but not for a pause: a pause is reported to its caller instead."""

FIRST_DAY = date(2017, 7, 14)
"""When Binance opened."""


def fill_window(first: date, last: date, today: date, first_name: str = "--from", last_name: str = "--to") -> TimeSpan:
    """The window of whole days, both ends included. Raises SettingsError for days that no exchange can have, by the
    names of the options."""
    if first > last:
        raise SettingsError(f"{first_name} {first} is after {last_name} {last}")
    if first < FIRST_DAY:
        raise SettingsError(f"{first_name} {first} is before {FIRST_DAY}: there was no exchange to trade on")
    if last > today:
        raise SettingsError(f"{last_name} {last} lies in the future: the last day that has begun is {today}")
    return TimeSpan(day_start_ms(first), day_stop_ms(last))


def today_utc() -> date:
    """The day by the host's clock."""
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class FillEstimate:
    """The estimates by instrument, and their sums: requests with those to exchangeInfo, and minutes at the pace of the
    budgets."""

    instruments: Mapping[Instrument, Estimate]
    requests: int
    weight: int
    bytes: int
    minutes: float


async def estimate_fill(settings: Settings, window: TimeSpan) -> FillEstimate:
    """Look at the disk, ask the archive which days it has, and the exchange how many trades the others have.

    Raises ExchangeError, naming the instrument, for what nobody answers; RateLimited while a ban lasts.
    """
    governor, open_client = exchange(settings, peek_remembered(settings.state_path, time.time() * 1000))
    estimates: dict[Instrument, Estimate] = {}
    try:
        await run_governed(
            governor, settings.max_concurrent, partial(_estimate_each, settings, window, open_client, estimates)
        )
    except BaseExceptionGroup as group:
        _remember_pauses(settings, governor)
        raise cause_of(group) from None
    return _summed(settings, estimates)


def _remember_pauses(settings: Settings, governor: GovernorParts) -> None:
    """A pause that the estimate met binds the next start too. A daemon that has the cache remembers its own."""
    shown, now_ms = governor.statistics.value, time.time() * 1000
    if not any(each.paused_ms for each in shown.values()) or not settings.cache_dir.exists():
        return
    with suppress(CacheLocked, StoreError), locked(settings.cache_dir, settings.state_path):
        save_remembered(
            settings.state_path, load_remembered(settings.state_path, now_ms) | remembered_now(shown, now_ms)
        )


async def _estimate_each(
    settings: Settings, window: TimeSpan, open_client: OpenClient, estimates: dict[Instrument, Estimate]
) -> None:
    async with (
        open_archive(settings.archive_url, archive_directory(settings.cache_dir)) as archive,
        open_client() as client,
    ):
        for instrument in settings.instrument_list():
            known = await _known(settings, instrument, window, archive)
            weight = RULES[instrument.market].weights[Endpoint.TRADES]
            estimates[instrument] = estimate(known, await _last_ids(known, instrument, client), weight)


def _summed(settings: Settings, estimates: Mapping[Instrument, Estimate]) -> FillEstimate:
    info = {market: RULES[market].weights[Endpoint.INFO] for market in {each.market for each in estimates}}
    per_pool = Counter[Pool]()
    for market, weight in info.items():
        per_pool[RULES[market].pool] += weight
    for instrument, each in estimates.items():
        per_pool[RULES[instrument.market].pool] += each.weight
    return FillEstimate(
        instruments=estimates,
        requests=len(info) + sum(each.requests for each in estimates.values()),
        weight=per_pool.total(),
        bytes=sum(each.bytes for each in estimates.values()),
        minutes=max(weight / (limits_of(pool)[0].limit * settings.weight_share) for pool, weight in per_pool.items()),
    )


async def _known(settings: Settings, instrument: Instrument, window: TimeSpan, archive: ArchiveSource) -> Known:
    store, now_ms = parquet_store(settings), int(time.time() * 1000)
    certificates: dict[date, Certificate] = {}
    for day in await store.days(instrument):
        if day_stop_ms(day) >= window.start_ms and day_start_ms(day) <= (window.stop_ms or now_ms):
            certificate = await store.peek(instrument, day)
            if certificate is not None:
                certificates[day] = certificate
    wanted = list(archive_days(window, now_ms, certificates))
    wanted += seam_days(window, now_ms, instrument.market, certificates)
    return Known(window, now_ms, certificates, await _sizes(archive, instrument, wanted))


async def _sizes(archive: ArchiveSource, instrument: Instrument, days: Sequence[date]) -> dict[date, int]:
    """The bytes of the days that are published. Raises ExchangeError."""
    sizes: dict[date, int] = {}

    async def measure(day: date) -> None:
        size = await archive.size(instrument, day)
        if size is not None:
            sizes[day] = size

    await side_by_side(days, AT_ONCE, measure)
    return sizes


async def _last_ids(known: Known, instrument: Instrument, client: ExchangeClient) -> dict[date, int]:
    """The last id before each end of a run that REST must bring, as far as the exchange answers for it."""
    found: dict[date, int] = {}
    for first, last in known.rest_runs():
        day, last_id = first, await _last_id(known, instrument, first, client)
        while last_id is None and day < last:
            reached = day_of(within_reach(day_start_ms(day), known.now_ms, instrument.market))
            day = min(last, max(reached, day + ONE_DAY))
            last_id = await _last_id(known, instrument, day, client)
        after = last + ONE_DAY
        end_id = None if last_id is None else await _last_id(known, instrument, after, client)
        if last_id is not None and end_id is not None:
            found |= {day: last_id, after: end_id}
    return found


async def _last_id(known: Known, instrument: Instrument, day: date, client: ExchangeClient) -> int | None:
    """The last id before the day; None where nothing shows it.

    The exchange answers nothing about a time that is too long ago, or about a symbol that is not listed any more; of
    a symbol that was never listed RequestRejected is raised.
    """
    before = await _asked(known, instrument, client, Before(min(day_start_ms(day), known.now_ms)))
    if before:
        return before[-1]
    if before is None:
        return None
    # Nothing was traded before the day; the ids of a symbol need not begin at 0.
    first = await _asked(known, instrument, client, Since(day_start_ms(day)))
    return first[0] - 1 if first else None


async def _asked(
    known: Known, instrument: Instrument, client: ExchangeClient, question: Before | Since
) -> list[int] | None:
    """The ids of the answer; None where the exchange does not answer for that time or symbol any more."""
    trades = (await client.trades(instrument, question, HASTY)).read()
    if isinstance(trades, RequestRejected) and (
        trades.code == TOO_OLD or (trades.code == UNKNOWN_SYMBOL and (known.sizes or known.certificates))
    ):
        return None
    if isinstance(trades, RequestRejected):
        sentence = f"{instrument}: the exchange refuses it: {trades}"
        raise RequestRejected(sentence, status=trades.status, code=trades.code)
    if isinstance(trades, ExchangeError):
        raise trades
    return [int(each) for each in trades["a"]]
