"""What the cache holds and the governor remembers, and deleting what is old: the commands that need no exchange."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from backfilld.core.model import Instrument, Market, iso
from backfilld.errors import SettingsError
from backfilld.store import BackfillCacheManager
from backfilld.store.daemon_state import Activity, peek_activity
from backfilld.store.governor_state import RememberedBudget, peek_remembered
from backfilld.store.layout import instrument_directory, instruments_in
from backfilld.store.lock import locked
from backfilld.surfaces.calendar import MARKS, DayStatus, InstrumentStatus, day_statuses, instrument_statuses

_COLOURS = {"#": "green", "+": "yellow", "!": "magenta", "x": "red"}


def print_status(cache_dir: Path, instruments: Sequence[Instrument] | None, *, as_json: bool) -> None:
    """Print the state of every instrument and of its day files, from what the files say of themselves."""
    days = [day for manager in _managers(cache_dir, instruments) for day in day_statuses(manager)]
    totals = list(instrument_statuses(days))
    remembered = peek_remembered(cache_dir)
    activity = peek_activity(cache_dir)
    if as_json:
        document = {
            "cache_dir": str(cache_dir),
            "days": [asdict(day) for day in days],
            "budgets": msgspec.to_builtins(remembered),
            "instruments": [asdict(total) for total in totals],
            "activity": None if activity is None else msgspec.to_builtins(activity) | {"hit_ratio": activity.hit_ratio},
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    if days:
        _print_calendars(totals)
        _print_table(days)
    else:
        click.echo(f"{cache_dir} holds no day files")
    for line in _activity_lines(activity):
        click.echo(line)
    for market, budget in remembered.items():
        click.echo(_described(market, budget, time.time() * 1000))


def clean_up(cache_dir: Path, instruments: Sequence[Instrument] | None, keep_days: int) -> None:
    """Delete the day files of more than ``keep_days`` days ago. Raises CacheLocked while a daemon runs on the cache."""
    if not cache_dir.is_dir():
        raise SettingsError(f"cache_dir = {cache_dir}: there is no such directory")
    deleted = 0
    with locked(cache_dir):
        for manager in _managers(cache_dir, instruments):
            for path in manager.cleanup_old_cache(keep_days):
                click.echo(f"deleted {path}")
                deleted += 1
    click.echo(f"{deleted} day files older than {keep_days} days deleted")


def _managers(cache_dir: Path, instruments: Sequence[Instrument] | None) -> Iterator[BackfillCacheManager]:
    for instrument in instruments_in(cache_dir) if instruments is None else instruments:
        yield BackfillCacheManager(instrument_directory(cache_dir, instrument), instrument)


def _print_calendars(totals: Sequence[InstrumentStatus]) -> None:
    for total in totals:
        counts = ", ".join(f"{count:,} {mark}" for mark, count in total.days.items())
        click.echo(f"{total.instrument}: {counts}; {total.trades:,} trades, {total.bytes:,} bytes")
        missing = f"; {total.missing:,} ids missing" if total.missing else ""
        if total.first_at is not None:
            click.echo(f"  {total.first_at} to {total.last_at}{missing}")
        for month, drawn in total.calendar.items():
            click.echo(f"  {month}  {_coloured(drawn)}")
    click.echo("  ".join(f"{_coloured(character)} {mark}" for mark, character in MARKS.items()))


def _coloured(drawn: str) -> str:
    """In colour on a terminal; click takes the colours out of a pipe."""
    return "".join(click.style(character, fg=_COLOURS.get(character)) for character in drawn)


def _print_table(days: Sequence[DayStatus]) -> None:
    """The days that are not plainly sealed, one by one."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table()
    for name in ("instrument", "day", "state"):
        table.add_column(name)
    for name in ("trades", "missing", "conflicts", "bytes", "first id", "last id", "last trade"):
        table.add_column(name, justify="right")
    for day in days:
        if day.mark == "sealed":
            continue
        figures = (day.trades, day.missing, day.conflicts, day.bytes)
        ids = ("-" if each is None else str(each) for each in (day.first_id, day.last_id))
        table.add_row(day.instrument, day.day, day.state, *(f"{each:,}" for each in figures), *ids, day.last_at or "-")
    if table.row_count:
        # In a pipe nobody folds the table; rich would take eighty columns.
        Console(width=None if sys.stdout.isatty() else 160).print(table)


def _activity_lines(activity: Activity | None) -> Iterator[str]:
    """What the daemon last told of its work."""
    if activity is None:
        return
    if activity.hit_ratio is not None:
        counts = f"{activity.cached:,} cached, {activity.downloaded:,} downloaded"
        yield f"cache hit ratio {activity.hit_ratio:.1%}: {counts} (as of {iso(int(activity.saved_ms))})"
    if activity.last_error is not None:
        when = f" at {iso(int(activity.last_error_ms))}" if activity.last_error_ms is not None else ""
        yield f"last error{when}: {activity.last_error}"


def _described(market: Market, budget: RememberedBudget, now_ms: float) -> str:
    """What the daemon last told of a budget, in a line."""
    seen = budget.statistics
    parts = [f"{market} weight {seen.used} of {seen.allowed} allowed of {seen.limit} per {seen.interval}"]
    parts.append(f"own {seen.own}, others {seen.others}, waiting {seen.waiting}")
    if budget.paused_until_ms is not None and budget.paused_until_ms > now_ms:
        parts.append(f"{budget.reason} until {iso(int(budget.paused_until_ms))}")
    if seen.learned:
        parts.append("learned weights " + ", ".join(f"{name} {weight}" for name, weight in seen.learned.items()))
    return f"{'; '.join(parts)} (as of {iso(int(budget.saved_ms))})"
