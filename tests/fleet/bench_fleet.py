"""What a fleet takes at the size of all of Binance, simulated on this machine. Run by ``make bench-fleet``.

SYMBOLS and YEARS are the model's; the listing is a function that answers as S3 does, a page of 1000 keys at a time.
"""

import re
import resource
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import polars as pl
import pytest

import backfilld
from backfilld import Settings
from backfilld.adapters.archive_listing import ArchiveListing
from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.fleet import FleetTask, planned, tasks_of
from backfilld.core.model import Instrument
from backfilld.services.fleet_plan import plan_fleet
from backfilld.services.remote import push_days
from backfilld.store.manifest import decode_manifest, encode_manifest
from tests.fakes import BTC, DAY
from tests.remote.days import days, seal
from tests.remote.faulty_proxy import recording_proxy

FIRST, LAST = date(2021, 1, 1), date(2025, 12, 31)
PAGE = 1000


class Listing(httpx.AsyncBaseTransport):
    """The archive's listing as a function: every symbol has every day. Pages are made once, and shared."""

    def __init__(self) -> None:
        self.calls = 0
        self._pages: dict[str, bytes] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        query = parse_qs(urlsplit(str(request.url)).query)
        prefix, marker = query["prefix"][0], query.get("marker", [""])[0]
        symbol = prefix.split("/")[-2]
        self.calls += 1
        after = re.findall(r"\d{4}-\d\d-\d\d", marker)
        body = self._page(after[-1], is_key=".zip" in marker)
        return httpx.Response(200, content=body.replace(b"SYMBOL", symbol.encode()))

    def _page(self, after: str, *, is_key: bool) -> bytes:
        if after not in self._pages:
            first = date.fromisoformat(after) + timedelta(days=int(is_key))
            last = min(first + timedelta(days=PAGE // 2 - 1), LAST + timedelta(days=7))
            keys = [first + timedelta(days=number) for number in range((last - first).days + 1)]
            truncated = str(last < LAST + timedelta(days=7)).lower()
            entries = "".join(
                f"<Contents><Key>data/spot/daily/aggTrades/SYMBOL/SYMBOL-aggTrades-{day}.zip{suffix}</Key><LastModified>"
                f"2025-01-01T00:00:00.000Z</LastModified><ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag>"
                f"<Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
                for day in keys
                for suffix, size in (("", 400_000 + day.toordinal() % 977), (".CHECKSUM", 96))
            )
            text = f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{entries}</ListBucketResult>"
            self._pages[after] = text.encode()
        return self._pages[after]


def instruments(count: int) -> list[Instrument]:
    return [Instrument.parse(f"spot:S{number:05}USDT") for number in range(count)]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def test_planning_3500_symbols_of_five_years(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Listing()

    class Opened:
        async def __aenter__(self) -> ArchiveListing:
            return ArchiveListing(httpx.AsyncClient(transport=listing), "http://archive")

        async def __aexit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("backfilld.services.fleet_plan.open_listing", lambda *_: Opened())
    settings = Settings(cache_dir=tmp_path, state_dir=tmp_path / "state")
    for what in ("asked", "kept"):
        calls, began, cpu = listing.calls, time.perf_counter(), time.process_time()
        plan = await plan_fleet(settings, instruments(3500), FIRST, LAST)
        wall = time.perf_counter() - began
        print(
            f"\nplan, listing {what}: {len(plan.tasks):,} tasks, {plan.files:,} days, {plan.bytes / 1e12:.1f} TB, "
            f"{plan.core_hours:.0f} core hours; {wall:.1f} s, {time.process_time() - cpu:.1f} s of CPU, "
            f"{listing.calls - calls:,} pages, peak {peak_mb():.0f} MB"
        )
        assert plan.files == 3500 * ((LAST - FIRST).days + 1)
        assert peak_mb() < 500
        assert time.process_time() - cpu < 60
        del plan


def test_a_model_of_ten_thousand_instruments() -> None:
    """Ten times the tasks of all of Binance's spot market: what the client holds, and a manifest of ten years."""
    listed = {FIRST + timedelta(days=number): 400_000 for number in range((LAST - FIRST).days + 1)}
    began, before = time.perf_counter(), peak_mb()

    def tasks() -> Iterator[FleetTask]:
        for each in instruments(10_000):
            yield from tasks_of(each, listed, FIRST, LAST)

    plan = planned(tasks())
    print(
        f"\nmodel of 10,000: {len(plan.tasks):,} tasks in {time.perf_counter() - began:.1f} s, "
        f"{peak_mb() - before:.0f} MB; listing calls {10_000 * 4:,}; at 1 ms each the scheduler's share "
        f"{len(plan.tasks) / 1000 / 60:.0f} min"
    )
    assert len(plan.tasks) == 600_000


@pytest.fixture(scope="module")
def three_thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("three-thousand")
    for day in days(3000, DAY - timedelta(days=3000)):
        seal(cache, day, rows=20)
    return cache


async def test_the_first_row_of_three_thousand_objects(three_thousand: Path, location: RemoteLocation) -> None:
    """scan(remote=True) beside polars' own pattern, counted by a proxy before the server."""
    bucket = CachedDaysInBucket(open_object_store(location), location.url, three_thousand, three_thousand / ".state")
    await push_days(bucket, [BTC], 8)
    found = await bucket.objects.get(".backfilld/manifest/spot-BTCUSDT.manifest", limit_bytes=1 << 30)
    assert found is not None
    lines = decode_manifest(found.body, BTC)
    print(f"\nmanifest of {len(lines):,} days: {len(found.body):,} bytes")
    assert encode_manifest(lines.values())
    start, stop = DAY - timedelta(days=3000), DAY
    with recording_proxy(location) as (proxied, seen):
        settings = Settings(
            remote_url=proxied.url,
            remote_endpoint=proxied.endpoint,
            remote_region="us-east-1",
            cache_dir=three_thousand,
        )
        began = time.perf_counter()
        frame = backfilld.scan(BTC, start, stop, settings=settings, remote=True)
        assert frame.head(1).collect().height == 1
        print(f"scan(remote=True): first row in {time.perf_counter() - began:.2f} s, {len(seen)} requests")
        assert len(seen) <= 3
        began = time.perf_counter()
        ours = frame.select(pl.len(), pl.col("q").sum()).collect()
        print(f"scan(remote=True): all in {time.perf_counter() - began:.1f} s, {len(seen)} requests")
        before = len(seen)
        options = {"aws_endpoint_url": proxied.endpoint or "", "aws_region": "us-east-1", "aws_allow_http": "true"}
        began = time.perf_counter()
        glob = pl.scan_parquet(
            f"{proxied.url}/market=spot/**/*.parquet", hive_partitioning=True, storage_options=options
        )
        assert glob.head(1).collect().height == 1
        print(f"polars' pattern: first row in {time.perf_counter() - began:.2f} s, {len(seen) - before} requests")
        assert ours["len"][0] == 3000 * 20
