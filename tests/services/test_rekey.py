"""Rekeying: everything ends under one key, with the same rows and certificates, whatever interrupts it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.day.addition import Addition
from backfilld.core.model import Instrument
from backfilld.core.replication import manifest_key
from backfilld.errors import CacheLocked, SettingsError
from backfilld.services.rekey import encoding_under, rekey_bucket, rekey_cache
from backfilld.store import atomic
from backfilld.store.archive_import.archive_take import add_to_report
from backfilld.store.format.dayfile import DayWriter, Encoding
from backfilld.store.format.keys import Key, key_text_in
from backfilld.store.layout import instrument_directory
from backfilld.store.lock import locked
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.fakes import BTC, starts_at
from tests.remote.days import seal
from tests.remote.test_remote_days import KEY, URL
from tests.remote.twin import TwinStore
from tests.store.frames import DAY, day_frame
from tests.store.keyrings import NEW, OLD, STRANGE, encrypting, reading, tree_of

ETH = Instrument.parse("spot:ETHUSDT")
NEXT = DAY + timedelta(days=1)


def manager_of(cache: Path, instrument: Instrument, encoding: Encoding) -> BackfillCacheManager:
    return BackfillCacheManager(instrument_directory(cache, instrument), instrument, encoding)


def fill(cache: Path, encoding: Encoding) -> None:
    """Two instruments, a sealed day, days that go on, a journal, and a report."""
    for instrument in (BTC, ETH):
        manager = manager_of(cache, instrument, encoding)
        manager.append(DAY, day_frame(range(1000, 1100)), starts_at(DAY, 1000, 1100))
        manager.append(NEXT, day_frame(range(1100, 1150), NEXT), starts_at(NEXT, 1100))
        WaitingDays(300).append(manager, Addition(BTC, NEXT, day_frame(range(1150, 1160), NEXT)), 0.0)
        report = day_frame([1000]).with_columns(source=pl.lit("rest"), kept=pl.lit(value=True))
        add_to_report(manager.get_cache_path(DAY), report, encoding.keys)


def fingerprints(cache: Path) -> set[str | None]:
    """The keys of all files with trades, None for a plain one."""
    found: set[str | None] = set()
    for name, (_, _, content) in tree_of(cache).items():
        if ".parquet" in name and not name.endswith(".json"):
            path = cache / name
            with path.open("rb") as file:
                text = key_text_in(file) if content.endswith(b"PARE") else None
            found.add(None if text is None else text.fingerprint)
        elif ".journal" in name and len(content) > 40:
            found |= {key.fingerprint for key in (OLD, NEW) if key.fingerprint.encode() in content} or {None}
    return found


def content(cache: Path, encoding: Encoding) -> Sequence[tuple[object, pl.DataFrame]]:
    """Certificates and rows of all days."""
    found = []
    for instrument in (BTC, ETH):
        manager = manager_of(cache, instrument, encoding)
        for day in manager.days():
            trades = manager.load_cached_trades(day)
            assert trades is not None
            found.append((manager.facts(day), trades))
    return found


def assert_same(one: Sequence[tuple[object, pl.DataFrame]], other: Sequence[tuple[object, pl.DataFrame]]) -> None:
    assert [facts for facts, _ in one] == [facts for facts, _ in other]
    for (_, mine), (_, yours) in zip(one, other, strict=True):
        assert_frame_equal(mine, yours)


WAYS = {
    "another key": (encrypting(OLD), encrypting(NEW, OLD), NEW.fingerprint),
    "plain files encrypted": (Encoding(), encrypting(NEW), NEW.fingerprint),
    "decrypted": (encrypting(OLD), reading(OLD), None),
}


@pytest.mark.parametrize(("before", "after", "ends"), WAYS.values(), ids=WAYS.keys())
def test_everything_ends_under_one_key_with_the_same_content(
    tmp_path: Path, before: Encoding, after: Encoding, ends: str | None
) -> None:
    fill(tmp_path, before)
    stored = content(tmp_path, before)
    found = rekey_cache(tmp_path, None, after)
    assert (found.done, found.kept, found.failures) == (6, 0, [])
    assert fingerprints(tmp_path) == {ends}
    only = Encoding(keys=type(after.keys)(after.keys.keys[:1]))
    assert_same(content(tmp_path, only), stored)
    before_again = tree_of(tmp_path / "market=spot")
    again = rekey_cache(tmp_path, None, after)
    assert (again.done, again.kept, again.failures) == (0, 6, [])
    assert tree_of(tmp_path / "market=spot") == before_again


class Crash(BaseException):
    """As kill -9: nothing is tidied up."""


@contextmanager
def crashing(after: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process dies at a system call that makes files last: none of its own tidying happens."""
    calls = [0]
    real = {name: getattr(os, name) for name in ("fsync", "fdatasync", "ftruncate")}

    def dying(name: str) -> object:
        def call(*arguments: object) -> object:
            calls[0] += 1
            if calls[0] > after:
                raise Crash
            return real[name](*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(os, name, dying(name))
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        yield


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_after_a_crash_the_next_run_goes_on_with_the_rest(
    tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, encrypting(OLD))
    stored = content(tmp_path, encrypting(OLD))
    with crashing(after, monkeypatch):
        with suppress(Crash):
            rekey_cache(tmp_path, None, encrypting(NEW, OLD))
    assert_same(content(tmp_path, encrypting(NEW, OLD)), stored)
    atomic._in_hand.clear()
    assert rekey_cache(tmp_path, None, encrypting(NEW, OLD)).failures == []
    assert fingerprints(tmp_path) == {NEW.fingerprint}
    assert_same(content(tmp_path, encrypting(NEW)), stored)
    assert list(tmp_path.rglob("*.tmp-*")) == []


def test_a_file_that_would_come_out_with_other_rows_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, encrypting(OLD))
    before = tree_of(tmp_path / "market=spot")
    real = DayWriter.add
    monkeypatch.setattr(DayWriter, "add", lambda self, piece: real(self, piece.with_columns(q=pl.col("q") * 2)))
    found = rekey_cache(tmp_path, [BTC], encrypting(NEW, OLD))
    assert [each for each in found.failures if "other rows" in each]
    after = tree_of(tmp_path / "market=spot")
    assert [name for name in before if before[name] != after[name]] == [
        name for name in before if "BTC" in name and name.endswith(".conflicts")
    ]


def test_locked_and_damaged_files_stay_and_the_others_are_done(tmp_path: Path) -> None:
    fill(tmp_path, encrypting(OLD))
    locked_one = manager_of(tmp_path, BTC, encrypting(STRANGE)).get_cache_path(DAY - timedelta(days=3))
    manager_of(tmp_path, BTC, encrypting(STRANGE)).append(DAY - timedelta(days=3), day_frame([10, 11], DAY))
    damaged = manager_of(tmp_path, ETH, encrypting(OLD)).get_cache_path(DAY)
    body = bytearray(damaged.read_bytes())
    body[70] ^= 1
    damaged.write_bytes(body)
    kept = {path: path.read_bytes() for path in (locked_one, damaged)}
    found = rekey_cache(tmp_path, None, encrypting(NEW, OLD))
    assert found.is_locked
    assert len(found.failures) == 2
    assert found.done == 5
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_running_daemon_keeps_it_out(tmp_path: Path) -> None:
    fill(tmp_path, encrypting(OLD))
    with locked(tmp_path), pytest.raises(CacheLocked):
        rekey_cache(tmp_path, None, encrypting(NEW, OLD))


def test_the_key_is_named_by_its_id() -> None:
    assert encoding_under(encrypting(NEW, OLD), None, decrypts=False).keys.writing == NEW
    assert encoding_under(encrypting(NEW, OLD), OLD.id, decrypts=False).keys.writing == OLD
    assert encoding_under(encrypting(NEW, OLD), None, decrypts=True).keys.writing is None
    with pytest.raises(SettingsError, match="key_file has no key 2020: it has 2026-q4, 2026-q3"):
        encoding_under(encrypting(NEW, OLD), "2020", decrypts=False)


# -- the bucket


def bucket(objects: TwinStore, cache: Path, encoding: Encoding) -> CachedDaysInBucket:
    return CachedDaysInBucket(objects, URL, cache, cache / ".backfilld", encoding=encoding)


async def pushed(cache: Path, objects: TwinStore, encoding: Encoding) -> None:
    """A sealed day, put into the bucket under this encoding."""
    seal(cache)
    rekey_cache(cache, None, encoding)
    days = bucket(objects, cache, encoding)
    await days.push(BTC, DAY)
    await days.publish(BTC)


def key_of(body: bytes) -> str | None:
    import io  # noqa: PLC0415

    text = key_text_in(io.BytesIO(body))
    return None if text is None else text.fingerprint


async def test_objects_are_replaced_by_their_tag_and_the_manifest_follows(tmp_path: Path) -> None:
    objects = TwinStore()
    await pushed(tmp_path, objects, encrypting(OLD))
    assert key_of(objects.body(KEY)) == key_of(objects.body(manifest_key(BTC))) == OLD.fingerprint
    attributes = objects.contents[KEY][1]
    days = bucket(objects, tmp_path, encrypting(NEW, OLD))
    there = await days.look(BTC, DAY)
    assert there is not None
    found = await rekey_bucket(days, None)
    assert (found.done, found.kept, found.failures) == (1, 0, [])
    assert key_of(objects.body(KEY)) == key_of(objects.body(manifest_key(BTC))) == NEW.fingerprint
    assert objects.contents[KEY][1] == attributes
    alone = bucket(objects, tmp_path, encrypting(NEW))
    after = await alone.look(BTC, DAY)
    assert after is not None
    assert after.certificate == there.certificate
    (line,) = (await alone.manifest(BTC) or {}).values()
    assert (line.key_id, line.digest) == (NEW.id, there.certificate.digest)
    assert (await rekey_bucket(days, None)).kept == 1


async def test_an_encrypted_day_is_pulled_checked_and_locked_without_its_key(tmp_path: Path) -> None:
    objects = TwinStore()
    await pushed(tmp_path / "a", objects, encrypting(OLD))
    new = bucket(objects, tmp_path / "b", encrypting(OLD))
    staged = await new.stage(BTC, DAY)
    assert staged is not None
    await new.admit(BTC, DAY, staged)
    path = instrument_directory(tmp_path / "b", BTC) / f"backfill_{DAY}.parquet"
    assert path.read_bytes() == objects.body(KEY)
    strange = bucket(objects, tmp_path / "c", encrypting(NEW))
    before = dict(objects.contents)
    found = await rekey_bucket(strange, [BTC])
    assert found.is_locked
    assert objects.contents == before


async def test_a_plain_day_out_of_the_bucket_is_encrypted_on_disk(tmp_path: Path) -> None:
    objects = TwinStore()
    await pushed(tmp_path / "a", objects, Encoding())
    new = bucket(objects, tmp_path / "b", encrypting(OLD))
    staged = await new.stage(BTC, DAY)
    assert staged is not None
    saved = await new.admit(BTC, DAY, staged)
    path = instrument_directory(tmp_path / "b", BTC) / f"backfill_{DAY}.parquet"
    assert key_of(path.read_bytes()) == OLD.fingerprint
    assert saved.bytes == path.stat().st_size
    there = await new.look(BTC, DAY)
    assert there is not None
    assert manager_of(tmp_path / "b", BTC, encrypting(OLD)).facts(DAY) == there.certificate


def test_nothing_shows_a_key() -> None:
    key = Key("k", bytes(range(32)))
    assert "secret" not in repr(key)
    assert repr(bytes(range(32)))[3:20] not in repr(encrypting(key))
