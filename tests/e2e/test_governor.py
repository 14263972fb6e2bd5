"""The daemon beside other programs, under bans, lies and closed hosts: what the exchange itself counts."""

import signal
from collections import Counter
from pathlib import Path

import pytest
import trio

from backfilld.core.model import Instrument, Market
from binance_simulator import (
    ORDINARY_FAULTS,
    ExchangeOptions,
    Fault,
    FaultPlan,
    Interval,
    Pool,
    RequestRecord,
    TenantOptions,
)
from tests.e2e.world import BTC, Daemon, ended, exchange_at, generated, kill, until_stored

SHARE = 0.8


def own_weight(records: list[RequestRecord], interval_ms: int) -> Counter[int]:
    """Our weight by window of the exchange's clock."""
    spent: Counter[int] = Counter()
    for record in records:
        spent[record.arrived_ms // interval_ms] += record.weight
    return spent


async def test_the_specified_limit_with_another_tenant(tmp_path: Path) -> None:
    """400 weight in 10 s, of which another program takes a fifth: no 429, and every trade."""
    options = ExchangeOptions(
        limits={Pool.SPOT: 400}, interval=Interval.parse("10S"), tenant=TenantOptions(weight_per_s=8.0)
    )
    async with exchange_at(16, {BTC: generated(60_000)}, options) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        await daemon.once()
        assert daemon.stored().equals(daemon.tape_of_today())
        assert {record.status for record in exchange.requests} == {200}


async def test_of_its_share_beside_a_tenant_85_percent_is_used(tmp_path: Path) -> None:
    """Windows of 2 s, so that many of them are full. A busy machine spoils some: the better half of them counts."""
    limit, tenant_per_s, interval_ms = 200, 10.0, 2_000
    options = ExchangeOptions(
        limits={Pool.SPOT: limit}, interval=Interval.parse("2S"), tenant=TenantOptions(weight_per_s=tenant_per_s)
    )
    async with exchange_at(16, {BTC: generated(300_000)}, options) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        await daemon.once()
        assert daemon.stored().equals(daemon.tape_of_today())
        assert {record.status for record in exchange.requests} == {200}
        spent = own_weight(list(exchange.requests), interval_ms)
        whole = sorted(spent[window] for window in sorted(spent)[2:-1])
        room = SHARE * limit - tenant_per_s * interval_ms / 1000
        assert len(whole) >= 3
        better = whole[len(whole) // 2 :]
        assert sum(better) / len(better) >= 0.85 * room


@pytest.mark.parametrize("arguments", [("run", "--once"), ("run",)], ids=["once", "daemon"])
async def test_killed_in_a_ban_and_started_again_nothing_is_sent_until_it_ends(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    async with exchange_at(16, {BTC: generated(60_000)}, ExchangeOptions(latency_s=0.05)) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        process = daemon.start("run", "--once")
        with trio.fail_after(30):
            while len(exchange.requests) < 15:
                await trio.sleep(0.01)
            exchange.ban(Pool.SPOT, 5.0)
            began_ms = exchange.now_ms()
            while not any(record.status == 418 for record in exchange.requests):
                await trio.sleep(0.01)
        await trio.sleep(1.0)
        await kill(process)
        process = daemon.start(*arguments)
        await until_stored(daemon, daemon.tape_of_today().height)
        if arguments == ("run",):
            process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
        refused = [record for record in exchange.requests if record.status == 418]
        assert len(refused) <= 5, "what was in flight"
        in_ban = [record for record in exchange.requests if began_ms + 1_000 < record.arrived_ms < began_ms + 4_900]
        assert in_ban == []
        assert daemon.stored().equals(daemon.tape_of_today())


async def test_a_long_ban_is_remembered_and_reported_without_asking(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: generated(5_000)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        exchange.ban(Pool.SPOT, 300.0)
        assert (await daemon.run("run", "--once")).code == 75
        asked = len(exchange.requests)
        done = await daemon.run("run", "--once")
        assert done.code == 75
        assert "banned us for another" in done.stderr
        assert [event["reason"] for event in done.events if event["event"] == "exchange_paused"] == ["banned"]
        assert len(exchange.requests) == asked


LIES = tuple(
    fault
    for fault in ORDINARY_FAULTS
    if fault not in {Fault.SILENCE, Fault.DRIP, Fault.STATUS_451, Fault.STATUS_403_HTML, Fault.STATUS_503_HTML}
)


@pytest.mark.parametrize("seed", [1, 2])
async def test_with_30_percent_of_the_answers_faulty_the_day_is_exact(tmp_path: Path, seed: int) -> None:
    options = ExchangeOptions(faults=FaultPlan(share=0.3, kinds=(*LIES, Fault.DRIP), seed=seed))
    async with exchange_at(16, {BTC: generated(60_000)}, options) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"REQUEST_TIMEOUT_SECONDS": "1"})
        await daemon.once()
        assert daemon.stored().equals(daemon.tape_of_today())
        assert len(exchange.requests) <= 2 * 64 + 20


async def test_a_busy_instrument_does_not_keep_fifty_quiet_ones_waiting(tmp_path: Path) -> None:
    quiet = [Instrument(Market.SPOT, f"Q{n:02}USDT") for n in range(49)]
    tapes = {each: generated(1_200, seed=n) for n, each in enumerate(quiet)} | {BTC: generated(120_000)}
    options = ExchangeOptions(limits={Pool.SPOT: 200}, interval=Interval.parse("2S"))
    async with exchange_at(16, tapes, options) as exchange:
        names = " ".join(map(str, [BTC, *quiet]))
        daemon = Daemon(exchange, tmp_path / "cache", {"INSTRUMENTS": names})
        await daemon.once()
        served: Counter[str] = Counter()
        last_quiet, half_busy = 0, 0
        for record in exchange.requests:
            symbol = record.query.partition("symbol=")[2].partition("&")[0]
            served[symbol] += record.rows
            if record.endpoint == "aggTrades" and symbol != BTC.symbol:
                last_quiet = record.number
            if symbol == BTC.symbol and served[symbol] >= 60_000 and not half_busy:
                half_busy = record.number
        assert 0 < last_quiet < half_busy


async def test_an_unreachable_or_closed_host_is_left_for_the_next(tmp_path: Path) -> None:
    closed = ExchangeOptions(faults=FaultPlan(share=1.0, kinds=(Fault.STATUS_451,)))
    tapes = {BTC: generated(20_000)}
    async with exchange_at(16, tapes) as exchange, exchange_at(16, tapes, closed) as elsewhere:
        hosts = f"http://127.0.0.1:9, {elsewhere.url}, {exchange.url}"
        daemon = Daemon(exchange, tmp_path / "cache", {"SPOT_URL": hosts})
        await daemon.once()
        assert daemon.stored().equals(daemon.tape_of_today())
        assert len(elsewhere.requests) <= 5
        alone = Daemon(elsewhere, tmp_path / "other")
        done = await alone.run("run", "--once")
        assert done.code == 78
        assert f"{elsewhere.url}: 451: closed to us here" in done.stderr


async def test_a_page_of_the_cdn_means_minutes_of_silence(tmp_path: Path) -> None:
    options = ExchangeOptions(faults=FaultPlan(share=1.0, kinds=(Fault.STATUS_403_HTML,)))
    async with exchange_at(16, {BTC: generated(5_000)}, options) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        process = daemon.start("run")
        with trio.fail_after(20):
            while not exchange.requests:
                await trio.sleep(0.01)
        await trio.sleep(1.0)
        asked = len(exchange.requests)
        assert asked <= 5
        await trio.sleep(3.0)
        assert len(exchange.requests) == asked
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
