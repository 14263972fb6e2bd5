"""Time that goes back over a midnight, as real processes: in pages, in single ids and in the archive's days."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from backfilld.core.model import day_start_ms
from backfilld.scanning import scan
from binance_simulator import Exchange, ExchangeOptions, Tape
from binance_simulator.oddities import with_inversion
from tests.e2e.world import BTC, TODAY, Daemon, at_hour, exchange_at, trade_requests

DAYS = [TODAY - timedelta(days=n) for n in (2, 1, 0)]
ROWS = 1_500
WITH_ARCHIVE = ExchangeOptions(archive_delay_s=0)
WITHOUT_ARCHIVE = ExchangeOptions(archive_delay_s=10 * 86_400)


def odd_tape(rows: int) -> Tape:
    """Three days and the one before; around each midnight the last row has a time of the next day, and so many rows
    behind it one of the day before."""
    plain = Tape.generate_days(
        first_day=DAYS[0] - timedelta(days=1), stop_ms=at_hour(12), trades_per_day=ROWS, seed=rows
    )
    frame = plain.frame
    for day in DAYS:
        frame = with_inversion(frame, day_start_ms(day), rows)
    return Tape.from_frame(frame)


def check(daemon: Daemon, exchange: Exchange) -> None:
    """Every id from the first trade of the first day on is stored, under one day; days that are over are sealed."""
    manager = daemon.manager()
    facts = [manager.facts(day) for day in DAYS]
    assert [each.sealed for each in facts[:-1]] == [True, True]
    assert facts[-1].opened
    assert all(not each.holes for each in facts)
    assert all(earlier.last_id + 1 == later.first_id for earlier, later in pairwise(facts))
    tape = exchange.visible(str(BTC))
    first_id = tape.filter(pl.col("T") >= day_start_ms(DAYS[0]))["a"][0]
    stored = pl.concat([daemon.stored(day) for day in DAYS])
    assert stored.equals(tape.filter(pl.col("a") >= first_id))


@pytest.mark.parametrize("options", [WITHOUT_ARCHIVE, WITH_ARCHIVE], ids=["REST", "archive"])
@pytest.mark.parametrize("rows", [1, 3])
async def test_a_daemon_holds_every_id_once_and_verify_agrees(
    options: ExchangeOptions, rows: int, tmp_path: Path
) -> None:
    async with exchange_at(12, {BTC: odd_tape(rows)}, options) as exchange:
        daemon = Daemon(
            exchange, tmp_path / "cache", {"ARCHIVE_URL": exchange.url, "DAYS": "2", "INSTRUMENTS": str(BTC)}
        )
        await daemon.once()
        check(daemon, exchange)
        ended = await daemon.run("verify", "--json")
        assert ended.code == 0, ended
        before = len(trade_requests(exchange))
        await daemon.once()
        assert len(trade_requests(exchange)) - before <= 3
        check(daemon, exchange)
        ended = await daemon.run("verify", "--repair")
        assert ended.code == 0, ended
        assert not list(tmp_path.rglob("*.bad-*"))


@pytest.mark.time_of_day("which day a row is of")
async def test_days_filled_one_by_one_join_and_a_scan_by_time_lacks_nothing(tmp_path: Path) -> None:
    async with exchange_at(12, {BTC: odd_tape(2)}, WITHOUT_ARCHIVE) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"INSTRUMENTS": str(BTC)})
        for day in (DAYS[1], DAYS[0]):
            ended = await daemon.run("fill", "--from", str(day), "--to", str(day))
            assert ended.code == 0, ended
        manager = daemon.manager()
        first, second = manager.facts(DAYS[0]), manager.facts(DAYS[1])
        assert (first.sealed, second.sealed, first.last_id + 1) == (True, True, second.first_id)
        ended = await daemon.run("verify")
        assert ended.code == 0, ended
        tape = exchange.visible(str(BTC))
        for day, stop in ((DAYS[0], DAYS[2]), (DAYS[1], DAYS[2])):
            inside = pl.col("T").is_between(day_start_ms(day), day_start_ms(stop), closed="left")
            stored = scan(BTC, day, stop, cache_dir=daemon.cache_dir).collect()
            own = tape.filter(inside, pl.col("a").is_between(first.first_id, second.last_id))
            assert stored.equals(own)
