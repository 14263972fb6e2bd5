"""Real processes with a real S3 server: a new machine warms from the bucket, two machines never overwrite each other,
and a process that is killed leaves bucket and cache whole. Run by ``make test-s3``."""

import json
import os
import random
import re
import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
import pytest
import trio

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.core.replication import day_key, day_of_key
from backfilld.services.remote import Transfers, push_days
from backfilld.store.format.keys import Key
from binance_simulator import Exchange, RequestRecord
from tests.e2e.test_archive import PROMPT, daemon_of, faults_of, past, tape_of
from tests.e2e.world import BTC, TODAY, Daemon, Ended, ended, exchange_at, kill
from tests.fakes import ETH
from tests.remote.days import day_trades, seal
from tests.remote.faulty_proxy import Fault, faulty_proxy, recording_proxy
from tests.remote.lax_server import Habit, lax_server
from tests.remote.radosgw import ACCESS_KEY, SECRET_KEY
from tests.remote.test_remote_days import columns, rewritten
from tests.store.keyrings import NEW, OLD, STRANGE

DAYS = 30
ROUNDS = int(os.environ.get("S3_ROUNDS", "1"))
"""Races of two whole daemons; those of pushes alone are cheaper."""
PUSH_ROUNDS = max(4, ROUNDS)
OUT_OF_REACH = {"REMOTE_ENDPOINT": "http://127.0.0.1:1", "REQUEST_TIMEOUT_SECONDS": "1"}


def with_bucket(exchange: Exchange, directory: Path, location: RemoteLocation, days: int, **settings: str) -> Daemon:
    known = {
        "REMOTE_URL": location.url,
        "REMOTE_ENDPOINT": location.endpoint or "",
        "REMOTE_REGION": location.region or "",
        "REQUEST_TIMEOUT_SECONDS": "5",
    }
    directory.mkdir(exist_ok=True)
    return daemon_of(exchange, directory, days, **(known | settings))


def counted(run: Ended) -> Counter[str]:
    return Counter(event["event"] for event in run.events)


def stored_by(run: Ended) -> int:
    """The days that a run has put into the bucket. At its end the pipeline does not wait for the answer to a push: such
    a day is found there when the rest is pushed."""
    events = counted(run)
    return events["day_pushed"] + events["remote_held"]


def weight_of(asked: Sequence[RequestRecord]) -> int:
    return sum(record.weight for record in asked)


async def bucket_days(location: RemoteLocation) -> dict[str, bytes]:
    """The day objects, by key."""
    store = open_object_store(location)
    found = {}
    for each in await store.objects("market=spot"):
        content = await store.get(each.key, limit_bytes=1 << 30)
        assert content is not None
        found[each.key] = content.body
    return found


def files(daemon: Daemon) -> dict[str, bytes]:
    """The day files of days before TODAY, by the key that they have in a bucket."""
    paths = daemon.cache_dir.glob("market=*/symbol=*/backfill_*.parquet")
    return {
        str(path.relative_to(daemon.cache_dir)): path.read_bytes()
        for path in paths
        if not path.name.endswith(f"{TODAY}.parquet")
    }


async def test_a_new_machine_has_thirty_past_days_from_the_bucket_byte_for_byte(
    tmp_path: Path, location: RemoteLocation
) -> None:
    async with exchange_at(16, {BTC: tape_of(DAYS)}, PROMPT) as exchange:
        first = with_bucket(exchange, tmp_path / "a", location, DAYS)
        run = await first.once()
        assert stored_by(run) == DAYS
        assert await bucket_days(location) == files(first)

        second = with_bucket(exchange, tmp_path / "b", location, DAYS)
        before, archived = len(exchange.requests), len(exchange.archive_requests)
        run = await second.once()
        asked = list(exchange.requests)[before:]
        assert counted(run)["day_pulled"] == DAYS
        assert {record.endpoint for record in asked} <= {"aggTrades", "exchangeInfo"}
        # Every row that was asked for is of today, and there were no more questions than today alone takes.
        first_id = second.manager().facts(TODAY).first_id
        assert all(record.first_id is None or record.first_id >= first_id for record in asked)
        assert list(exchange.archive_requests)[archived:] == []
        # And no more of them than a machine takes that wants today alone, but for a last look for newer trades.
        before = len(exchange.requests)
        (tmp_path / "c").mkdir()
        await daemon_of(exchange, tmp_path / "c", 0).once()
        assert weight_of(asked) <= weight_of(list(exchange.requests)[before:]) + 4
        assert files(second) == files(first)
        assert list(faults_of(second, past(DAYS))) == []
        assert stored_by(run) == 0


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_two_machines_at_once_overwrite_nothing(tmp_path: Path, location: RemoteLocation, number: int) -> None:
    """They seal the same 50 days at once, in files of other bytes."""
    days = 50
    async with exchange_at(16, {BTC: tape_of(days, rows=300)}, PROMPT) as exchange:
        settings = {"REMOTE_PULL": "false"}
        one = with_bucket(exchange, tmp_path / "a", location, days, **settings)
        two = with_bucket(exchange, tmp_path / "b", location, days, COMPRESSION="snappy", **settings)
        with recording_proxy(location) as (proxied, seen):
            for daemon in (one, two):
                daemon.settings["REMOTE_ENDPOINT"] = proxied.endpoint or ""
            runs = await at_once(one, two)
        events = counted(runs[0]) + counted(runs[1])
        assert sum(stored_by(run) for run in runs) == 2 * days
        assert events["remote_conflicted"] == 0
        # By the server's own answers: one write of each day was accepted.
        puts = [each for each in seen if (each.method, each.status) == ("PUT", 200)]
        written = Counter(each.path for each in puts if "backfill_" in each.path)
        assert (len(written), set(written.values())) == (days, {1})
        await assert_from_one_of_them(location, one, two, days)


async def test_two_machines_that_push_at_once_again_and_again_write_each_day_once(
    tmp_path: Path, location: RemoteLocation
) -> None:
    """Both are sealed; only the pushes race."""
    days = 50
    async with exchange_at(16, {BTC: tape_of(days, rows=200)}, PROMPT) as exchange:
        settings = {"REMOTE_PUSH": "false", "REMOTE_PULL": "false"}
        one = with_bucket(exchange, tmp_path / "a", location, days, **settings)
        two = with_bucket(exchange, tmp_path / "b", location, days, COMPRESSION="snappy", **settings)
        await at_once(one, two)
        for number in range(PUSH_ROUNDS):
            here = replace(location, url=f"{location.url}/{number}")
            caches = [each.cache_dir for each in (one, two)]
            buckets = [
                CachedDaysInBucket(open_object_store(here), here.url, cache, tmp_path / f"{index}-{number}")
                for index, cache in enumerate(caches)
            ]
            found: list[Transfers] = []

            async def push(bucket: CachedDaysInBucket, found: list[Transfers] = found) -> None:
                found.append(await push_days(bucket, [BTC], 4))

            async with trio.open_nursery() as nursery:
                for bucket in buckets:
                    nursery.start_soon(push, bucket)
            assert sum(len(each.done) for each in found) == days
            assert sum(len(each.stored) for each in found) == days
            assert not any(each.conflicted or each.left for each in found)
            await assert_from_one_of_them(here, one, two, days)


async def at_once(*daemons: Daemon) -> list[Ended]:
    runs: list[Ended] = []

    async def run(daemon: Daemon) -> None:
        runs.append(await daemon.once())

    async with trio.open_nursery() as nursery:
        for daemon in daemons:
            nursery.start_soon(run, daemon)
    return runs


async def assert_from_one_of_them(location: RemoteLocation, one: Daemon, two: Daemon, days: int) -> None:
    """Each day is there, and is a file of one of the two."""
    stored, a, b = await bucket_days(location), files(one), files(two)
    assert len(stored) == days
    assert all(body in (a[key], b[key]) for key, body in stored.items())


async def test_a_day_with_other_rows_is_a_conflict_and_its_object_stays(
    tmp_path: Path, location: RemoteLocation
) -> None:
    day = TODAY - timedelta(days=1)
    other = seal(tmp_path / "other", day, trades=day_trades(day)).get_cache_path(day).read_bytes()
    await open_object_store(location).put_if_absent(day_key(BTC, day), other, {})
    async with exchange_at(16, {BTC: tape_of(2)}, PROMPT) as exchange:
        daemon = with_bucket(exchange, tmp_path / "a", location, 2, REMOTE_PULL="false")
        run = await daemon.run("run", "--once")
        conflict = run.event("remote_conflicted")
        assert (conflict["level"], conflict["day"]) == ("error", day.isoformat())
        assert (await bucket_days(location))[day_key(BTC, day)] == other


async def test_a_bucket_out_of_reach_stops_nothing_and_the_rest_is_pushed_later(
    tmp_path: Path, location: RemoteLocation
) -> None:
    async with exchange_at(16, {BTC: tape_of(3)}, PROMPT) as exchange:
        daemon = with_bucket(exchange, tmp_path / "a", location, 3)
        good = daemon.settings["REMOTE_ENDPOINT"]
        daemon.settings |= OUT_OF_REACH
        run = await daemon.run("run", "--once")
        assert run.code == 75, run
        assert "3 sealed days are not pushed" in run.stderr
        assert list(faults_of(daemon, past(3))) == []
        assert counted(run)["remote_failed"] == 1
        daemon.settings["REMOTE_ENDPOINT"] = good
        run = await daemon.once()
        assert stored_by(run) == 3


@pytest.mark.parametrize("wrong", ["key", "bucket"])
async def test_a_bucket_that_cannot_be_used_is_78_in_a_sentence_without_secrets(
    tmp_path: Path, location: RemoteLocation, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    async with exchange_at(16, {BTC: tape_of(2)}, PROMPT) as exchange:
        daemon = with_bucket(exchange, tmp_path / "a", location, 2)
        if wrong == "key":
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
        else:
            daemon.settings["REMOTE_URL"] = "s3://not-there/x"
        run = await daemon.run("run", "--once")
        assert run.code == 78, run
        assert daemon.settings["REMOTE_URL"] in run.stderr
        for text in (run.stderr, run.stdout):
            assert "hunter2" not in text
            assert SECRET_KEY not in text
        shown = await daemon.run("check-config")
        assert ACCESS_KEY not in shown.stdout
        assert "hunter2" not in shown.stdout


async def test_a_silent_bucket_delays_neither_the_days_nor_the_stop(tmp_path: Path, location: RemoteLocation) -> None:
    """The whole backfill, its last save and the end by SIGTERM come while the bucket says nothing."""
    async with exchange_at(16, {BTC: tape_of(2)}, PROMPT) as exchange:
        with faulty_proxy(location, ["silence"] * 100) as (mute, _):
            daemon = with_bucket(exchange, tmp_path / "a", mute, 2, REMOTE_PULL="false", REQUEST_TIMEOUT_SECONDS="20")
            process = daemon.start("run")
            with trio.fail_after(20):
                while list(faults_of(daemon, past(2))):
                    await trio.sleep(0.05)
            began = trio.current_time()
            process.terminate()
            assert await ended(process) == 0
            assert trio.current_time() - began < 8


async def test_kills_at_random_moments_leave_bucket_and_cache_whole_and_the_rest_is_pushed(
    tmp_path: Path, location: RemoteLocation
) -> None:
    days, chance = 12, random.Random(7)
    async with exchange_at(16, {BTC: tape_of(days, rows=400)}, PROMPT) as exchange:
        daemon = with_bucket(exchange, tmp_path / "a", location, days)
        for _ in range(6):
            process = daemon.start("run", "--once")
            await trio.sleep(chance.uniform(0.8, 2.2))
            await kill(process)
        await daemon.once()
        assert await bucket_days(location) == files(daemon)
        assert len(files(daemon)) == days
        assert list(faults_of(daemon, past(days))) == []


async def test_hostile_objects_are_refused_and_their_days_come_from_the_archive(
    tmp_path: Path, location: RemoteLocation
) -> None:
    """Another day, another symbol, an altered price under the honest digest, and far too many rows."""
    store, (first, second, third, fourth) = open_object_store(location), past(4)
    async with exchange_at(16, {BTC: tape_of(4)}, PROMPT) as exchange:
        honest = daemon_of(exchange, tmp_path, 4)
        await honest.once()

        def body(day: date) -> bytes:
            return honest.day_file(day).read_bytes()

        eth = seal(tmp_path / "eth", second, instrument=ETH).get_cache_path(second).read_bytes()
        hostile = {
            first: body(second),
            second: eth,
            third: rewritten(body(third), columns(p=pl.col("p") + 0.01)),
            fourth: rewritten(body(fourth), lambda frame: pl.concat([frame] * 400)),
        }
        for day, content in hostile.items():
            digest = honest.manager().facts(day).digest or ""
            assert await store.put_if_absent(day_key(BTC, day), content, {"digest": digest}) is not None
        (tmp_path / "a").mkdir()
        daemon = with_bucket(exchange, tmp_path / "a", location, 4, REMOTE_PUSH="false")
        run = await daemon.once()
        assert counted(run)["remote_refused"] == 4
        assert counted(run)["archive_taken"] >= 4
        assert list(faults_of(daemon, past(4))) == []
        assert await bucket_days(location) == {day_key(BTC, day): content for day, content in hostile.items()}


SENTENCES: dict[Fault | Habit | Literal["wrong key", "no bucket"], tuple[int, str]] = {
    "500": (75, "2 days left for later: .*500"),
    "503": (75, "2 days left for later: .*503"),
    "429": (75, "2 days left for later: .*429"),
    "silence": (75, "there was no answer in time"),
    "cut_upload": (75, "2 days left for later: "),
    "lose": (0, "^$"),
    "wrong key": (78, "403"),
    "no bucket": (78, "there is no such bucket"),
    "ignores_if_none_match": (78, "If-None-Match is ignored"),
    "ignores_if_match": (78, "If-Match is ignored"),
}


async def test_each_fault_has_its_sentence_and_its_exit_code(tmp_path: Path, location: RemoteLocation) -> None:
    """Two days are pushed. All faults at once, because most of the time is waiting."""
    seal(tmp_path / "cache", past(2)[0])
    seal(tmp_path / "cache", past(2)[1])
    async with exchange_at(16, {BTC: tape_of(1)}, PROMPT) as exchange, trio.open_nursery() as nursery:
        for number, fault in enumerate(SENTENCES):
            nursery.start_soon(assert_sentence, exchange, tmp_path / str(number), location, fault)


async def assert_sentence(exchange: Exchange, directory: Path, location: RemoteLocation, fault: Any) -> None:
    directory.mkdir()
    own = replace(location, url=f"{location.url}/{fault.replace(' ', '-')}")
    with ExitStack() as stack:
        if fault in get_args(Habit):
            own = stack.enter_context(lax_server(fault))
        elif fault in get_args(Fault):
            # The probe passes, and then nothing does; an answer is lost once.
            faults = ["pass"] * 5 + [fault] * (1 if fault == "lose" else 500)
            own, _ = stack.enter_context(faulty_proxy(own, faults))
        elif fault == "no bucket":
            own = replace(own, url="s3://not-there/x")
        secret = {"AWS_SECRET_ACCESS_KEY": "hunter2hunter2"} if fault == "wrong key" else {}
        daemon = with_bucket(exchange, directory, own, 2, REQUEST_TIMEOUT_SECONDS="1")
        shutil.copytree(directory.parent / "cache", daemon.cache_dir)
        run = await daemon.run("push", more=secret)
    code, sentence = SENTENCES[fault]
    assert run.code == code, (fault, run)
    assert re.search(sentence, run.stderr), (fault, run.stderr)
    assert run.stderr.count("\n") == (1 if code else 0), (fault, run.stderr)
    assert "hunter2" not in run.stderr + run.stdout
    assert SECRET_KEY not in run.stderr + run.stdout
    assert all(daemon.day_file(day).exists() for day in past(2))


async def test_old_days_are_deleted_only_when_they_are_in_the_bucket(tmp_path: Path, location: RemoteLocation) -> None:
    async with exchange_at(16, {BTC: tape_of(4)}, PROMPT) as exchange:
        daemon = with_bucket(exchange, tmp_path / "a", location, 4, REMOTE_PUSH="false", REMOTE_PULL="false")
        await daemon.once()
        assert len(files(daemon)) == 4
        daemon.settings |= {
            "REMOTE_PUSH": "true",
            "DAYS": "1",
            "KEEP_DAYS": "2",
        } | OUT_OF_REACH
        assert (await daemon.run("run", "--once")).code == 75
        assert len(files(daemon)) == 4
        daemon.settings |= {"REMOTE_ENDPOINT": location.endpoint or "", "REQUEST_TIMEOUT_SECONDS": "5"}
        assert stored_by(await daemon.once()) == 4
        # Days are deleted once several answers of the exchange agree on today.
        daemon.settings["POLL_SECONDS"] = "0.3"
        process = daemon.start("run")
        with trio.fail_after(30):
            while len(files(daemon)) > 2:
                await trio.sleep(0.1)
        await kill(process)
        assert len(files(daemon)) == 2
        assert len(await bucket_days(location)) == 4


async def test_the_manifest_names_what_is_in_the_bucket(tmp_path: Path, location: RemoteLocation) -> None:
    async with exchange_at(16, {BTC: tape_of(3)}, PROMPT) as exchange:
        daemon = with_bucket(exchange, tmp_path / "a", location, 3)
        await daemon.once()
        days = CachedDaysInBucket(open_object_store(location), location.url, daemon.cache_dir, tmp_path)
        found = await days.manifest(BTC)
    assert found is not None
    assert list(found) == past(3)
    assert all(day_of_key(line.key) == (BTC, day) for day, line in found.items())


async def test_push_pull_and_catalog_by_hand(tmp_path: Path, location: RemoteLocation) -> None:
    async with exchange_at(16, {BTC: tape_of(3)}, PROMPT) as exchange:
        daemon = with_bucket(exchange, tmp_path / "a", location, 3)
        for day in (each + timedelta(days=400) for each in past(3)):
            seal(daemon.cache_dir, day)
        old = [day - timedelta(days=400) for day in past(3)]
        for day in old:
            seal(daemon.cache_dir, day)
        assert "0 day files" in (await daemon.run("cleanup", "--keep-days", "30")).stdout
        run = await daemon.run("push")
        assert (run.code, run.stderr) == (0, "")
        assert "6 days pushed" in run.stdout
        assert "3 day files" in (await daemon.run("cleanup", "--keep-days", "30")).stdout
        other = with_bucket(exchange, tmp_path / "b", location, 3)
        first, last = past(3)[0] + timedelta(days=400), past(3)[-1] + timedelta(days=400)
        pull = ("pull", "--from", first.isoformat(), "--to", last.isoformat())
        run = await other.run(*pull)
        assert (run.code, run.stderr) == (0, "")
        assert files(other) == files(daemon)
        assert "0 days pulled, 3 were there already" in (await other.run(*pull)).stdout
        run = await other.run("catalog")
        assert (run.code, "6 days in the manifests" in run.stdout) == (0, True), run


async def test_status_and_verify_of_the_bucket_and_a_repair_by_the_command_line(
    tmp_path: Path, location: RemoteLocation
) -> None:
    async with exchange_at(16, {BTC: tape_of(3)}, PROMPT) as exchange:
        daemon = with_bucket(exchange, tmp_path / "a", location, 3)
        await daemon.once()
        run = await daemon.run("status", "--remote", "--json")
        (state,) = json.loads(run.stdout)["instruments"]
        assert (state["days"]["stored"], state["lag"], state["conflicted"]) == (3, 0, [])
        assert "spot:BTCUSDT: 3 stored" in (await daemon.run("status", "--remote")).stdout
        run = await daemon.run("verify", "--remote", "--deep")
        assert (run.code, "3 days" in run.stdout, "every object is what it claims" in run.stdout) == (0, True, True)
        # The rows of another tape, whole and sealed, in the place of a day.
        day, store = past(3)[1], open_object_store(location)
        there = await store.head(day_key(BTC, day))
        assert there is not None
        other = seal(tmp_path / "x", day).get_cache_path(day).read_bytes()
        assert await store.put_if_match(day_key(BTC, day), other, {}, there.etag) is not None
        run = await daemon.run("verify", "--remote", "--json")
        assert run.code == 1
        assert (day.isoformat(), "conflict") in [
            (each["day"], each["kind"]) for each in json.loads(run.stdout)["findings"]
        ]
        run = await daemon.run("verify", "--remote", "--repair")
        assert (run.code, "replaced by the cache's day" in run.stdout) == (0, True), run
        assert await bucket_days(location) == files(daemon)
        daemon.settings |= OUT_OF_REACH

        async def in_vain(*command: str) -> None:
            run = await daemon.run(*command)
            assert (run.code, "the connection was refused" in run.stderr) == (75, True), run

        async with trio.open_nursery() as nursery:  # most of it is waiting
            for command in (("verify", "--remote"), ("status", "--remote"), ("push",)):
                nursery.start_soon(in_vain, *command)


async def test_encrypted_days_go_through_the_bucket_and_end_under_another_key(
    tmp_path: Path, location: RemoteLocation
) -> None:
    """Pushed, pulled byte for byte, rekeyed by tags; a machine with another key takes the days from elsewhere."""
    days = 3
    async with exchange_at(16, {BTC: tape_of(days, rows=500)}, PROMPT) as exchange:

        def machine(name: str, *keys: Key) -> Daemon:
            daemon = with_bucket(exchange, tmp_path / name, location, days)
            path = tmp_path / f"{name}.keys"
            path.touch(0o600)
            path.write_text("".join(f"{key.id} {b64encode(key.secret).decode()}\n" for key in keys))
            daemon.settings |= {"ENCRYPTION": "parquet", "KEY_FILE": str(path)}
            return daemon

        first, second = machine("a", OLD), machine("b", OLD)
        assert stored_by(await first.once()) == days
        assert await bucket_days(location) == files(first)
        assert all(body.endswith(b"PARE") for body in files(first).values())
        assert counted(await second.once())["day_pulled"] == days
        assert files(second) == files(first)
        strange = machine("c", STRANGE)
        before = await bucket_days(location)
        run = counted(await strange.once())
        assert (run["day_pulled"], run["day_pushed"]) == (0, 0)
        assert await bucket_days(location) == before

        rekeying = machine("a", NEW, OLD)
        done = await rekeying.run("rekey", "--remote")
        assert done.code == 0, done
        after = await bucket_days(location)
        assert after.keys() == before.keys()
        assert all(NEW.fingerprint.encode() in body and OLD.fingerprint.encode() not in body for body in after.values())
        fresh = machine("d", NEW)
        assert counted(await fresh.once())["day_pulled"] == days
        assert files(fresh) == after
        for command in (("verify",), ("verify", "--remote", "--deep"), ("status", "--remote")):
            assert (await fresh.run(*command)).code == 0
