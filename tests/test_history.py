"""The guide's programmatic examples, against the embedded exchange over real HTTP."""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import polars as pl
import pytest
import trio
from polars.testing import assert_frame_equal

from backfilld import (
    BackfillCacheManager,
    BinanceTradeHistory,
    CacheLocked,
    Instrument,
    RequestRejected,
    Settings,
    SettingsError,
    TransientError,
    assembly,
)
from backfilld.core.model import day_start_ms
from backfilld.core.retry import Backoff
from backfilld.store.lock import locked
from binance_simulator import (
    ORDINARY_FAULTS,
    Exchange,
    ExchangeOptions,
    Fault,
    FaultPlan,
    RequestRecord,
    Tape,
    open_exchange,
)
from binance_simulator.exchange import host_ms

pytestmark = pytest.mark.usefixtures("clean_place")

DAY = date(2025, 11, 7)
BTC = Instrument.parse("spot:BTCUSDT")
ETH = Instrument.parse("um:ETHUSDT")
HOUR_MS = 3_600_000
START_MS = day_start_ms(DAY)
NOW_MS = START_MS + 12 * HOUR_MS


def at(hour: float) -> datetime:
    """That hour of DAY, in UTC; before 0 of the day before."""
    return datetime(2025, 11, 7, tzinfo=UTC) + timedelta(hours=hour)


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    """An exchange on which it is noon of DAY; its trades began two days before."""
    spot = Tape.generate(start_ms=START_MS - 30 * HOUR_MS, stop_ms=NOW_MS, trades=9000, seed=3, markers=5)
    futures = Tape.generate(start_ms=START_MS - 2 * HOUR_MS, stop_ms=NOW_MS, trades=2500, seed=4, first_id=7)
    options = ExchangeOptions(clock_skew_ms=NOW_MS - host_ms())
    async with open_exchange({str(BTC): spot, str(ETH): futures}, options) as exchange:
        yield exchange


def settings_for(exchange: Exchange, **values: Any) -> Settings:
    urls = dict.fromkeys(("spot_url", "um_url", "cm_url"), exchange.url)
    return Settings(**urls | {"backfill_cache_dir": "./my_cache", "instruments": "spot:BTCUSDT"} | values)


def history_of(exchange: Exchange, **values: Any) -> BinanceTradeHistory:
    return BinanceTradeHistory(settings_for(exchange, **values))


def rows_of(exchange: Exchange, start: datetime, end: datetime, instrument: Instrument = BTC) -> pl.DataFrame:
    """The tape's rows with start <= T < end."""
    start_ms, end_ms = (round(moment.timestamp() * 1000) for moment in (start, end))
    return exchange.tape(str(instrument)).frame.filter(pl.col("T").is_between(start_ms, end_ms, closed="left"))


def served_ids(records: Collection[RequestRecord], *, single: bool = False) -> list[int]:
    """Every id that was sent, as often as it was. Single rows, which locate an end or confirm what is stored, count
    only if asked for."""
    ids: list[int] = []
    for record in records:
        query = parse_qs(record.query)
        only_located = query.get("limit") == ["1"]
        if record.first_id is not None and record.last_id is not None and (single or not only_located):
            ids += range(record.first_id, record.last_id + 1)
    return ids


async def backfill(history: BinanceTradeHistory, start: datetime, end: datetime) -> pl.DataFrame:
    with trio.fail_after(60):
        return await history.backfill_with_cache(start, end)


async def test_a_cold_start_gives_the_tape_and_asks_for_no_row_twice(exchange: Exchange) -> None:
    """The guide's example: from midnight to now."""
    trades = await backfill(history_of(exchange), at(0), at(12))
    expected = rows_of(exchange, at(0), at(12))
    assert expected.height > 1000
    assert_frame_equal(trades, expected)
    ids = served_ids(exchange.requests)
    assert len(ids) - len(set(ids)) == 0
    assert len(exchange.requests) <= -(-expected.height // 1000) + 5
    stored = BackfillCacheManager(Path("my_cache/market=spot/symbol=BTCUSDT")).load_cached_trades(DAY)
    assert stored is not None
    assert_frame_equal(stored, expected)


async def test_the_second_time_nothing_is_downloaded_that_is_stored(exchange: Exchange) -> None:
    first = await backfill(history_of(exchange), at(0), at(11))
    exchange.requests.clear()
    again = await backfill(history_of(exchange), at(0), at(11))
    assert_frame_equal(again, first)
    assert len([record for record in exchange.requests if record.endpoint == "aggTrades"]) <= 2
    assert set(served_ids(exchange.requests)).isdisjoint(first["a"].to_list())


async def test_on_resume_only_what_is_new_is_downloaded(exchange: Exchange) -> None:
    """The guide's acceptance: a few hours after, only the new hours cross the wire."""
    first = await backfill(history_of(exchange), at(0), at(9))
    exchange.requests.clear()
    grown = await backfill(history_of(exchange), at(0), at(12))
    assert_frame_equal(grown, rows_of(exchange, at(0), at(12)))
    assert set(served_ids(exchange.requests)).isdisjoint(first["a"].to_list())


@pytest.mark.parametrize(
    ("start", "end"),
    [(3.25, 7.5), (-20, -3), (-5, 5), (11.99, 12), (-40, 12), (5, 5.0000003)],
    ids=["middle", "past", "midnight", "last", "before the first", "a ms"],
)
async def test_any_window_gives_exactly_its_rows(exchange: Exchange, start: float, end: float) -> None:
    trades = await backfill(history_of(exchange), at(start), at(end))
    assert_frame_equal(trades, rows_of(exchange, at(start), at(end)))


async def test_overlapping_windows_share_what_is_stored(exchange: Exchange) -> None:
    """And a third that covers both is the tape's rows, in order."""
    history = history_of(exchange)
    first = await backfill(history, at(2), at(6))
    exchange.requests.clear()
    second = await backfill(history, at(4), at(8))
    assert_frame_equal(second, rows_of(exchange, at(4), at(8)))
    assert set(served_ids(exchange.requests)).isdisjoint(first["a"].to_list())
    assert_frame_equal(await backfill(history, at(1), at(9)), rows_of(exchange, at(1), at(9)))


async def test_windows_with_a_gap_between_them_are_not_taken_for_one(exchange: Exchange) -> None:
    history = history_of(exchange)
    await backfill(history, at(1), at(2))
    exchange.requests.clear()
    second = await backfill(history, at(8), at(9))
    served, wanted = set(served_ids(exchange.requests)), set(second["a"].to_list())
    assert min(served) == min(wanted)
    assert len(served - wanted) < 1000, "more than the page that shows what follows the window"
    assert_frame_equal(await backfill(history, at(0), at(10)), rows_of(exchange, at(0), at(10)))


async def test_an_end_in_the_future_is_now(exchange: Exchange) -> None:
    assert_frame_equal(await backfill(history_of(exchange), at(6), at(18)), rows_of(exchange, at(6), at(12.1)))


async def test_a_window_without_trades_is_an_empty_frame(exchange: Exchange) -> None:
    """Before the first trade of all."""
    trades = await backfill(history_of(exchange), at(-60), at(-50))
    assert trades.is_empty()
    assert trades.columns == ["T", "a", "p", "q", "f", "l", "m", "M"]


async def test_an_instant_in_another_time_zone_is_the_same_instant(exchange: Exchange) -> None:
    tokyo = timezone(timedelta(hours=9))
    trades = await backfill(history_of(exchange), at(3).astimezone(tokyo), at(4).astimezone(tokyo))
    assert_frame_equal(trades, rows_of(exchange, at(3), at(4)))


async def test_the_instrument_may_be_named_as_text_or_value(exchange: Exchange) -> None:
    settings = settings_for(exchange)
    for instrument in ("um:ETHUSDT", ETH):
        trades = await backfill(BinanceTradeHistory(settings, instrument), at(1), at(3))
        assert_frame_equal(trades, rows_of(exchange, at(1), at(3), ETH))
    assert Path("my_cache/market=um/symbol=ETHUSDT/backfill_2025-11-07.parquet").is_file()
    assert BinanceTradeHistory(settings).instrument == BTC


async def test_with_the_cache_disabled_no_file_is_written_anywhere(exchange: Exchange) -> None:
    """And nothing is remembered: the second time it is all downloaded again."""
    history = history_of(exchange, backfill_cache_enabled=False)
    for _ in range(2):
        exchange.requests.clear()
        trades = await backfill(history, at(-3), at(4))
        assert_frame_equal(trades, rows_of(exchange, at(-3), at(4)))
        assert set(served_ids(exchange.requests, single=True)) >= set(trades["a"].to_list())
    assert list(Path.cwd().iterdir()) == []


async def test_with_the_cache_disabled_no_file_is_read(exchange: Exchange) -> None:
    await backfill(history_of(exchange), at(0), at(12))
    exchange.requests.clear()
    trades = await backfill(history_of(exchange, cache_enabled=False), at(0), at(12))
    assert set(served_ids(exchange.requests, single=True)) >= set(trades["a"].to_list())


async def test_a_damaged_day_is_downloaded_again(exchange: Exchange) -> None:
    expected = await backfill(history_of(exchange), at(0), at(12))
    file = Path("my_cache/market=spot/symbol=BTCUSDT/backfill_2025-11-07.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    assert_frame_equal(await backfill(history_of(exchange), at(0), at(12)), expected)
    assert len(list(file.parent.glob("*.bad-*"))) == 1


# -- refusals


@pytest.mark.parametrize("which", ["start", "end"])
async def test_a_naive_datetime_is_refused(exchange: Exchange, which: str) -> None:
    moments = {"start": at(0), "end": at(1)}
    moments[which] = moments[which].replace(tzinfo=None)
    with pytest.raises(SettingsError, match="has no time zone: give an aware datetime"):
        await backfill(history_of(exchange), moments["start"], moments["end"])
    assert len(exchange.requests) == 0


@pytest.mark.parametrize(("start", "end"), [(2, 1), (1, 1)])
async def test_a_start_that_is_not_before_the_end_is_refused(exchange: Exchange, start: float, end: float) -> None:
    with pytest.raises(SettingsError, match=r"start 2025-11-07T\S+ is not before end 2025-11-07T01:00:00\+00:00"):
        await backfill(history_of(exchange), at(start), at(end))
    assert len(exchange.requests) == 0
    assert not Path("my_cache").exists()


@pytest.mark.parametrize("instrument", ["spot:NOSUCHUSDT", "um:NOSUCHUSDT"])
async def test_an_unknown_symbol_is_rejected(exchange: Exchange, instrument: str) -> None:
    with pytest.raises(RequestRejected) as caught:
        await backfill(history_of(exchange, instruments=instrument), at(0), at(1))
    assert caught.value.code == -1121


@pytest.mark.parametrize("instrument", ["BTCUSDT", "spot:../x", ""])
def test_a_malformed_instrument_is_refused_when_it_is_named(instrument: str) -> None:
    with pytest.raises(SettingsError, match="instrument"):
        BinanceTradeHistory(Settings(), instrument)


async def test_what_every_page_skips_is_asked_for_by_itself(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page comes without its middle row, whenever it is asked for; a single row is not skipped."""
    monkeypatch.setattr(assembly, "Backoff", partial(Backoff, deadline_s=0.1, first_s=0.001))
    exchange.options = ExchangeOptions(
        clock_skew_ms=exchange.options.clock_skew_ms, faults=FaultPlan(share=1.0, kinds=(Fault.HOLE,))
    )
    assert_frame_equal(await backfill(history_of(exchange), at(0), at(12)), rows_of(exchange, at(0), at(12)))


async def test_faults_that_pass_leave_no_trace(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the answers spoilt in every way that is over at once: the frame is the tape's."""
    monkeypatch.setattr(assembly, "Backoff", partial(Backoff, attempts=40, first_s=0.001, cap_s=0.01))
    kinds = tuple(each for each in ORDINARY_FAULTS if each not in {Fault.SILENCE, Fault.DRIP, Fault.STATUS_451})
    exchange.options = ExchangeOptions(
        clock_skew_ms=exchange.options.clock_skew_ms, faults=FaultPlan(share=0.34, kinds=kinds, seed=5)
    )
    assert_frame_equal(await backfill(history_of(exchange), at(-6), at(12)), rows_of(exchange, at(-6), at(12)))


async def test_an_exchange_out_of_reach_is_transient(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "Backoff", partial(Backoff, deadline_s=0.1, first_s=0.001))
    with pytest.raises(TransientError, match="out of reach"):
        await backfill(history_of(exchange, spot_url="http://127.0.0.1:1"), at(0), at(1))


async def test_a_cache_that_another_holds_is_refused_and_let_go_afterwards(exchange: Exchange) -> None:
    history = history_of(exchange)
    with locked(Path("my_cache")), pytest.raises(CacheLocked):
        await backfill(history, at(0), at(1))
    assert len(exchange.requests) == 0
    await backfill(history, at(0), at(1))
    with locked(Path("my_cache")):
        pass
