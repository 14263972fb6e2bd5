"""The demo: the real daemon, as a process of its own, against the embedded exchange: cold start, restart, summary."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import polars as pl
import structlog
import trio
from rich.console import Console
from rich.table import Table

from backfilld.core.frame import empty_trades
from backfilld.core.model import Instrument, Market, day_of, day_start_ms
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE, EXIT_SETTINGS
from backfilld.store.manager import manager_of
from backfilld.surfaces.demo_live import FOLLOWED_S, STREAMS, Live, run_live
from backfilld.surfaces.words import counted, fitted
from binance_simulator import Exchange, ExchangeOptions, Tape, open_exchange

log = structlog.get_logger()

INSTRUMENT = Instrument(Market.SPOT, "BTCUSDT")
LATENCY_S = 0.1
LIVE_TRADES_PER_S = 25.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the daemon, as the exchange saw it."""

    name: str
    exit_code: int
    seconds: float
    requests: int
    weight: int
    trades_served: int
    trades_held: int


async def run_demo(trades: int, cache_dir: Path | None) -> int:
    """Start the daemon twice on the same cache, then follow it live, and compare its day file with the exchange's tape;
    return an exit code."""
    with tempfile.TemporaryDirectory(prefix="backfilld-demo-") as temporary:
        directory = cache_dir or Path(temporary)
        tapes, options = {str(INSTRUMENT): _tape(trades)}, ExchangeOptions(latency_s=LATENCY_S)
        async with open_exchange(tapes, options, streams=STREAMS) as exchange:
            _say(f"An exchange with {trades:,} trades of today, {LATENCY_S * 1000:.0f} ms away. Cold start:")
            cold = await _start("cold", exchange, directory)
            if cold.exit_code == EXIT_SETTINGS:
                return EXIT_SETTINGS  # the daemon has said why
            _say("The same again, as after a restart. Warm start:")
            warm = await _start("warm", exchange, directory)
            _say(f"Live for {FOLLOWED_S:.0f} s, on streams that are cut every 2 s and lose 2 % of the trades:")
            live = await run_live(exchange, directory, INSTRUMENT)
            exact = _equals_tape(exchange, directory)
    return _conclude([cold, warm], live, exact=exact)


def _tape(trades: int) -> Tape:
    now_ms = int(time.time() * 1000)
    start_ms = day_start_ms(day_of(now_ms))
    return Tape.generate(
        start_ms=start_ms,
        stop_ms=max(now_ms, start_ms + 1),
        trades=trades,
        seed=7,
        live_rate_per_s=LIVE_TRADES_PER_S,
    )


async def _start(name: str, exchange: Exchange, cache_dir: Path) -> Start:
    before = len(exchange.requests)
    environment = os.environ | {
        "BACKFILL_SPOT_URL": exchange.url,
        "BACKFILL_INSTRUMENTS": str(INSTRUMENT),
        "BACKFILL_CACHE_ENABLED": "true",
        "BACKFILL_DAYS": "0",
        "BACKFILL_ENCRYPTION": "none",
    }
    began = time.perf_counter()
    command = [sys.executable, "-P", "-m", "backfilld", "run", "--once", "--cache-dir", str(cache_dir)]
    done = await trio.run_process(command, env=environment, check=False, stdin=subprocess.DEVNULL)
    asked = list(exchange.requests)[before:]
    return Start(
        name=name,
        exit_code=done.returncode,
        seconds=round(time.perf_counter() - began, 2),
        requests=len(asked),
        weight=sum(record.weight for record in asked),
        trades_served=sum(record.rows for record in asked),
        trades_held=_stored(cache_dir).height,
    )


def _stored(cache_dir: Path) -> pl.DataFrame:
    manager = manager_of(cache_dir, INSTRUMENT)
    days = (manager.load_cached_trades(day) for day in manager.days())
    return pl.concat([empty_trades(), *(trades for trades in days if trades is not None)])


def _equals_tape(exchange: Exchange, cache_dir: Path) -> bool:
    """Whether the day files contain the exchange's tape, row for row, up to the newest trade that was fetched."""
    stored = _stored(cache_dir)
    return not stored.is_empty() and stored.equals(exchange.visible(str(INSTRUMENT)).head(stored.height))


def _conclude(starts: list[Start], live: Live, *, exact: bool) -> int:
    cold, warm = starts
    is_resumed = cold.exit_code == warm.exit_code == EXIT_DONE and warm.trades_served < cold.trades_served
    good = exact and is_resumed and live.is_good
    if sys.stdout.isatty():
        _print_table(starts, live, exact=exact)
    else:
        starts_seen = {"cold": asdict(cold), "warm": asdict(warm), "live": asdict(live)}
        log.info("demo_completed", **starts_seen, identical_to_tape=exact, passed=good)
    return EXIT_DONE if good else EXIT_INCOMPLETE


def _say(sentence: str) -> None:
    if sys.stdout.isatty():
        click.secho(f"\n{fitted(sentence)}", bold=True)


def _print_table(starts: list[Start], live: Live, *, exact: bool) -> None:
    table = Table(title="What the exchange saw", title_style="bold", title_justify="left")
    table.add_column("start")
    for name in ("seconds", "requests", "weight", "trades served", "trades on disk"):
        table.add_column(name, justify="right")
    for start in starts:
        figures = (start.requests, start.weight, start.trades_served, start.trades_held)
        table.add_row(start.name, f"{start.seconds:.2f}", *(f"{figure:,}" for figure in figures))
    console = Console()
    console.print(table)
    order = "[green]every id once and in order" if live.is_good else "[red]NOT every id once and in order"
    lost, healed = counted(live.lost, "connection"), counted(live.healed, "hole")
    console.print(f"Live: attached, {lost} lost, {healed} healed; a reader got {live.trades:,} trades, {order}.")
    verdict = "[green]identical to" if exact else "[red]DIFFERENT from"
    console.print(f"The day file is {verdict} the exchange's tape, row for row.")
