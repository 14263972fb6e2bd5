"""The recipes of the bucket's page, run as they stand there against a real server. Run by ``make test-s3``."""

import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
import trio

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.services.remote import push_days
from backfilld.store.format.dayfile import Encoding
from tests.docs.snippets import ROOT, Block, Shell, blocks_of
from tests.fakes import BTC, ETH
from tests.remote.conftest import make_bucket
from tests.remote.days import days, seal
from tests.remote.radosgw import Radosgw
from tests.store.keyrings import NEW, OLD, encrypting

BUCKET = "my-tape"
URL, SEALED_URL = f"s3://{BUCKET}/binance", f"s3://{BUCKET}/sealed"
ROWS = 500
"""Trades of a day."""
BLOCKS = [
    each for each in blocks_of(ROOT / "docs/howto-bucket.md") if "runs it against a real one" in (each.reason or "")
]


@pytest.fixture(scope="module")
def shop(radosgw: Radosgw, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A cache whose days are in the bucket that the page names, plain and encrypted, and the environment in which the
    recipes run. The key's file lies beside the cache, where they look for it."""
    make_bucket(radosgw, BUCKET)
    cache = tmp_path_factory.mktemp("shop")
    (cache / "backfilld-keys").touch(0o600)
    (cache / "backfilld-keys").write_text(f"{OLD.id} {b64encode(OLD.secret).decode()}\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in radosgw.environment.items():
            patch.setenv(name, value)
        trio.run(_fill, radosgw, URL, cache, Encoding())
        trio.run(_fill, radosgw, SEALED_URL, tmp_path_factory.mktemp("sealed"), encrypting(OLD))
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


async def _fill(server: Radosgw, url: str, cache: Path, encoding: Encoding) -> None:
    for instrument in (BTC, ETH):
        for day in days(3):
            seal(cache, day, instrument=instrument, encoding=encoding)
    location = RemoteLocation(url, server.endpoint, "us-east-1", allow_http=True)
    bucket = CachedDaysInBucket(open_object_store(location), url, cache, cache / ".backfilld", encoding=encoding)
    await push_days(bucket, [BTC, ETH], 4)


def test_there_are_recipes() -> None:
    """Else none would be run."""
    text = "".join(each.text for each in BLOCKS)
    assert all(f"import {name}" in text for name in ("backfilld", "polars", "duckdb", "pandas"))
    assert "backfilld verify --remote" in text
    with_key = "".join(each.text for each in BLOCKS if "my-tape/sealed" in each.text)
    assert all(f"import {name}" in with_key for name in ("backfilld", "polars", "duckdb", "pandas"))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_recipe_runs_as_it_stands(shop: tuple[Path, dict[str, str]], block: Block) -> None:
    cache, environment = shop
    if block.language == "sh":
        Shell(cache, environment).run(block)
        return
    done = subprocess.run(
        [sys.executable, "-c", block.text], env=environment, cwd=cache, capture_output=True, text=True, check=False
    )
    assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr[-2000:]
    assert "Warning" not in done.stderr
    if "count" in block.text:
        assert str(3 * ROWS) in done.stdout, done.stdout  # of each symbol


@pytest.mark.parametrize("block", [each for each in BLOCKS if "my-tape/sealed" in each.text], ids=str)
def test_a_recipe_with_another_key_reads_nothing(
    shop: tuple[Path, dict[str, str]], block: Block, tmp_path: Path
) -> None:
    _, environment = shop
    (tmp_path / "backfilld-keys").touch(0o600)
    (tmp_path / "backfilld-keys").write_text(f"{NEW.id} {b64encode(NEW.secret).decode()}\n")
    done = subprocess.run(
        [sys.executable, "-c", block.text], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, ""), done
