"""A day's way into a bucket and out of it, whatever the bucket does and whatever is in it."""

import io
import tempfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.model import Instrument
from backfilld.core.replication import PushNote, day_key, manifest_key
from backfilld.errors import ObjectRefused, RemoteUnreachable
from backfilld.ports.remote import StoredObject
from backfilld.services.remote import push_days
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.digest import BLANK, FILE_DIGEST_KEY, stamp_file
from backfilld.store.format.footer import METADATA_KEY
from tests.fakes import BTC, DAY, ETH
from tests.remote.days import day_trades, days, manager_of, seal
from tests.remote.twin import LostAnswer, TwinStore

URL = "s3://tape/pre"
KEY = day_key(BTC, DAY)
LATER = RemoteUnreachable("s3://tape/pre: no answer")


def remote(objects: TwinStore, cache: Path) -> CachedDaysInBucket:
    return CachedDaysInBucket(objects, URL, cache, cache / ".backfilld")


@pytest.fixture
def objects() -> TwinStore:
    return TwinStore()


# -- push


async def test_a_sealed_day_is_pushed_byte_for_byte_once(tmp_path: Path, objects: TwinStore) -> None:
    path = seal(tmp_path).get_cache_path(DAY)
    bucket = remote(objects, tmp_path)
    assert list(await bucket.unpushed(BTC)) == [DAY]
    pushed = await bucket.push(BTC, DAY)
    assert pushed is not None
    assert pushed.standing == "pushed"
    assert objects.body(KEY) == path.read_bytes()
    assert objects.contents[KEY][1] == {"digest": pushed.digest, "rows": "500"}
    assert list(await bucket.unpushed(BTC)) == []


async def test_what_was_pushed_is_remembered_by_the_next_process_and_for_no_other_bucket(
    tmp_path: Path, objects: TwinStore
) -> None:
    seal(tmp_path)
    bucket = remote(objects, tmp_path)
    await bucket.push(BTC, DAY)
    await bucket.publish(BTC)
    assert list(await remote(objects, tmp_path).unpushed(BTC)) == []
    elsewhere = CachedDaysInBucket(objects, "s3://other", tmp_path, tmp_path / ".backfilld")
    assert list(await elsewhere.unpushed(BTC)) == [DAY]


async def test_notes_that_are_lost_cost_one_look_and_no_upload(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path)
    await remote(objects, tmp_path).push(BTC, DAY)
    puts = objects.calls["put"]
    again = await remote(objects, tmp_path).push(BTC, DAY)
    assert again is not None
    assert again.standing == "stored"
    assert objects.calls["put"] == puts


async def test_the_same_rows_in_other_bytes_are_the_same_day(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path / "a")
    seal(tmp_path / "b", encoding=Encoding("snappy"))
    await remote(objects, tmp_path / "a").push(BTC, DAY)
    before = objects.body(KEY)
    second = await remote(objects, tmp_path / "b").push(BTC, DAY)
    assert second is not None
    assert second.standing == "stored"
    assert objects.body(KEY) == before


async def test_other_rows_are_a_conflict_and_nothing_is_overwritten(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path / "a")
    await remote(objects, tmp_path / "a").push(BTC, DAY)
    before = objects.body(KEY)
    other = day_trades(DAY).with_columns(q=pl.col("q") + 1)
    seal(tmp_path / "b", trades=other)
    bucket = remote(objects, tmp_path / "b")
    pushed = await bucket.push(BTC, DAY)
    assert pushed is not None
    theirs = manager_of(tmp_path / "a").facts(DAY).digest
    assert (pushed.standing, pushed.theirs) == ("conflicted", theirs)
    assert objects.body(KEY) == before
    assert bucket.notes(BTC)[DAY] == PushNote(pushed.digest, theirs)
    assert list(await bucket.unpushed(BTC)) == []
    await bucket.publish(BTC)
    assert list(await remote(objects, tmp_path / "b").unpushed(BTC)) == [DAY]
    assert not bucket.is_pushed(BTC, DAY)


async def test_an_object_that_is_not_a_day_is_a_conflict_too(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path)
    for body in (b"", b"PAR1", b"x" * 1000, b"x" * 100 + b"\xff\xff\xff\x7fPAR1"):
        objects.plant(KEY, body)
        pushed = await remote(objects, tmp_path).push(BTC, DAY)
        assert pushed is not None
        assert pushed.standing == "conflicted"
        assert objects.body(KEY) == body


async def test_an_answer_that_was_lost_is_found_by_the_digest(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path)
    objects.trick("put", LostAnswer(LATER))
    bucket = remote(objects, tmp_path)
    with pytest.raises(RemoteUnreachable):
        await bucket.push(BTC, DAY)
    assert list(await bucket.unpushed(BTC)) == [DAY]
    again = await bucket.push(BTC, DAY)
    assert again is not None
    assert again.standing == "stored"


async def test_who_comes_second_between_look_and_create_compares(tmp_path: Path) -> None:
    """The other one creates the object after we looked."""

    class Racing(TwinStore):
        async def put_if_absent(self, key: str, body: bytes, attributes: Mapping[str, str]) -> StoredObject | None:
            if key == KEY and key not in self.contents:
                self.plant(KEY, body, {})
            return await super().put_if_absent(key, body, attributes)

    seal(tmp_path)
    pushed = await remote(Racing(), tmp_path).push(BTC, DAY)
    assert pushed is not None
    assert pushed.standing == "stored"


async def test_days_that_are_not_sealed_or_not_as_written_stay_here(tmp_path: Path, objects: TwinStore) -> None:
    manager = manager_of(tmp_path)
    manager.append(DAY, day_trades(DAY))
    bucket = remote(objects, tmp_path)
    assert list(await bucket.unpushed(BTC)) == []
    assert await bucket.push(BTC, DAY) is None
    path = seal(tmp_path, DAY + timedelta(days=1)).get_cache_path(DAY + timedelta(days=1))
    body = bytearray(path.read_bytes())
    body[500] ^= 1
    path.write_bytes(body)
    assert await bucket.push(BTC, DAY + timedelta(days=1)) is None
    assert await bucket.push(BTC, DAY + timedelta(days=9)) is None
    assert objects.contents == {}


async def test_rows_that_changed_after_the_push_are_unpushed_again(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path)
    bucket = remote(objects, tmp_path)
    await bucket.push(BTC, DAY)
    manager_of(tmp_path).get_cache_path(DAY).unlink()
    seal(tmp_path, trades=day_trades(DAY).with_columns(q=pl.col("q") + 1))
    assert list(await bucket.unpushed(BTC)) == [DAY]


# -- the manifest


async def test_the_manifest_names_what_was_pushed_and_grows(tmp_path: Path, objects: TwinStore) -> None:
    first, second = days(2)
    seal(tmp_path, first)
    bucket = remote(objects, tmp_path)
    await bucket.push(BTC, first)
    await bucket.publish(BTC)
    manager = seal(tmp_path, second)
    await bucket.push(BTC, second)
    await bucket.publish(BTC)
    found = await bucket.manifest(BTC)
    assert found is not None
    assert list(found) == [first, second]
    line = found[second]
    facts = manager.facts(second)
    assert (line.key, line.digest, line.rows) == (day_key(BTC, second), facts.digest, facts.rows)
    assert line.decoded_certificate() == facts
    assert line.previous_last_id == found[first].last_id


async def test_two_who_publish_at_once_lose_no_line(tmp_path: Path, objects: TwinStore) -> None:
    first, second = days(2)
    seal(tmp_path / "a", first)
    seal(tmp_path / "b", second)
    a, b = remote(objects, tmp_path / "a"), remote(objects, tmp_path / "b")
    await a.push(BTC, first)
    await b.push(BTC, second)

    class Interrupting(TwinStore):
        """Right before the manifest is created, the other one creates it."""

        async def put_if_absent(self, key: str, body: bytes, attributes: Mapping[str, str]) -> StoredObject | None:
            if key == manifest_key(BTC) and not self.calls["interrupted"]:
                self.calls["interrupted"] += 1
                b.objects = self
                await b.publish(BTC)
            return await super().put_if_absent(key, body, attributes)

    a.objects = Interrupting(objects.contents)
    await a.publish(BTC)
    found = await a.manifest(BTC)
    assert found is not None
    assert list(found) == [first, second]


async def test_a_damaged_manifest_is_made_anew(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path)
    objects.plant(manifest_key(BTC), b"noise")
    bucket = remote(objects, tmp_path)
    with pytest.raises(ObjectRefused):
        await bucket.manifest(BTC)
    await bucket.push(BTC, DAY)
    await bucket.publish(BTC)
    found = await bucket.manifest(BTC)
    assert found is not None
    assert list(found) == [DAY]


async def test_a_manifest_that_could_not_be_published_is_published_later(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path)
    bucket = remote(objects, tmp_path)
    await bucket.push(BTC, DAY)
    objects.trick("get", LATER)
    with pytest.raises(RemoteUnreachable):
        await bucket.publish(BTC)
    await bucket.publish(BTC)
    assert await bucket.manifest(BTC) is not None


async def test_days_that_a_pipeline_pushed_before_its_end_are_published_by_who_pushes_the_rest(
    tmp_path: Path, objects: TwinStore
) -> None:
    """Here nothing is left to push, and the pipeline had no time for the manifest."""
    seal(tmp_path, DAY)
    bucket = remote(objects, tmp_path)
    await bucket.push(BTC, DAY)
    assert await bucket.manifest(BTC) is None
    found = await push_days(bucket, [BTC], 2)
    assert (found.done, found.stored, found.left) == ([], [], [])
    assert list(await bucket.manifest(BTC) or {}) == [DAY]


async def test_a_manifest_of_another_instrument_is_refused(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path)
    bucket = remote(objects, tmp_path)
    await bucket.push(BTC, DAY)
    await bucket.publish(BTC)
    objects.plant(manifest_key(ETH), objects.body(manifest_key(BTC)))
    with pytest.raises(ObjectRefused, match="spot:ETHUSDT"):
        await bucket.manifest(ETH)


# -- pull


async def test_a_day_is_pulled_byte_for_byte_and_is_known_to_be_in_the_bucket(
    tmp_path: Path, objects: TwinStore
) -> None:
    path = seal(tmp_path / "a").get_cache_path(DAY)
    await remote(objects, tmp_path / "a").push(BTC, DAY)
    bucket = remote(objects, tmp_path / "b")
    staged = await bucket.stage(BTC, DAY)
    assert staged is not None
    saved = await bucket.admit(BTC, DAY, staged)
    here = manager_of(tmp_path / "b").get_cache_path(DAY)
    assert here.read_bytes() == path.read_bytes()
    assert [each.name for each in here.parent.iterdir()] == [here.name]
    assert saved.record.sealed
    assert list(await bucket.unpushed(BTC)) == []
    assert await bucket.stage(BTC, DAY + timedelta(days=1)) is None


Change = Callable[[pl.DataFrame], pl.DataFrame]


def rewritten(body: bytes, change: Change) -> bytes:
    """The file with other rows under the same certificate, stamped as written so."""
    table = pq.read_table(io.BytesIO(body))
    frame = pl.from_arrow(table.replace_schema_metadata(None))
    assert isinstance(frame, pl.DataFrame)
    changed = change(frame)
    arrow = changed.to_arrow().cast(pa.schema([table.schema.field(name) for name in changed.columns]))
    certificate = (table.schema.metadata or {})[METADATA_KEY.encode()]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "day")
        with pq.ParquetWriter(path, arrow.schema, store_schema=False) as writer:
            writer.write_table(arrow, row_group_size=1 << 20)
            writer.add_key_value_metadata({METADATA_KEY: certificate.decode(), FILE_DIGEST_KEY: BLANK})
        stamp_file(path)
        return path.read_bytes()


def columns(**changes: pl.Expr) -> Change:
    return lambda frame: frame.with_columns(**changes)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "rows that are the same are not": lambda body: rewritten(body, columns(p=pl.col("p") + 0.01)),
    "bytes altered": lambda body: body[:300] + bytes([body[300] ^ 1]) + body[301:],
    "a row less": lambda body: rewritten(body, lambda frame: frame.head(499)),
    "a row doubled": lambda body: rewritten(body, lambda frame: pl.concat([frame, frame.tail(1)])),
    "rows shuffled": lambda body: rewritten(body, lambda frame: frame.reverse()),
    "negative price": lambda body: rewritten(body, columns(p=-pl.col("p"))),
    "NaN": lambda body: rewritten(body, columns(p=pl.lit(float("nan")))),
    "times of another day": lambda body: rewritten(body, columns(T=pl.col("T") + 86_400_000)),
    "a column less": lambda body: rewritten(body, lambda frame: frame.drop("M")),
    "giant row group": lambda body: rewritten(body, lambda frame: pl.concat([frame] * 400)),
    "cut": lambda body: body[: len(body) // 2],
    "empty": lambda _: b"",
    "noise": lambda _: b"PAR1" + bytes(range(256)) * 20 + b"\x10\x00\x00\x00PAR1",
    "giant footer": lambda body: body[:-8] + b"\xff\xff\xff\x7fPAR1",
    "encrypted by nobody we know": lambda body: b"PARE" + body[4:-4] + b"PARE",
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_object_is_refused_and_nothing_enters_the_cache(
    tmp_path: Path, objects: TwinStore, kind: str
) -> None:
    body = seal(tmp_path / "a").get_cache_path(DAY).read_bytes()
    objects.plant(KEY, HOSTILE[kind](body))
    with pytest.raises(ObjectRefused):
        await remote(objects, tmp_path / "b").stage(BTC, DAY)
    assert not any(each.is_file() for each in (tmp_path / "b").rglob("*"))


async def test_another_day_is_refused(tmp_path: Path, objects: TwinStore) -> None:
    other = DAY + timedelta(days=1)
    objects.plant(KEY, seal(tmp_path / "a", other).get_cache_path(other).read_bytes())
    with pytest.raises(ObjectRefused, match=f"it is of the day {other}"):
        await remote(objects, tmp_path / "b").stage(BTC, DAY)


async def test_an_honest_file_passes_the_same_rewriting(tmp_path: Path, objects: TwinStore) -> None:
    """Else the hostile ones could be refused for how they are written."""
    body = seal(tmp_path / "a").get_cache_path(DAY).read_bytes()
    objects.plant(KEY, rewritten(body, lambda frame: frame))
    assert await remote(objects, tmp_path / "b").stage(BTC, DAY) is not None


async def test_another_instruments_day_is_refused(tmp_path: Path, objects: TwinStore) -> None:
    body = seal(tmp_path / "a", instrument=ETH).get_cache_path(DAY).read_bytes()
    objects.plant(KEY, body)
    with pytest.raises(ObjectRefused, match="another instrument, spot:ETHUSDT"):
        await remote(objects, tmp_path / "b").stage(BTC, DAY)


async def test_a_whole_day_that_its_attributes_contradict_is_refused(tmp_path: Path, objects: TwinStore) -> None:
    objects.plant(KEY, seal(tmp_path / "a").get_cache_path(DAY).read_bytes(), {"digest": "0" * 64})
    with pytest.raises(ObjectRefused, match="another digest than its attributes name"):
        await remote(objects, tmp_path / "b").stage(BTC, DAY)
    assert not any(each.is_file() for each in (tmp_path / "b").rglob("*"))


async def test_an_unsealed_day_is_refused(tmp_path: Path, objects: TwinStore) -> None:
    manager = manager_of(tmp_path / "a")
    manager.append(DAY, day_trades(DAY))
    objects.plant(KEY, manager.get_cache_path(DAY).read_bytes())
    with pytest.raises(ObjectRefused, match="not sealed"):
        await remote(objects, tmp_path / "b").stage(BTC, DAY)


async def test_rows_that_are_stored_here_are_never_lost_to_a_pull(tmp_path: Path, objects: TwinStore) -> None:
    seal(tmp_path / "a")
    await remote(objects, tmp_path / "a").push(BTC, DAY)
    trades = day_trades(DAY)
    here, bucket = manager_of(tmp_path / "b"), remote(objects, tmp_path / "b")
    here.append(DAY, trades[100:200])
    staged = await bucket.stage(BTC, DAY)
    assert staged is not None
    await bucket.admit(BTC, DAY, staged)
    assert here.facts(DAY).sealed

    elsewhere, other = manager_of(tmp_path / "c"), remote(objects, tmp_path / "c")
    elsewhere.append(DAY, trades[100:200].with_columns(q=pl.col("q") + 1))
    before = elsewhere.get_cache_path(DAY).read_bytes()
    staged = await other.stage(BTC, DAY)
    assert staged is not None
    with pytest.raises(ObjectRefused, match="rows that are stored"):
        await other.admit(BTC, DAY, staged)
    assert elsewhere.get_cache_path(DAY).read_bytes() == before
    assert not Path(staged.path).exists()


@pytest.mark.parametrize("instrument", [BTC, Instrument.parse("spot:币安人生USDT")])
async def test_a_look_reads_the_certificate_and_not_the_rows(
    tmp_path: Path, objects: TwinStore, instrument: Instrument
) -> None:
    manager = seal(tmp_path, instrument=instrument, rows=200_000)
    bucket = remote(objects, tmp_path)
    await bucket.push(instrument, DAY)
    found = await bucket.look(instrument, DAY)
    assert found is not None
    assert found.certificate == manager.facts(DAY)
    assert list(await bucket.days(instrument)) == [DAY]
