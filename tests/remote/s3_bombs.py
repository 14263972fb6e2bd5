"""Kilobytes in a bucket that decode to gigabytes, and a real daemon: refused, and no memory is taken for them. Run by
``make test-s3``."""

import io
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import trio

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.core.replication import day_key
from backfilld.store.format.digest import BLANK, FILE_DIGEST_KEY, stamp_file
from tests.docs.snippets import ROOT
from tests.e2e.test_archive import PROMPT, daemon_of, faults_of, past, tape_of
from tests.e2e.world import BTC, Daemon, Ended, exchange_at
from tests.remote.s3_pipeline import bucket_days, counted, with_bucket
from tests.remote.test_remote_days import rewritten

LAUNCH = ROOT / "tests/benchmarks/launch.py"
MOST_MORE_MB = 60.0
"""What a run with a hostile bucket may take beyond one without a bucket: the client of a bucket takes some itself."""


async def test_bombs_are_refused_and_take_no_memory(tmp_path: Path, location: RemoteLocation) -> None:
    store, wanted = open_object_store(location), past(len(BOMBS))
    async with exchange_at(16, {BTC: tape_of(len(BOMBS))}, PROMPT) as exchange:
        (tmp_path / "honest").mkdir()
        honest = daemon_of(exchange, tmp_path / "honest", len(BOMBS))
        _, usual_mb = await with_peak(honest)
        hostile = {}
        for day, bomb in zip(wanted, BOMBS, strict=True):
            key, digest = day_key(BTC, day), honest.manager().facts(day).digest or ""
            hostile[key] = bomb(honest.day_file(day).read_bytes())
            assert await store.put_if_absent(key, hostile[key], {"digest": digest}) is not None
        daemon = with_bucket(exchange, tmp_path / "a", location, len(BOMBS), REMOTE_PUSH="false")
        run, peak_mb = await with_peak(daemon)
        events = counted(run)
        assert (events["remote_refused"], events["day_pulled"]) == (len(BOMBS), 0), run
        assert events["archive_taken"] >= len(BOMBS)
        assert list(faults_of(daemon, wanted)) == []
        assert peak_mb < usual_mb + MOST_MORE_MB, (peak_mb, usual_mb)
        assert await bucket_days(location) == hostile


async def with_peak(daemon: Daemon) -> tuple[Ended, float]:
    """One good run, and its peak of memory in MB."""
    report = daemon.cache_dir.parent / "cost.json"
    command = [sys.executable, str(LAUNCH), str(report), *daemon.command("run", "--once")]
    with trio.fail_after(60):
        done = await trio.run_process(
            command, env=daemon.environment(), check=False, capture_stdout=True, capture_stderr=True
        )
    run = Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert run.code == 0, run
    return run, float(json.loads(report.read_text())["peak_mb"])


def many_rows(body: bytes) -> bytes:
    """8 million rows, all the same, under the honest certificate and a file's digest that holds."""
    return rewritten(
        body, lambda frame: frame.head(1).join(pl.select(n=pl.repeat(0, 8_000_000)), how="cross").drop("n")
    )


def lying_header(body: bytes) -> bytes:
    """The first page's header names 2 GB, and nothing else of the file says so; its digest holds."""
    start = pq.read_metadata(io.BytesIO(body)).row_group(0).column(0).data_page_offset
    assert body[start : start + 1] == b"\x15"
    place = start + 3  # after the page's type and the tag of the decoded size
    return restamped(body[:place] + b"\xfe\xff\xff\xff\x0f" + body[place + 5 :])


def lying_footer(body: bytes) -> bytes:
    """A footer of 2 GB, by its length."""
    return body[:-8] + b"\xff\xff\xff\x7fPAR1"


BOMBS: list[Callable[[bytes], bytes]] = [many_rows, lying_header, lying_footer]


def restamped(body: bytes) -> bytes:
    named = (pq.read_metadata(io.BytesIO(body)).metadata or {})[FILE_DIGEST_KEY.encode()]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "day")
        path.write_bytes(BLANK.encode().join(body.rsplit(named, 1)))
        stamp_file(path)
        return path.read_bytes()
