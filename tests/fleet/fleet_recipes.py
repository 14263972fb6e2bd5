"""The recipes of the fleet's page, run as they stand there against a real server. Run by ``make test-fleet``."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.services.remote import push_days
from tests.docs.snippets import ROOT, Block, blocks_of
from tests.fakes import BTC
from tests.remote.conftest import make_bucket
from tests.remote.days import days, seal
from tests.remote.radosgw import REGION, Radosgw

BUCKET = "my-tape"
URL = f"s3://{BUCKET}/binance"
BLOCKS = [
    each for each in blocks_of(ROOT / "docs/howto-fleet.md") if "runs it against a real one" in (each.reason or "")
]
ROWS, DAYS = 500, 3


@pytest.mark.parametrize("block", BLOCKS, ids=str)
async def test_a_recipe_runs_as_it_stands(block: Block, tmp_path: Path, s3_environment: Radosgw) -> None:
    server = s3_environment
    with suppress(OSError):  # another recipe has made it
        make_bucket(server, BUCKET)
    for day in days(DAYS):
        seal(tmp_path, day, rows=ROWS)
    location = RemoteLocation(URL, server.endpoint, REGION, allow_http=True)
    await push_days(CachedDaysInBucket(open_object_store(location), URL, tmp_path, tmp_path / ".state"), [BTC], 4)
    mine = {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ALLOW_HTTP": "true",
        "PYICEBERG_CATALOG__LOCAL__S3__ENDPOINT": server.endpoint,
        "PYICEBERG_CATALOG__LOCAL__S3__REGION": REGION,
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": ":".join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", block.text], env={**server.environment, **mine}, cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2500:]
    if "iceberg" in block.text:
        assert done.stdout.split() == [str(ROWS * DAYS)]


def test_there_are_recipes() -> None:
    """Else none would be run."""
    text = "".join(each.text for each in BLOCKS)
    assert "dask" in text
    assert "add_files" in text
