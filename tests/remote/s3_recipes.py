"""The recipes of the bucket's page, run as they stand there against a real server. Run by ``make test-s3``."""

import subprocess
import sys
from pathlib import Path

import pytest

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.services.remote import push_days
from tests.docs.snippets import ROOT, Block, Shell, blocks_of
from tests.fakes import BTC, ETH
from tests.remote.conftest import make_bucket
from tests.remote.days import days, seal
from tests.remote.radosgw import Radosgw

BUCKET = "my-tape"
URL = f"s3://{BUCKET}/binance"
BLOCKS = [
    each for each in blocks_of(ROOT / "docs/howto-bucket.md") if "runs it against a real one" in (each.reason or "")
]


@pytest.fixture(scope="module")
def shop(radosgw: Radosgw, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A cache whose days are in the bucket that the page names, and the environment in which the recipes run."""
    make_bucket(radosgw, BUCKET)
    cache = tmp_path_factory.mktemp("shop")
    for instrument in (BTC, ETH):
        for day in days(3):
            seal(cache, day, instrument=instrument)
    mine = {
        "AWS_ENDPOINT_URL": radosgw.endpoint,
        "AWS_ALLOW_HTTP": "true",
        "BACKFILL_REMOTE_URL": URL,
        "BACKFILL_REMOTE_ENDPOINT": radosgw.endpoint,
        "BACKFILL_REMOTE_REGION": radosgw.environment["AWS_REGION"],
        "BACKFILL_CACHE_DIR": str(cache),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(cache),
        "PYTHONPATH": str(ROOT / "daemon"),
    }
    return cache, {**radosgw.environment, **mine}


@pytest.fixture
async def pushed(shop: tuple[Path, dict[str, str]], s3_environment: Radosgw) -> tuple[Path, dict[str, str]]:
    cache, _ = shop
    location = RemoteLocation(URL, s3_environment.endpoint, "us-east-1", allow_http=True)
    bucket = CachedDaysInBucket(open_object_store(location), URL, cache, cache / ".backfilld")
    await push_days(bucket, [BTC, ETH], 4)
    return shop


def test_there_are_recipes() -> None:
    """Else none would be run."""
    text = "".join(each.text for each in BLOCKS)
    assert all(f"import {name}" in text for name in ("backfilld", "polars", "duckdb", "pandas"))
    assert "backfilld verify --remote" in text


@pytest.mark.parametrize("block", BLOCKS, ids=str)
async def test_a_recipe_runs_as_it_stands(pushed: tuple[Path, dict[str, str]], block: Block) -> None:
    cache, environment = pushed
    if block.language == "sh":
        Shell(cache, environment).run(block)
        return
    done = subprocess.run(
        [sys.executable, "-c", block.text], env=environment, cwd=cache, capture_output=True, text=True, check=False
    )
    assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr[-2000:]
    assert "Warning" not in done.stderr
