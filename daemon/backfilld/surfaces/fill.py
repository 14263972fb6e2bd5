"""``backfilld fill``: any span of days, and what it would cost before it is done."""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

import click
import trio

from backfilld.adapters.binance_archive import open_archive
from backfilld.adapters.binance_rest import opener
from backfilld.assembly import parquet_store
from backfilld.core.backfill.estimate import ARCHIVE, HELD, NOWHERE, REST, Forecast, Known, forecast
from backfilld.core.backfill.outcome import TOO_OLD, UNKNOWN_SYMBOL
from backfilld.core.backfill.questions import Before, Since
from backfilld.core.backfill.sources import archive_days, seam_days, within_reach
from backfilld.core.day.certificate import Certificate
from backfilld.core.markets import RULES, Pool, limits_of
from backfilld.core.model import Instrument, day_of, day_start_ms, day_stop_ms
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import ExchangeError, RateLimited, RequestRejected, SettingsError
from backfilld.ports import ArchiveSource, ExchangeClient
from backfilld.settings import Settings
from backfilld.store.governor_state import peek_remembered
from backfilld.store.layout import archive_directory

AT_ONCE = 8
"""How many questions the forecast puts to the archive at a time."""


FIRST_DAY = date(2017, 7, 14)
"""When Binance opened."""


def window_of(first: date, last: date, today: date) -> TimeSpan:
    """The window of whole days, both ends included. Raises SettingsError for days that cannot be had."""
    if first > last:
        raise SettingsError(f"--from {first} is after --to {last}")
    if first < FIRST_DAY:
        raise SettingsError(f"--from {first} is before {FIRST_DAY}: there was no exchange to trade on")
    if last > today:
        raise SettingsError(f"--to {last} lies in the future: the last day that has begun is {today}")
    return TimeSpan(day_start_ms(first), day_stop_ms(last))


def today_utc() -> date:
    """The day by the host's clock."""
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class Plan:
    """The forecasts by instrument, and what they come to: requests with those to exchangeInfo, and minutes at the
    budget's pace."""

    forecasts: Mapping[Instrument, Forecast]
    requests: int
    weight: int
    bytes: int
    minutes: float


async def plan_fill(settings: Settings, window: TimeSpan) -> Plan:
    """Look at the disk, ask the archive which days it has, and the exchange how many trades the others hold.

    Raises ExchangeError for what cannot be told; RateLimited while a ban lasts.
    """
    instruments = settings.instrument_list()
    _refuse_in_a_ban(settings, instruments)
    forecasts = {}
    ask = opener(settings.urls, settings.request_timeout_seconds)
    async with open_archive(settings.archive_url, archive_directory(settings.cache_dir)) as archive, ask() as client:
        for instrument in instruments:
            known = await _known(settings, instrument, window, archive)
            weight = RULES[instrument.market].weights[Endpoint.TRADES]
            forecasts[instrument] = forecast(known, await _last_ids(known, instrument, client), weight)
    info = {market: RULES[market].weights[Endpoint.INFO] for market in {each.market for each in instruments}}
    per_pool = Counter[Pool]()
    for market, weight in info.items():
        per_pool[RULES[market].pool] += weight
    for instrument, each in forecasts.items():
        per_pool[RULES[instrument.market].pool] += each.weight
    return Plan(
        forecasts=forecasts,
        requests=len(info) + sum(each.requests for each in forecasts.values()),
        weight=per_pool.total(),
        bytes=sum(each.bytes for each in forecasts.values()),
        minutes=max(weight / (limits_of(pool)[0].limit * settings.weight_share) for pool, weight in per_pool.items()),
    )


def _refuse_in_a_ban(settings: Settings, instruments: Sequence[Instrument]) -> None:
    now_ms = time.time() * 1000
    for market, budget in peek_remembered(settings.cache_dir).items():
        until_ms = budget.paused_until_ms or 0.0
        if until_ms > now_ms and market in {each.market for each in instruments}:
            wait_s = (until_ms - now_ms) / 1000
            raise RateLimited(f"{market}: the exchange has {budget.reason} us for {wait_s:.0f} s", retry_after_s=wait_s)


async def _known(settings: Settings, instrument: Instrument, window: TimeSpan, archive: ArchiveSource) -> Known:
    store, now_ms = parquet_store(settings), int(time.time() * 1000)
    records: dict[date, Certificate] = {}
    for day in await store.days(instrument):
        if day_stop_ms(day) >= window.start_ms and day_start_ms(day) <= (window.stop_ms or now_ms):
            record = await store.peek(instrument, day)
            if record is not None:
                records[day] = record
    wanted = list(archive_days(window, now_ms, records))
    wanted += seam_days(window, now_ms, instrument.market, records)
    sizes: dict[date, int] = {}

    async def measure(day: date) -> None:
        size = await archive.size(instrument, day)
        if size is not None:
            sizes[day] = size

    for start in range(0, len(wanted), AT_ONCE):
        async with trio.open_nursery() as nursery:
            for day in wanted[start : start + AT_ONCE]:
                nursery.start_soon(measure, day)
    return Known(window, now_ms, records, sizes)


async def _last_ids(known: Known, instrument: Instrument, client: ExchangeClient) -> dict[date, int]:
    """The last id before each edge of a stretch that REST must bring, as far as the exchange answers for it."""
    found: dict[date, int] = {}
    for first, last in known.rest_runs():
        day, last_id = first, await _last_id(known, instrument, first, client)
        while last_id is None and day < last:
            day = min(last, day_of(within_reach(day_start_ms(day), known.now_ms, instrument.market)))
            last_id = await _last_id(known, instrument, day, client)
        after = last + timedelta(days=1)
        end_id = None if last_id is None else await _last_id(known, instrument, after, client)
        if last_id is not None and end_id is not None:
            found |= {day: last_id, after: end_id}
    return found


async def _last_id(known: Known, instrument: Instrument, day: date, client: ExchangeClient) -> int | None:
    """The last id before the day, -1 for none; None where the exchange answers nothing: of so long ago, or of a symbol
    that is listed no more but was (otherwise RequestRejected is raised)."""
    trades = (await client.trades(instrument, Before(min(day_start_ms(day), known.now_ms)))).read()
    if isinstance(trades, RequestRejected) and (
        trades.code == TOO_OLD or (trades.code == UNKNOWN_SYMBOL and (known.sizes or known.records))
    ):
        return None
    if isinstance(trades, ExchangeError):
        raise trades
    if not trades.is_empty():
        return int(trades["a"][-1])
    # What a symbol begins with, if nothing was before; its ids need not begin at 0.
    first = (await client.trades(instrument, Since(day_start_ms(day)))).read()
    return -1 if isinstance(first, ExchangeError) or first.is_empty() else int(first["a"][0]) - 1


# -- what is printed


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """Print the forecast as a table, or as one JSON document."""
    if as_json:
        click.echo(json.dumps(_document(plan), ensure_ascii=False))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title="Plan", title_style="bold", title_justify="left")
    table.add_column("instrument")
    for name in ("days", "held", "archive", "REST", "nowhere", "trades by REST", "requests", "weight", "download"):
        table.add_column(name, justify="right")
    for instrument, each in plan.forecasts.items():
        sources = list(each.days.values())
        counts = [len(sources), *(sources.count(name) for name in (HELD, ARCHIVE, REST, NOWHERE))]
        figures = [*counts, each.trades, each.requests, each.weight]
        table.add_row(str(instrument), *(f"{figure:,}" for figure in figures), _megabytes(each.bytes))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    click.echo(
        f"{plan.requests:,} requests, exchangeInfo included; {plan.weight:,} weight, {plan.minutes:.1f} minutes at the "
        f"budget; {_megabytes(plan.bytes)} from the archive"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _document(plan: Plan) -> dict[str, object]:
    return {
        "requests": plan.requests,
        "weight": plan.weight,
        "bytes": plan.bytes,
        "minutes": round(plan.minutes, 2),
        "instruments": [
            {
                "instrument": str(instrument),
                "requests": each.requests,
                "weight": each.weight,
                "trades": each.trades,
                "bytes": each.bytes,
                "days": [{"day": day.isoformat(), "source": source} for day, source in each.days.items()],
            }
            for instrument, each in plan.forecasts.items()
        ],
    }


def run_plan(settings: Settings, window: TimeSpan, *, as_json: bool) -> None:
    """Make the forecast and print it."""
    print_plan(trio.run(partial(plan_fill, settings, window)), as_json=as_json)
