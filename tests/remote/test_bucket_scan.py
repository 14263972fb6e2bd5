"""``scan(remote=True)``: the rows of the bucket by its manifests, checked, and no request too many."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import trio

import backfilld
from backfilld import BackfillIncomplete, IncompleteSpan, Settings, SettingsError
from backfilld.adapters.bucket_days import DaysInBucket
from backfilld.adapters.bucket_scan import scan_bucket
from backfilld.core.model import Instrument, day_start_ms
from backfilld.core.replication import day_key
from backfilld.errors import ObjectRefused
from backfilld.services.remote import push_days
from tests.fakes import BTC, DAY, ETH
from tests.remote.days import day_trades, days, seal
from tests.remote.test_remote_days import HOSTILE, remote
from tests.remote.twin import TwinStore


@pytest.fixture
def objects(tmp_path: Path) -> TwinStore:
    """Five days of one instrument and two of another."""
    found = TwinStore()
    for instrument, count in ((BTC, 5), (ETH, 2)):
        for day in days(count):
            seal(tmp_path, day, instrument=instrument)
    trio.run(push_days, remote(found, tmp_path), [BTC, ETH], 2)
    found.calls.clear()
    return found


@pytest.fixture
def scan(objects: TwinStore) -> Callable[..., pl.LazyFrame]:
    def scan(first: int, stop: int, *instruments: Instrument) -> pl.LazyFrame:
        start_ms, stop_ms = (day_start_ms(DAY + timedelta(days=number)) for number in (first, stop))
        gaps, frame = scan_bucket(DaysInBucket(objects), instruments or (BTC,), start_ms, stop_ms, 2)
        assert gaps == []
        return frame

    return scan


def test_the_rows_are_those_that_were_pushed(scan: Callable[..., pl.LazyFrame]) -> None:
    found = scan(0, 5).collect()
    assert found.drop("market", "symbol").equals(pl.concat(day_trades(day) for day in days(5)))
    assert found["symbol"].unique().to_list() == ["BTCUSDT"]
    both = scan(0, 2, BTC, ETH).collect()
    assert both["symbol"].rle().struct.field("value").to_list() == ["BTCUSDT", "ETHUSDT"]
    some = scan(1, 4).filter(pl.col("p") > 0).select("p", "q").sum().collect()
    assert some.equals(pl.concat(day_trades(day) for day in days(5)[1:4]).select("p", "q").sum())


def test_the_first_row_takes_a_manifest_and_a_day(scan: Callable[..., pl.LazyFrame], objects: TwinStore) -> None:
    assert scan(0, 5).head(1).collect().height == 1
    assert objects.calls == {"get": 2}
    objects.calls.clear()
    scan(2, 4).collect()
    assert objects.calls == {"get": 3}


def test_days_that_the_manifest_does_not_name_are_missing(objects: TwinStore) -> None:
    start_ms = day_start_ms(DAY)
    gaps, _ = scan_bucket(
        DaysInBucket(objects), [BTC, Instrument.parse("um:X")], start_ms, start_ms + 6 * 86_400_000, 2
    )
    assert gaps == [
        f"{BTC} {DAY + timedelta(days=5)}: not in the manifest",
        "um:X: no manifest (backfilld catalog makes it)",
    ]


@pytest.mark.parametrize("kind", ["bytes altered", "rows that are the same are not", "giant row group", "noise"])
def test_a_hostile_object_gives_no_row(scan: Callable[..., pl.LazyFrame], objects: TwinStore, kind: str) -> None:
    key = day_key(BTC, DAY)
    objects.plant(key, HOSTILE[kind](objects.body(key)))
    with pytest.raises(ObjectRefused):
        scan(0, 1).collect()


def test_an_object_that_was_replaced_or_is_gone_asks_for_the_catalog(
    scan: Callable[..., pl.LazyFrame], objects: TwinStore, tmp_path: Path
) -> None:
    key = day_key(BTC, DAY)
    other = seal(tmp_path / "x", trades=day_trades(DAY).with_columns(q=pl.col("q") + 1)).get_cache_path(DAY)
    objects.plant(key, other.read_bytes())
    with pytest.raises(ObjectRefused, match="has other rows than the manifest names; run backfilld catalog"):
        scan(0, 1).collect()
    del objects.contents[key]
    with pytest.raises(ObjectRefused, match="not in the bucket; run backfilld catalog"):
        scan(0, 1).collect()


def test_a_bucket_must_be_named() -> None:
    with pytest.raises(SettingsError, match="remote_url is empty"):
        backfilld.scan("spot:BTCUSDT", date(2025, 11, 7), date(2025, 11, 8), remote=True)


def test_an_incomplete_bucket_is_refused_or_warned_of(objects: TwinStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backfilld.assembly.object_store_of", lambda _: objects)
    settings = Settings(remote_url="s3://tape/pre")
    start, stop = datetime(2025, 11, 7, tzinfo=UTC), datetime(2025, 11, 13, tzinfo=UTC)
    with pytest.raises(BackfillIncomplete, match="the bucket does not hold all of the span: spot:BTCUSDT 2025-11-12"):
        backfilld.scan(BTC, start, stop, settings=settings, remote=True)
    with pytest.warns(IncompleteSpan) as warned:
        frame = backfilld.scan(BTC, start, stop, settings=settings, remote=True, incomplete="warn", times=True)
    assert warned[0].filename == __file__
    assert frame.collect().height == 2500
