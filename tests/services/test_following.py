"""Following from disk: where it begins, and that a follower leaves the files as they are."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import trio

from backfilld import Settings, follow
from backfilld.core.backfill.outcome import exit_code
from backfilld.core.frame import SCHEMA
from backfilld.core.model import Instrument, day_start_ms
from backfilld.errors import EXIT_SETTINGS, BackfillIncomplete, DayDamaged, RequestRejected, SettingsError
from backfilld.services.following import _contiguous, _first_id
from backfilld.store.manager import BackfillCacheManager
from binance_simulator import Market, StreamOptions, Tape, open_exchange
from binance_simulator.exchange import host_ms
from tests.fakes import starts_at

BTC = Instrument.parse("spot:BTCUSDT")
DAYS = date(2026, 3, 2), date(2026, 3, 3)


def rows(first_id: int, times: list[int]) -> pl.DataFrame:
    count = len(times)
    ids = list(range(first_id, first_id + count))
    values = {"T": times, "a": ids, "f": ids, "l": ids} | {name: [1.0] * count for name in "pq"}
    return pl.DataFrame(values | {name: [True] * count for name in "mM"}, schema_overrides=SCHEMA).select(list(SCHEMA))


@pytest.fixture
def manager(tmp_path: Path) -> BackfillCacheManager:
    """Ids 10 to 13 of the first day, 14 and 16 of the second; 15 is a hole."""
    made = BackfillCacheManager(tmp_path / "market=spot" / "symbol=BTCUSDT", BTC)
    first, second = (day_start_ms(day) for day in DAYS)
    made.append(DAYS[0], rows(10, [first + at for at in (1000, 2000, 2000, 3000)]), day_starts=starts_at(DAYS[0], 10))
    made.append(DAYS[1], pl.concat([rows(14, [second + 5]), rows(16, [second + 9])]), day_starts=starts_at(DAYS[1], 14))
    return made


@pytest.mark.parametrize(
    ("at_ms", "expected"),
    [(0, 10), (1000, 10), (1001, 11), (2000, 11), (2001, 13), (3001, 14), (86_400_000, 14), (86_400_006, 16)],
)
def test_a_time_names_the_first_trade_at_or_after_it(manager: BackfillCacheManager, at_ms: int, expected: int) -> None:
    assert _first_id(manager, day_start_ms(DAYS[0]) + at_ms) == expected


def test_after_all_that_is_stored_it_is_the_next_id(manager: BackfillCacheManager) -> None:
    assert _first_id(manager, day_start_ms(DAYS[1]) + 10) == 17


def test_a_time_that_the_cache_does_not_reach_back_to_is_refused(tmp_path: Path) -> None:
    made = BackfillCacheManager(tmp_path / "market=spot" / "symbol=BTCUSDT", BTC)
    start = day_start_ms(DAYS[0])
    with pytest.raises(BackfillIncomplete, match="nothing is stored"):
        _first_id(made, start)
    made.append(DAYS[0], rows(10, [start + 1000]))
    with pytest.raises(BackfillIncomplete, match="stored from 2026-03-02T00:00:01"):
        _first_id(made, start)


async def test_an_id_and_a_time_exclude_each_other() -> None:
    with pytest.raises(SettingsError, match="exclude"):
        await anext(follow(BTC, from_id=3, start=datetime(2026, 3, 2, tzinfo=UTC), settings=Settings()))


@pytest.mark.parametrize("from_id", [-1, 2**53 + 1, 1.5, "7"])
async def test_what_is_no_id_is_refused(from_id: Any) -> None:
    with pytest.raises(SettingsError, match=r"from_id = .*: it must be a whole number from 0 to 2\^53"):
        await anext(follow(BTC, from_id=from_id, settings=Settings()))


async def test_a_start_in_the_future_is_refused(tmp_path: Path) -> None:
    """The next trade would be before it."""
    with pytest.raises(SettingsError, match="start 2999-01-01 lies in the future"):
        await anext(follow(BTC, start="2999-01-01", settings=Settings(cache_dir=tmp_path)))


def test_a_start_before_the_first_day_is_refused(manager: BackfillCacheManager) -> None:
    with pytest.raises(
        BackfillIncomplete, match=r"does not reach back to 2026-02-27T.*: spot:BTCUSDT 2026-02-27: no file"
    ):
        _first_id(manager, day_start_ms(date(2026, 2, 27)))


async def test_a_symbol_that_is_not_listed_ends_it_at_once(tmp_path: Path) -> None:
    tape = Tape.generate(start_ms=host_ms() - 60_000, stop_ms=host_ms(), trades=100, seed=1)
    async with open_exchange({str(BTC): tape}, streams=StreamOptions()) as exchange:
        urls = {"spot_url": exchange.url, "spot_stream_url": exchange.streams.urls[Market.SPOT]}
        with (
            trio.fail_after(10),
            pytest.raises(RequestRejected, match="spot:NOSUCH: the exchange lists no such symbol") as refused,
        ):
            await anext(follow("spot:NOSUCH", settings=Settings(cache_dir=tmp_path, live=True, **urls)))
    assert exit_code(refused.value) == EXIT_SETTINGS


def test_what_follows_comes_up_to_the_first_hole(manager: BackfillCacheManager) -> None:
    assert [list(part["a"]) for part in _contiguous(manager, 12, 100)] == [[12, 13], [14]]
    assert [list(part["a"]) for part in _contiguous(manager, 11, 13)] == [[11, 12]]
    assert list(_contiguous(manager, 15, 100)) == []


def test_a_broken_file_is_left_to_the_daemon(manager: BackfillCacheManager) -> None:
    path = manager.get_cache_path(DAYS[0])
    path.write_bytes(path.read_bytes()[:100])
    before = sorted(manager.directory.iterdir())
    assert list(_contiguous(manager, 10, 100)) == []
    assert sorted(manager.directory.iterdir()) == before


def test_a_damaged_day_is_named_where_it_is_needed_and_only_there(manager: BackfillCacheManager) -> None:
    noon_ms = day_start_ms(DAYS[1]) + 7
    path = manager.get_cache_path(DAYS[0])
    path.write_bytes(path.read_bytes()[:100])
    assert _first_id(manager, noon_ms) == 16
    with pytest.raises(DayDamaged, match=f"{path} cannot be used: it cannot be decoded .*; backfilld verify --repair"):
        _first_id(manager, day_start_ms(DAYS[0]))
