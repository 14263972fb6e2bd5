"""``backfilld.scan``: exactly the trades of a span, and never fewer without a word."""

import os
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import backfilld
from backfilld import (
    BackfillCacheManager,
    BackfillIncomplete,
    IncompleteSpan,
    Instrument,
    Settings,
    SettingsError,
    scan,
)
from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.core.frame import SCHEMA
from backfilld.core.model import MS_PER_DAY, IdRange, day_start_ms
from backfilld.store.layout import instrument_directory
from backfilld.store.shown_state import save_shown
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame

DAYS = [DAY + timedelta(days=n) for n in range(4)]
EVERY_MS = 10 * 60_000
"""A trade every ten minutes: 144 a day."""


def tape(ids: Iterable[int]) -> pl.DataFrame:
    """Trades from the beginning of DAY on, id 1000 at its first millisecond."""
    trades = day_frame(ids)
    return trades.with_columns(T=day_start_ms(DAY) + (pl.col("a") - 1000) * EVERY_MS)


def instant(trade_id: int) -> datetime:
    return datetime.fromtimestamp((day_start_ms(DAY) + (trade_id - 1000) * EVERY_MS) / 1000, UTC)


def fill(cache: Path, stored: Iterable[int], starts: Iterable[int] = (), instrument: Instrument = SPOT) -> None:
    manager = BackfillCacheManager(instrument_directory(cache, instrument), instrument)
    trades = tape(stored)
    for number, day in enumerate(DAYS):
        inside = trades.filter((pl.col("T") - day_start_ms(DAY)) // MS_PER_DAY == number)
        if inside.height:
            manager.append(day, inside, starts_at(day, *starts))


STARTS = [1000, 1144, 1288, 1432]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two sealed days and a third that goes on: ids 1000 to 1299."""
    fill(tmp_path, range(1000, 1300), STARTS)
    return tmp_path


def test_whole_days_by_date(cache: Path) -> None:
    frame = scan("spot:BTCUSDT", DAY, DAY + timedelta(days=2), cache_dir=cache)
    assert isinstance(frame, pl.LazyFrame)
    assert dict(frame.collect_schema()) == SCHEMA
    assert_frame_equal(frame.collect(), tape(range(1000, 1288)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1000, 1298), st.integers(1, 299), st.integers(-1, 1), st.integers(-1, 1))
def test_any_span_that_is_stored_gives_exactly_its_trades(
    tmp_path_factory: pytest.TempPathFactory, first: int, length: int, start_ms: int, stop_ms: int
) -> None:
    """To the millisecond, over midnight, up to the last trade that is stored, which proves all before it."""
    root = tmp_path_factory.getbasetemp() / "scanned"
    if not root.exists():
        fill(root, range(1000, 1300), STARTS)
    last = min(first + length, 1299)
    start = max(instant(first) + timedelta(milliseconds=start_ms), instant(1000))
    stop = min(instant(last) + timedelta(milliseconds=stop_ms), instant(1299))
    if start >= stop:
        return
    expected = tape(range(1000, 1300)).filter(
        pl.col("T").is_between(int(start.timestamp() * 1000), int(stop.timestamp() * 1000), closed="left")
    )
    assert_frame_equal(scan(SPOT, start, stop, cache_dir=root).collect(), expected)


@pytest.mark.parametrize(
    ("stored", "starts", "start", "stop", "said"),
    [
        (range(1000, 1300), STARTS, DAY, instant(1299) + timedelta(milliseconds=1), "stored up to 2025-11-09T01:50:00"),
        (range(1000, 1300), STARTS, DAYS[2], DAYS[3], "spot:BTCUSDT 2025-11-09: stored up to 2025-11-09T01:50:00"),
        (range(1000, 1300), STARTS, DAYS[1], instant(1440), "spot:BTCUSDT 2025-11-10: no file"),
        (range(1000, 1300), STARTS, DAY - timedelta(days=1), DAYS[1], "spot:BTCUSDT 2025-11-06: no file"),
        (range(1000, 1300), [1144, 1288], DAYS[0], DAYS[1], "2025-11-07: stored from 2025-11-07T00:00:00"),
        (range(1050, 1300), [1144, 1288], instant(1050), DAYS[1], "2025-11-07: stored from 2025-11-07T08:20:00"),
        ([*range(1000, 1010), *range(1020, 1300)], STARTS, DAY, DAYS[1], "2025-11-07: ids 1010 to 1019 are missing"),
        ([*range(1000, 1100), *range(1200, 1300)], STARTS, DAY, DAYS[2], "11-07: stored up to 2025-11-07T16:30:00"),
    ],
)  # fmt: skip
def test_a_span_that_may_lack_trades_is_refused_by_name(
    tmp_path: Path, stored: Iterable[int], starts: list[int], start: date, stop: date, said: str
) -> None:
    fill(tmp_path, stored, starts)
    with pytest.raises(BackfillIncomplete, match=said):
        scan(SPOT, start, stop, cache_dir=tmp_path)
    with pytest.warns(IncompleteSpan, match=said):
        found = scan(SPOT, start, stop, cache_dir=tmp_path, incomplete="warn")
    everything = tape(stored).filter(pl.col("T") < _ms(stop), pl.col("T") >= _ms(start))
    assert_frame_equal(found.collect(), everything)


def _ms(moment: date) -> int:
    return int(moment.timestamp() * 1000) if isinstance(moment, datetime) else day_start_ms(moment)


def test_holes_outside_the_span_do_not_matter(tmp_path: Path) -> None:
    """Nor do ids that the exchange itself does not have."""
    fill(tmp_path, [*range(1000, 1010), *range(1020, 1144)], [1000, 1144])
    with pytest.raises(BackfillIncomplete, match="ids 1010 to 1019 are missing"):
        scan(SPOT, instant(1020), DAYS[1], cache_dir=tmp_path)
    found = scan(SPOT, instant(1020) + timedelta(seconds=1), DAYS[1], cache_dir=tmp_path)
    assert_frame_equal(found.collect(), tape(range(1021, 1144)))
    assert_frame_equal(scan(SPOT, DAY, instant(1009), cache_dir=tmp_path).collect(), tape(range(1000, 1009)))
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT))
    manager.append(DAY, tape([]), absent=[IdRange(1010, 1019)])
    assert scan(SPOT, DAY, DAYS[1], cache_dir=tmp_path).collect().height == 134


def test_a_day_without_a_trade_is_whole_if_its_neighbours_prove_it(tmp_path: Path) -> None:
    """An instrument that is not traded: the ids go on where they ended two days before."""
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT))
    manager.append(DAYS[0], tape(range(1000, 1010)), starts_at(DAYS[0], 1000, 1010))
    quiet = tape(range(1010, 1020)).with_columns(pl.col("T") + 2 * MS_PER_DAY)
    manager.append(DAYS[2], quiet, starts_at(DAYS[2], 1010, 1020))
    assert scan(SPOT, DAYS[0], DAYS[3], cache_dir=tmp_path).collect().height == 20
    manager.append(DAYS[0], tape([1010]))
    with pytest.raises(BackfillIncomplete, match="2025-11-08: no file"):
        scan(SPOT, DAYS[0], DAYS[3], cache_dir=tmp_path)


def test_several_instruments_come_one_after_the_other_with_market_and_symbol(tmp_path: Path) -> None:
    """Also below a directory that looks like Hive's, and with symbols of another script or all digits."""
    root = tmp_path / "env=prod" / "cache"
    names = ["um:ETHUSDT", "spot:币安人生USDT", "um:1000"]
    for name in names:
        fill(root, range(1000, 1144), [1000, 1144], Instrument.parse(name))
    frame = scan(names, DAYS[0], DAYS[1], cache_dir=root)
    assert dict(frame.collect_schema()) == SCHEMA | {"market": pl.String(), "symbol": pl.String()}
    counted = frame.group_by("market", "symbol", maintain_order=True).len().collect()
    assert counted.rows() == [("um", "ETHUSDT", 144), ("spot", "币安人生USDT", 144), ("um", "1000", 144)]
    one = frame.filter(pl.col("symbol") == "1000").drop("market", "symbol").collect()
    assert_frame_equal(one, tape(range(1000, 1144)))


def test_filters_reach_the_files(cache: Path) -> None:
    """The plan reads Parquet with the predicates, not all of it into memory first."""
    plan = scan(SPOT, instant(1010), instant(1020), cache_dir=cache).filter(pl.col("q") > 0.004).select("p").explain()
    assert "Parquet SCAN" in plan
    assert plan.count("FILTER") == 0
    assert "SELECTION:" in plan
    assert "PROJECT" in plan


def test_files_of_other_instruments_are_not_even_opened(cache: Path) -> None:
    fill(cache, range(1000, 1144), [1000, 1144], Instrument.parse("um:ETHUSDT"))
    both = scan([SPOT, "um:ETHUSDT"], DAYS[0], DAYS[1], cache_dir=cache)
    plan = both.filter(pl.col("symbol") == "ETHUSDT").explain()
    assert "symbol=ETHUSDT" in plan
    assert "symbol=BTCUSDT" not in plan


def test_files_that_cannot_be_used_are_missing(cache: Path) -> None:
    path = BackfillCacheManager(instrument_directory(cache, SPOT)).get_cache_path(DAYS[1])
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BackfillIncomplete, match="2025-11-08: the file cannot be used, it cannot be decoded"):
        scan(SPOT, DAYS[0], DAYS[2], cache_dir=cache)
    with pytest.warns(IncompleteSpan):
        found = scan(SPOT, DAYS[0], DAYS[2], cache_dir=cache, incomplete="warn")
    assert_frame_equal(found.collect(), tape(range(1000, 1144)))
    assert path.exists(), "nothing is moved"


def test_no_row_comes_of_a_file_that_was_altered(cache: Path) -> None:
    """A byte of a price under a footer that says that all is well, with the time of change set back: polars would
    decode it. It is found again once the file was read."""
    path = BackfillCacheManager(instrument_directory(cache, SPOT)).get_cache_path(DAYS[1])
    whole, times = path.read_bytes(), path.stat()
    assert scan(SPOT, DAYS[0], DAYS[2], cache_dir=cache).collect().height == 288
    pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in range(4, pages, 97):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1
        path.write_bytes(spoilt)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(BackfillIncomplete, match="2025-11-08: the file cannot be used, its bytes are not those"):
            scan(SPOT, DAYS[0], DAYS[2], cache_dir=cache)
    path.write_bytes(whole)
    assert scan(SPOT, DAYS[0], DAYS[2], cache_dir=cache).collect().height == 288


def test_nothing_at_all_is_an_empty_frame_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(IncompleteSpan, match=r"2025-11-11: no file and 5 more$"):
        found = scan(SPOT, DAY, DAY + timedelta(days=10), cache_dir=tmp_path, incomplete="warn")
    assert found.collect().is_empty()
    assert dict(found.collect_schema()) == SCHEMA


def test_the_cache_is_that_of_the_settings(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_settings = scan(SPOT, DAYS[0], DAYS[1], settings=Settings(cache_dir=cache))
    assert of_settings.select(pl.len()).collect().item() == 144
    monkeypatch.setenv("BACKFILL_CACHE_DIR", str(cache))
    assert scan(SPOT, DAYS[0], DAYS[1]).select(pl.len()).collect().item() == 144


@pytest.mark.parametrize("unit", ["D", "s", "us", "ns"])
def test_an_instant_of_numpy_is_in_utc(cache: Path, unit: Any) -> None:
    start, stop = (np.datetime64(str(day), unit) for day in DAYS[:2])
    assert_frame_equal(scan(SPOT, start, stop, cache_dir=cache), scan(SPOT, DAYS[0], DAYS[1], cache_dir=cache))


@pytest.mark.parametrize(
    "moment",
    [None, 5, 1.5, b"2025-11-07", ["2025-11-07"], np.datetime64("NaT"), np.datetime64(2**40, "D"), pd.NaT],
    ids=repr,
)
def test_what_is_not_an_instant_is_refused_in_a_sentence(moment: Any, cache: Path) -> None:
    for call in (scan, backfilld.bars, backfilld.profile, backfilld.fetch):
        with pytest.raises(SettingsError, match="is not a moment: give a date, an aware datetime, or ISO 8601 text"):
            call(SPOT, moment, DAYS[1])


def test_text_without_a_zone_is_refused_with_what_to_write(cache: Path) -> None:
    with pytest.raises(SettingsError, match="'2025-11-07 10:00' has no time zone: write 2025-11-07T10:00:00Z for UTC"):
        scan(SPOT, "2025-11-07 10:00", DAYS[1], cache_dir=cache)


@pytest.mark.parametrize("text", ["spot:btcusdt", "BTC/USDT", " Spot:BTC/USDT "])
def test_an_instrument_is_spelled_as_on_the_command_line(text: str, cache: Path) -> None:
    assert scan(text, DAYS[0], DAYS[1], cache_dir=cache).select(pl.len()).collect().item() == 144
    assert backfilld.BinanceTradeHistory(Settings(cache_dir=cache), text).instrument == SPOT


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("BTCUSDT", "instrument 'BTCUSDT': write market:SYMBOL .* did you mean spot:BTCUSDT?"),
        ("", "instrument '': write market:SYMBOL"),
        (5, "5 is not an instrument: give text such as 'spot:BTCUSDT'"),
        (None, "None is not an instrument"),
        (b"spot:BTCUSDT", "is not an instrument"),
        ([], "name at least one instrument"),
    ],
)
def test_what_is_not_an_instrument_is_refused_in_a_sentence(given: Any, sentence: str, cache: Path) -> None:
    with pytest.raises(SettingsError, match=sentence):
        scan(given, DAYS[0], DAYS[1], cache_dir=cache)


def test_a_refusal_names_the_cache_and_how_to_go_on(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(BackfillIncomplete, match=f"the cache {cache} does not hold all") as refused:
        scan(SPOT, DAYS[0], DAYS[3], cache_dir=cache)
    assert "backfill" in "".join(refused.value.__notes__)
    with pytest.raises(BackfillIncomplete, match="nowhere, which is not a directory, does not hold all"):
        scan(SPOT, DAYS[0], DAYS[3], cache_dir=tmp_path / "nowhere")


def test_another_word_than_raise_and_warn_is_refused(cache: Path) -> None:
    word: Any = "ignore"
    with pytest.raises(SettingsError, match="incomplete = 'ignore': it must be 'raise' or 'warn'"):
        scan(SPOT, DAYS[0], DAYS[1], cache_dir=cache, incomplete=word)


def test_a_time_before_1970_is_refused(cache: Path) -> None:
    with pytest.raises(SettingsError, match="0001-01-01 is before 1970"):
        scan(SPOT, "0001-01-01", DAYS[1], cache_dir=cache)


async def test_fetch_under_trio_says_what_to_await() -> None:
    with pytest.raises(RuntimeError, match=r"under trio await BinanceTradeHistory\(...\).backfill_with_cache"):
        backfilld.fetch(SPOT, DAYS[0], DAYS[1])


def test_a_naive_datetime_and_an_empty_span_are_refused(cache: Path) -> None:
    with pytest.raises(SettingsError, match="has no time zone"):
        scan(SPOT, datetime(2025, 11, 7), DAYS[1], cache_dir=cache)  # noqa: DTZ001 - that is what is refused
    with pytest.raises(SettingsError, match="start must be before stop"):
        scan(SPOT, DAYS[1], DAYS[1], cache_dir=cache)


def test_scan_stays_a_function_whatever_was_imported() -> None:
    """A submodule of the same name would take its place."""
    assert callable(backfilld.scan)
    assert callable(scan)


@pytest.mark.parametrize(("first_id", "is_proven"), [(0, True), (1, False)])
def test_days_before_the_first_trade_ever_lack_nothing(first_id: int, *, is_proven: bool, tmp_path: Path) -> None:
    """Spot begins with id 0: nothing can have come before it. Before any other id something can."""
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT), SPOT)
    manager.append(DAY, day_frame(range(first_id, 100)), starts_at(DAY, first_id, 100))
    start, stop = DAY - timedelta(days=3), DAY + timedelta(days=1)
    if is_proven:
        assert scan(SPOT, start, stop, cache_dir=tmp_path).collect().height == 100 - first_id
        return
    with pytest.raises(BackfillIncomplete, match="no file"):
        scan(SPOT, start, stop, cache_dir=tmp_path)


def test_days_before_the_first_trade_and_after_the_last_lack_nothing_where_a_backfill_found_so(tmp_path: Path) -> None:
    """Days that it did not look at may lack trades."""
    fill(tmp_path, range(1000, 1144), [1000])
    start_ms, stop_ms = day_start_ms(DAY) - 2 * MS_PER_DAY, day_start_ms(DAY) + 3 * MS_PER_DAY
    save_shown(tmp_path, SPOT, ShownEnd(1143, stop_ms, 1143, stop_ms, first_id=1000, empty_from_ms=start_ms))
    start, stop = DAY - timedelta(days=2), DAY + timedelta(days=3)
    assert scan(SPOT, start, stop, cache_dir=tmp_path).collect().height == 144
    for before, after in ((1, 0), (0, 1)):
        with pytest.raises(BackfillIncomplete, match="no file"):
            scan(SPOT, start - timedelta(days=before), stop + timedelta(days=after), cache_dir=tmp_path)
    fill(tmp_path, range(1144, 1150))
    with pytest.raises(BackfillIncomplete):
        scan(SPOT, DAY, stop, cache_dir=tmp_path)
