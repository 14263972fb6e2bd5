"""``python -m binance_simulator``: the exchange as a process, for demonstrations and end-to-end tests.

Prints one line of JSON, ``{"url": ..., "stream_urls": {"spot": ...}}``, when it listens, and ends with exit code 0 on
SIGTERM or SIGINT. Owns the command line. Must not add behaviour that the package does not have.
"""

import json
import signal
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import polars as pl
import trio

from binance_simulator.archive_defects import ArchiveDefect
from binance_simulator.exchange import host_ms
from binance_simulator.faults import ORDINARY_FAULTS, Fault, FaultPlan
from binance_simulator.model import MS_PER_HOUR, Instrument, Market, Pool, day_of, instant_ms
from binance_simulator.options import ExchangeOptions
from binance_simulator.quotas import Interval
from binance_simulator.server import open_exchange
from binance_simulator.tape import Tape
from binance_simulator.weights import BanRule, TenantOptions

_GRID_OF: dict[Market, dict[str, Any]] = {
    Market.SPOT: {"tick": "0.01", "lot": "0.00001"},
    Market.UM: {"tick": "0.1", "lot": "0.001", "price_precision": 2},
    Market.CM: {"tick": "0.1", "lot": "1"},
}
"""As those of BTCUSDT and BTCUSD_PERP are."""


@dataclass(frozen=True, slots=True)
class _TapePlan:
    """The tapes to be made: the same span, density and growth for every instrument."""

    stop_ms: int
    hours: float
    trades: int
    seed: int
    live_rate: float
    markers: int
    days: int | None
    daily_trades: int

    def generate(self, instrument: Instrument, place: int) -> Tape:
        """The tape of the instrument at a place in the list; each place has its own trades."""
        if self.days is not None:
            return Tape.generate_days(
                first_day=day_of(self.stop_ms) - timedelta(days=self.days),
                stop_ms=self.stop_ms,
                trades_per_day=self.daily_trades,
                seed=self.seed + place,
                **_GRID_OF[instrument.market],
                markers=self.markers,
                live_rate_per_s=self.live_rate,
            )
        return Tape.generate(
            start_ms=self.stop_ms - round(self.hours * MS_PER_HOUR),
            stop_ms=self.stop_ms,
            trades=self.trades,
            seed=self.seed + place,
            **_GRID_OF[instrument.market],
            markers=self.markers,
            live_rate_per_s=self.live_rate,
        )


def _instruments(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> list[Instrument]:
    try:
        return [Instrument.parse(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _interval(_context: click.Context, _parameter: click.Parameter, text: str) -> Interval:
    try:
        return Interval.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _archive_defects(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, list[ArchiveDefect]]:
    try:
        parted = [text.partition("=") for text in texts]
        given = {key: [ArchiveDefect(name) for name in names.split(",")] for key, _, names in parted}
        ExchangeOptions(archive_defects=given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return given


def _stop_ms(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int:
    try:
        return host_ms() if text is None else instant_ms(datetime.fromisoformat(text))
    except ValueError as error:
        raise click.BadParameter(f"{error}; write ISO 8601, such as 2026-01-01T00:00:00Z") from error


@click.command(context_settings={"show_default": True})
@click.option("--port", default=0, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option(
    "--instrument",
    "instruments",
    multiple=True,
    default=["spot:BTCUSDT"],
    callback=_instruments,
    help="market:SYMBOL to serve; may be given again.",
)
@click.option("--trades", default=100_000, help="Trades in the history of each instrument.")
@click.option("--hours", default=16.0, help="Length of the history.")
@click.option(
    "--days",
    type=click.IntRange(min=0),
    default=None,
    show_default="see --hours",
    help="Whole UTC days of history before that of --until, in place of --hours and --trades.",
)
@click.option("--daily-trades", "daily_trades", default=3000, help="With --days: trades in each day.")
@click.option(
    "--until",
    "stop_ms",
    default=None,
    callback=_stop_ms,
    show_default="now",
    help="End of the history and start of the live trades, in ISO 8601. Given it, each run has equal trades.",
)
@click.option("--seed", default=1, help="Seed of the trades and of the faults.")
@click.option("--markers", default=0, help="Marker rows (p = q = 0) in each history.")
@click.option("--live-rate", "live_rate", default=20.0, help="Trades per second after the history.")
@click.option(
    "--tape",
    "tape_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Parquet file with the columns T a p q f l m M, served for the first instrument.",
)
@click.option("--latency", default=0.0, help="Seconds before each answer.")
@click.option("--jitter", default=0.0, help="Up to so many seconds more.")
@click.option("--skew-ms", default=0, help="The server's clock minus the host's.")
@click.option("--limit", type=int, default=None, show_default="as recorded", help="Request weight per interval.")
@click.option("--interval", default="1M", callback=_interval, help="Interval of the weight limit, such as 10S.")
@click.option("--ban-after", default=3, help="Answers of 429 in an interval that are borne before a ban.")
@click.option("--ban-seconds", default=120.0, help="Length of the first ban.")
@click.option("--tenant", default=0.0, help="Weight per second that another program on our address uses.")
@click.option("--tenant-burst", default=0, help="Weight that it uses at once, each minute.")
@click.option(
    "--lookback-hours",
    type=float,
    default=None,
    show_default="um 48, cm 24, spot none",
    help="How far back the markets answer; 0 for ever.",
)
@click.option("--gzip/--no-gzip", default=True, help="Compress answers for clients that accept it.")
@click.option("--fault-share", default=0.0, help="Share of the aggTrades requests that meet a fault.")
@click.option(
    "--fault",
    "fault_kinds",
    multiple=True,
    type=click.Choice([str(fault) for fault in Fault]),
    help="A kind of fault to choose from; may be given again. By default those that are not hostile.",
)
@click.option(
    "--archive-delay",
    "archive_delay_s",
    default=28_800.0,
    help="Seconds from the end of a day to the publication of its archive file.",
)
@click.option("--archive-latency", "archive_latency_s", default=0.0, help="Seconds before each answer of the archive.")
@click.option(
    "--archive-defect",
    "archive_defects",
    multiple=True,
    callback=_archive_defects,
    help="KEY=DEFECT[,DEFECT], the key a day (spot:BTCUSDT/2026-01-01), an instrument or *; may be given again. "
    f"Defects: {', '.join(ArchiveDefect)}.",
)
@click.pass_context
def main(context: click.Context, /, **_values: Any) -> None:
    """Serve generated trades as Binance's REST interface would."""
    values = context.params
    plan = _TapePlan(**{field.name: values[field.name] for field in fields(_TapePlan)})
    tapes = _tapes(plan, values["instruments"], values["tape_file"])
    trio.run(partial(_serve, tapes, _options(values), values["port"]))


def _tapes(plan: _TapePlan, instruments: list[Instrument], tape_file: Path | None) -> dict[Instrument, Tape]:
    """A tape for each instrument; live trades begin where the generated history ends, also behind a file's rows."""
    tapes = {instrument: plan.generate(instrument, place) for place, instrument in enumerate(instruments)}
    if tape_file is not None:
        frame = pl.read_parquet(tape_file)
        live_start_ms = max(plan.stop_ms, frame.select(pl.col("T").max()).item() + 1)
        tapes[instruments[0]] = Tape.from_frame(
            frame, live_rate_per_s=plan.live_rate, live_start_ms=live_start_ms, seed=plan.seed
        )
    return tapes


def _options(values: dict[str, Any]) -> ExchangeOptions:
    given: dict[str, Any] = {}
    if values["limit"] is not None:
        given["limits"] = dict.fromkeys(Pool, values["limit"])
    if values["lookback_hours"] is not None:
        given["lookback_hours"] = dict.fromkeys(Market, values["lookback_hours"] or None)
    kinds = tuple(Fault(kind) for kind in values["fault_kinds"]) or ORDINARY_FAULTS
    return ExchangeOptions(
        latency_s=values["latency"],
        latency_jitter_s=values["jitter"],
        clock_skew_ms=values["skew_ms"],
        interval=values["interval"],
        bans=BanRule(after_refusals=values["ban_after"], first_s=values["ban_seconds"]),
        tenant=TenantOptions(weight_per_s=values["tenant"], burst_weight=values["tenant_burst"]),
        gzip=values["gzip"],
        archive_delay_s=values["archive_delay_s"],
        archive_latency_s=values["archive_latency_s"],
        archive_defects=values["archive_defects"],
        faults=FaultPlan(share=values["fault_share"], kinds=kinds, seed=values["seed"]),
        **given,
    )


async def _serve(tapes: dict[Instrument, Tape], options: ExchangeOptions, port: int) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_exchange(tapes, options, port=port) as exchange:
            click.echo(json.dumps({"url": exchange.url, "stream_urls": exchange.streams.urls}))
            await anext(signals)


if __name__ == "__main__":
    main()
