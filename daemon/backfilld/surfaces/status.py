"""What the cache holds and the governor remembers, and deleting what is old: the commands that need no exchange."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import msgspec

from backfilld.cache import BackfillCacheManager
from backfilld.cache.dayfile import UntrustedFile
from backfilld.cache.layout import instrument_directory, instruments_in
from backfilld.cache.lock import locked
from backfilld.cache.remembered import RememberedBudget, peek_remembered
from backfilld.core.model import Instrument, Market, iso
from backfilld.errors import SettingsError


@dataclass(frozen=True, slots=True)
class DayStatus:
    """One day file: ``state`` is sealed (complete and over), whole (no hole, not over or not proven), holes or bad."""

    instrument: str
    day: str
    state: str
    trades: int = 0
    missing: int = 0
    bytes: int = 0
    first_id: int | None = None
    last_id: int | None = None
    reason: str | None = None


def print_status(cache_dir: Path, instruments: Sequence[Instrument] | None, *, as_json: bool) -> None:
    """Print the state of every day file, from what the files say of themselves."""
    rows = list(_statuses(cache_dir, instruments))
    remembered = peek_remembered(cache_dir)
    if as_json:
        budgets = msgspec.to_builtins(remembered)
        document = {"cache_dir": str(cache_dir), "days": [asdict(row) for row in rows], "budgets": budgets}
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    if rows:
        _print_table(rows)
    else:
        click.echo(f"{cache_dir} holds no day files")
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


def _statuses(cache_dir: Path, instruments: Sequence[Instrument] | None) -> Iterator[DayStatus]:
    for manager in _managers(cache_dir, instruments):
        for day in manager.days():
            name = str(manager.instrument)
            size = manager.get_cache_path(day).stat().st_size
            try:
                facts = manager.facts(day)
            except UntrustedFile as reason:
                yield DayStatus(name, day.isoformat(), "bad", bytes=size, reason=str(reason))
                continue
            missing = sum(last - first + 1 for first, last in facts.holes)
            state = "sealed" if facts.sealed else "holes" if missing else "whole"
            yield DayStatus(name, facts.day, state, facts.rows, missing, size, facts.first_id, facts.last_id)


def _print_table(rows: Sequence[DayStatus]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table()
    for name in ("instrument", "day", "state"):
        table.add_column(name)
    for name in ("trades", "missing", "bytes", "first id", "last id"):
        table.add_column(name, justify="right")
    for row in rows:
        figures = (
            f"{row.trades:,}",
            f"{row.missing:,}",
            f"{row.bytes:,}",
            _shown(row.first_id),
            _shown(row.last_id),
        )
        table.add_row(row.instrument, row.day, row.state, *figures)
    # In a pipe nobody folds the table; rich would take eighty columns.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


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


def _shown(trade_id: int | None) -> str:
    return "-" if trade_id is None else str(trade_id)
