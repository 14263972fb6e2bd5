"""Reads the archive's files as a stranger would, with the standard library, and serves days to be read."""

import csv
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta

import httpx
import polars as pl

from binance_simulator import Exchange, ExchangeOptions, Tape, open_exchange
from binance_simulator.model import SCHEMA, Instrument, day_stop_ms

INSTRUMENTS = tuple(Instrument.parse(name) for name in ("spot:BTCUSDT", "um:BTCUSDT", "cm:BTCUSD_PERP"))
FOLDERS = {"spot": "spot", "um": "futures/um", "cm": "futures/cm"}
LOTS = {"spot": "0.00001", "um": "0.001", "cm": "1"}
HEADER = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
ROWS_PER_DAY = 300


def file_path(instrument: Instrument, day: date) -> str:
    name = f"{instrument.symbol}-aggTrades-{day.isoformat()}.zip"
    return f"/data/{FOLDERS[instrument.market]}/daily/aggTrades/{instrument.symbol}/{name}"


def day_tape(instrument: Instrument, first_day: date, days: int) -> Tape:
    """Whole days of trades, some of them marker rows."""
    return Tape.generate_days(
        first_day=first_day,
        stop_ms=day_stop_ms(first_day + timedelta(days=days - 1)),
        trades_per_day=ROWS_PER_DAY,
        seed=5,
        lot=LOTS[instrument.market],
        markers=9,
    )


@asynccontextmanager
async def served_days(
    first_day: date, days: int = 2, options: ExchangeOptions | None = None
) -> AsyncIterator[tuple[Exchange, httpx.AsyncClient]]:
    """The three instruments with whole days of trades, seen from the noon after them; and a client."""
    now_ms = day_stop_ms(first_day + timedelta(days=days - 1)) + 12 * 3_600_000
    tapes = {instrument: day_tape(instrument, first_day, days) for instrument in INSTRUMENTS}
    async with (
        open_exchange(tapes, options, clock_ms=lambda: now_ms) as exchange,
        httpx.AsyncClient(base_url=exchange.url, timeout=5) as client,
    ):
        yield exchange, client


def texts_in(content: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as container:
        assert container.testzip() is None
        return {name: container.read(name).decode() for name in container.namelist()}


def rows_in(content: bytes) -> pl.DataFrame:
    """The rows of all members as a trade frame: headers skipped, times by magnitude, booleans in any case."""
    lines = [line for text in texts_in(content).values() for line in csv.reader(io.StringIO(text))]
    rows = [
        (
            int(line[5]) // (1000 if len(line[5]) == 16 else 1),
            int(line[0]),
            float(line[1]),
            float(line[2]),
            int(line[3]),
            int(line[4]),
            line[6].lower() == "true",
            len(line) < 8 or line[7].lower() == "true",
        )
        for line in lines
        if line[0] != "agg_trade_id"
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


async def archived(client: httpx.AsyncClient, instrument: Instrument, day: date) -> pl.DataFrame:
    answer = await client.get(file_path(instrument, day))
    assert answer.status_code == 200
    return rows_in(answer.content)


def rows_of_day(exchange: Exchange, instrument: Instrument | str, day: date) -> pl.DataFrame:
    """What the tape has of a day."""
    is_day = pl.from_epoch("T", time_unit="ms").dt.date() == day
    return exchange.tape(instrument).frame.filter(is_day)
