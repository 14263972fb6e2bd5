"""What a bucket stores, what is wrong with it, and what a repair may replace."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.replication import day_key
from backfilld.errors import RemoteDenied, RemoteUnreachable
from backfilld.services.remote import make_manifests, push_days
from backfilld.services.remote_status import bucket_status
from backfilld.services.remote_verify import BucketVerified, Replacement, repair_bucket, verify_bucket
from tests.fakes import BTC, DAY, ETH
from tests.remote.days import day_trades, days, manager_of, seal
from tests.remote.test_remote_days import HOSTILE, columns, remote, rewritten
from tests.remote.twin import TwinStore

KEY = day_key(BTC, DAY)


@pytest.fixture
def objects() -> TwinStore:
    return TwinStore()


async def pushed(objects: TwinStore, cache: Path, count: int = 3) -> CachedDaysInBucket:
    for day in days(count):
        seal(cache, day)
    bucket = remote(objects, cache)
    await push_days(bucket, [BTC], 2)
    return bucket


async def verified(bucket: CachedDaysInBucket, *, deep: bool = False) -> BucketVerified:
    return await verify_bucket(bucket, None, 2, deep=deep)


async def repaired(bucket: CachedDaysInBucket, found: BucketVerified, *, deep: bool = False) -> list[Replacement]:
    return await repair_bucket(bucket, found, deep=deep)


def kinds(found: BucketVerified) -> list[tuple[str, str]]:
    return [(each.day.isoformat(), each.kind) for each in found.findings]


@pytest.mark.parametrize("deep", [False, True])
async def test_nothing_is_wrong_with_what_was_pushed(tmp_path: Path, objects: TwinStore, *, deep: bool) -> None:
    bucket = await pushed(objects, tmp_path)
    before = dict(objects.contents)
    found = await verified(bucket, deep=deep)
    assert (len(found.days), found.findings, found.remarks, found.left) == (3, [], [], [])
    assert objects.contents == before


@pytest.mark.parametrize("kind", ["cut", "noise", "empty", "giant footer"])
async def test_an_object_that_is_not_a_day_is_found_and_replaced_from_the_cache(
    tmp_path: Path, objects: TwinStore, kind: str
) -> None:
    bucket = await pushed(objects, tmp_path)
    right = objects.body(KEY)
    objects.plant(KEY, HOSTILE[kind](right))
    found = await verified(bucket)
    assert kinds(found) == [(DAY.isoformat(), "unreadable")]
    assert [each.is_done for each in await repaired(bucket, found)] == [True]
    assert objects.body(KEY) == right
    assert (await verified(bucket)).findings == []


async def test_an_altered_price_is_found_by_reading_all_of_it(tmp_path: Path, objects: TwinStore) -> None:
    bucket = await pushed(objects, tmp_path)
    right = objects.body(KEY)
    altered = rewritten(right, columns(p=pl.col("p") + 0.01))
    objects.plant(KEY, altered, {"digest": objects.contents[KEY][1]["digest"]})
    assert (await verified(bucket)).findings == [], "the certificate alone does not show it"
    found = await verified(bucket, deep=True)
    assert kinds(found) == [(DAY.isoformat(), "unreadable")]
    await repaired(bucket, found, deep=True)
    assert objects.body(KEY) == right
    # What was replaced is still there, under a name that no pattern of day files matches.
    kept = [key for key in objects.contents if key.startswith(".backfilld/replaced/")]
    assert [objects.body(key) for key in kept] == [altered]
    assert not any(key.endswith(".parquet") for key in kept)


async def test_other_rows_than_the_caches_are_a_conflict_that_only_a_repair_ends(
    tmp_path: Path, objects: TwinStore
) -> None:
    theirs = seal(tmp_path / "b", trades=day_trades(DAY).with_columns(q=pl.col("q") + 1)).get_cache_path(DAY)
    objects.plant(KEY, theirs.read_bytes())
    bucket = await pushed(objects, tmp_path / "a")
    assert objects.body(KEY) == theirs.read_bytes()
    (state,) = await bucket_status(bucket, tmp_path / "a", None)
    assert (state.days, state.conflicted) == ({"stored": 2, "conflicted": 1}, [DAY.isoformat()])
    found = await verified(bucket)
    assert kinds(found) == [(DAY.isoformat(), "conflict")]
    await repaired(bucket, found)
    assert objects.body(KEY) == manager_of(tmp_path / "a").get_cache_path(DAY).read_bytes()
    assert (await verified(bucket, deep=True)).findings == []
    assert list(await bucket.unpushed(BTC)) == []
    (state,) = await bucket_status(bucket, tmp_path / "a", None)
    assert state.days == {"stored": 3}


async def test_an_object_that_changes_under_a_repair_is_left_alone(tmp_path: Path, objects: TwinStore) -> None:
    class Raced(TwinStore):
        async def put_if_match(self, key: str, body: bytes, _: object, etag: str) -> None:
            if key == KEY:
                self.plant(KEY, b"somebody else's")
            assert await TwinStore.put_if_match(self, key, body, {}, etag) is None

    bucket = await pushed(objects, tmp_path)
    objects.plant(KEY, b"noise")
    raced = remote(Raced(objects.contents), tmp_path)
    found = await verified(raced)
    (done,) = await repaired(raced, found)
    assert (done.is_done, "it changed while it was examined" in done.sentence) == (False, True)
    assert objects.body(KEY) == b"somebody else's"
    assert bucket


async def test_what_the_cache_does_not_have_whole_is_not_replaced(tmp_path: Path, objects: TwinStore) -> None:
    bucket = await pushed(objects, tmp_path)
    path = manager_of(tmp_path).get_cache_path(DAY)
    objects.plant(KEY, b"noise")
    path.write_bytes(path.read_bytes()[:-100])
    found = await verified(bucket)
    (done,) = await repaired(bucket, found)
    assert "the cache's own file is wrong" in done.sentence
    path.unlink()
    (done,) = await repaired(bucket, found)
    assert "the cache does not have the day" in done.sentence
    assert objects.body(KEY) == b"noise"


@pytest.mark.parametrize("deep", [False, True])
async def test_a_locked_object_is_reported_as_such_and_never_replaced(
    tmp_path: Path, objects: TwinStore, *, deep: bool
) -> None:
    bucket = await pushed(objects, tmp_path)
    locked = HOSTILE["encrypted by nobody we know"](objects.body(KEY))
    objects.plant(KEY, locked)
    found = await verified(bucket, deep=deep)
    assert kinds(found) == [(DAY.isoformat(), "locked")]
    assert await repaired(bucket, found, deep=deep) == []
    assert objects.body(KEY) == locked


async def test_days_that_do_not_join_are_found_by_their_certificates(tmp_path: Path, objects: TwinStore) -> None:
    bucket = await pushed(objects, tmp_path)
    second = DAY + timedelta(days=1)
    other = seal(tmp_path / "x", second, trades=day_trades(second, first_id=1_000_600)).get_cache_path(second)
    objects.plant(day_key(BTC, second), other.read_bytes())
    found = await verified(bucket)
    assert (second.isoformat(), "chain") in kinds(found)


async def test_a_manifest_that_lags_is_a_remark_until_it_is_made_anew(tmp_path: Path, objects: TwinStore) -> None:
    bucket = await pushed(objects, tmp_path)
    del objects.contents[".backfilld/manifest/spot-BTCUSDT.manifest"]
    found = await verified(bucket)
    assert found.findings == []
    assert found.remarks == ["spot:BTCUSDT: the manifest lags by 3 days, and names 0 that are not there; run catalog"]
    (state,) = await bucket_status(bucket, tmp_path, None)
    assert (state.lag, state.trades, state.days) == (3, 0, {"stored": 3})
    await make_manifests(bucket, None, 2)
    assert (await verified(bucket)).remarks == []
    (state,) = await bucket_status(bucket, tmp_path, None)
    assert (state.lag, state.trades) == (0, 1500)


async def test_status_tells_apart_what_is_here_and_what_is_there(tmp_path: Path, objects: TwinStore) -> None:
    bucket = await pushed(objects, tmp_path, 2)
    third = DAY + timedelta(days=2)
    seal(tmp_path, third)
    manager_of(tmp_path).get_cache_path(DAY).unlink()
    seal(tmp_path, instrument=ETH)
    btc, eth = await bucket_status(bucket, tmp_path, None)
    assert btc.days == {"stored": 1, "bucket": 1, "unpushed": 1}
    assert (btc.unpushed, btc.calendar) == ([third.isoformat()], {"2025-11": " " * 6 + "^#+"})
    assert (eth.instrument, eth.days, eth.bytes) == ("spot:ETHUSDT", {"unpushed": 1}, 0)


async def test_a_bucket_that_is_lost_on_the_way_leaves_days_and_one_that_denies_ends_at_once(
    tmp_path: Path, objects: TwinStore, autojump_clock: object
) -> None:
    bucket = await pushed(objects, tmp_path)
    lost = RemoteUnreachable("s3://tape/pre: no answer")
    objects.trick("get", *[lost] * 50)
    found = await verified(bucket)
    assert (len(found.left), found.error) == (3, lost)
    objects.tricks.clear()
    objects.trick("get", RemoteDenied("s3://tape/pre: access is denied"))
    with pytest.raises(RemoteDenied):
        await verified(bucket)
    assert replace(BucketVerified()).findings == []
