"""``backfilld status``: what the cache stores and what the daemon reported, in words."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from backfilld.core.markets import Pool
from backfilld.core.model import Instrument, iso
from backfilld.services.status import CacheStatus, PoolStatus, cache_status
from backfilld.services.stored_days import MARKS, DayStatus, InstrumentStatus
from backfilld.surfaces.table import Column, table_lines, terminal_width
from backfilld.surfaces.words import counted, has_colours, say, size

if TYPE_CHECKING:
    from backfilld.store.format.dayfile import Encoding

_COLOURS = {"#": "green", "+": "yellow", "!": "magenta", "x": "red", "L": "cyan"}

COLUMNS = (
    Column("instrument"),
    Column("day"),
    Column("state"),
    Column("trades", right=True),
    Column("missing", right=True, rank=1),
    Column("conflicts", right=True, rank=4),
    Column("bytes", right=True, rank=5),
    Column("first id", right=True, rank=6),
    Column("last id", right=True, rank=7),
    Column("last trade", right=True, rank=2),
)


def print_status(
    cache_dir: Path,
    state_dir: Path,
    instruments: Sequence[Instrument] | None,
    *,
    as_json: bool,
    encoding: "Encoding | None" = None,
) -> None:
    """Print the state of every instrument and of its day files, from what the files say of themselves."""
    status = cache_status(cache_dir, state_dir, instruments, encoding)
    if as_json:
        click.echo(json.dumps(_document(cache_dir, status), ensure_ascii=False))
        return
    if status.days:
        _print_calendars(status.instruments)
        _print_table(status.days)
    else:
        whose = "" if instruments is None else f" of {', '.join(map(str, instruments))}"
        say(f"{cache_dir} has no day files{whose}")
    runs = "no daemon runs" if status.daemon_pid is None else f"a daemon runs, process {status.daemon_pid}"
    say(f"{runs}; it stands still: it did not answer in time" if status.stands_still else runs)
    for line in _activity_lines(status):
        say(line)
    for pool, budget in status.budgets.items():
        say(_described(pool, budget, time.time() * 1000))


def _document(cache_dir: Path, status: CacheStatus) -> dict[str, object]:
    activity = status.activity
    return {
        "cache_dir": str(cache_dir),
        "daemon_pid": status.daemon_pid,
        "daemon_stands_still": status.stands_still,
        "days": msgspec.to_builtins(status.days),
        "budgets": msgspec.to_builtins(status.budgets),
        "instruments": msgspec.to_builtins(status.instruments),
        "live": None if status.live is None else msgspec.to_builtins(status.live),
        "activity": None if activity is None else msgspec.to_builtins(activity) | {"hit_ratio": activity.hit_ratio},
    }


def _print_calendars(totals: Sequence[InstrumentStatus]) -> None:
    for total in totals:
        counts = ", ".join(f"{count:,} {mark}" for mark, count in total.days.items())
        say(f"{total.instrument}: {counts}; {counted(total.trades, 'trade')}, {size(total.bytes)}")
        missing = f"; {counted(total.missing, 'id')} missing" if total.missing else ""
        if total.first_at is not None and total.last_at is not None:
            say(f"  {_utc(total.first_at)} to {_utc(total.last_at)} UTC{missing}")
        for month, drawn in total.calendar.items():
            click.echo(f"  {month}  {_coloured(drawn)}")
    seen = {character for total in totals for line in total.calendar.values() for character in line}
    used = ((mark, character) for mark, character in MARKS.items() if character in seen)
    click.echo("  ".join(f"{_coloured(character)} {mark}" for mark, character in used))


def _coloured(drawn: str) -> str:
    if not has_colours():
        return drawn
    return "".join(click.style(character, fg=_COLOURS.get(character)) for character in drawn)


def _print_table(days: Sequence[DayStatus]) -> None:
    """The days that are not plainly sealed, one by one, and why some cannot be read."""
    odd = [day for day in days if day.mark != "sealed"]
    plain = sum(day.unencrypted for day in days)
    for line in table_lines(COLUMNS, [_row(day) for day in odd], terminal_width()):
        say(line)
    for day in odd:
        if day.reason is not None:
            say(f"{day.instrument} {day.day} is {day.state}: {day.reason}")
    if plain:
        say(f"{counted(plain, 'day')} unencrypted: backfilld rekey encrypts them")


def _utc(moment: str) -> str:
    """An ISO instant as people read it."""
    return moment.removesuffix("+00:00").replace("T", " ")


def _row(day: DayStatus) -> tuple[str, ...]:
    figures = (f"{each:,}" for each in (day.trades, day.missing, day.conflicts, day.bytes))
    ids = ("-" if each is None else str(each) for each in (day.first_id, day.last_id))
    return (day.instrument, day.day, day.mark, *figures, *ids, _utc(day.last_at or "-"))


def _activity_lines(status: CacheStatus) -> Iterator[str]:
    """What the daemon says of its live side now, or said when it reported last, and what it reported of its work."""
    activity = status.activity
    if status.live is not None:
        yield f"live: {status.live.text}"
    elif activity is not None and activity.live is not None and status.daemon_pid is not None:
        yield f"live: {activity.live} (as of {_utc(iso(int(activity.saved_ms)))})"
    if activity is None:
        return
    if activity.hit_ratio is not None:
        counts = f"{activity.cached:,} cached, {activity.downloaded:,} downloaded"
        yield f"cache hit ratio {activity.hit_ratio:.1%}: {counts} (as of {_utc(iso(int(activity.saved_ms)))})"
    if activity.last_error is not None:
        when = f" at {_utc(iso(int(activity.last_error_ms)))}" if activity.last_error_ms is not None else ""
        yield f"last error{when}: {activity.last_error}"


def _described(pool: Pool, budget: PoolStatus, now_ms: float) -> str:
    """What the daemon last reported of a budget, in a line."""
    seen = budget.statistics
    parts = [f"{pool} weight {seen.used:,} of {seen.allowed:,} allowed of {seen.limit:,} per {seen.interval}"]
    parts.append(f"own {seen.own:,}, others {seen.others:,}, waiting {seen.waiting:,}")
    if budget.paused_until_ms is not None and budget.paused_until_ms > now_ms:
        parts.append(f"{budget.reason} until {_utc(iso(int(budget.paused_until_ms)))}")
    if seen.learned:
        parts.append("learned weights " + ", ".join(f"{name} {weight}" for name, weight in seen.learned.items()))
    return f"{'; '.join(parts)} (as of {_utc(iso(int(budget.saved_ms)))})"
