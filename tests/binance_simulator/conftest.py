"""What the simulator's tests share: a clock in the test's hands, an exchange on a socket, a client of it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import httpx
import polars as pl
import pytest

from binance_simulator import Exchange, Tape, open_exchange
from binance_simulator.model import SCHEMA, Instrument

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: a window of every interval begins here."""

HOUR_MS = 3_600_000


@dataclass
class HandClock:
    """A host clock that stands still until the test moves it."""

    now_ms: int = START_MS + HOUR_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def tapes() -> dict[Instrument, Tape]:
    """Three markets with an hour of trades each, up to the clock's now."""
    return {
        Instrument.parse(name): Tape.generate(
            start_ms=START_MS, stop_ms=START_MS + HOUR_MS, trades=2500, seed=7, first_id=100_000, lot=lot, markers=3
        )
        for name, lot in (("spot:BTCUSDT", "0.00001"), ("um:BTCUSDT", "0.001"), ("cm:BTCUSD_PERP", "1"))
    }


@pytest.fixture
async def exchange(tapes: dict[Instrument, Tape], clock: HandClock) -> AsyncIterator[Exchange]:
    async with open_exchange(tapes, clock_ms=clock) as exchange:
        yield exchange


@pytest.fixture
async def client(exchange: Exchange) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=exchange.url, timeout=5) as client:
        yield client


@pytest.fixture
def make_frame() -> Callable[..., pl.DataFrame]:
    """Build a hand-made frame: ids and times as given, everything else plain."""

    def make(ids: list[int], times_ms: list[int]) -> pl.DataFrame:
        trades = {"T": times_ms, "a": ids, "p": 100.5, "q": 0.25, "f": ids, "l": ids, "m": False, "M": True}
        return pl.DataFrame(trades, schema=SCHEMA) if ids else pl.DataFrame(schema=SCHEMA)

    return make
