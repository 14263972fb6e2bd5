"""Real servers, one of each for a session, and a folder of its own in them for each test."""

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from typing import TypeVar
from urllib.request import Request, urlopen

import obstore
import pytest
from obstore.store import S3Store

from backfilld.adapters.object_store import RemoteLocation
from tests.debian import Unavailable
from tests.remote.azurite import Azurite
from tests.remote.azurite import running as azurite_running
from tests.remote.radosgw import ACCESS_KEY, REGION, SECRET_KEY, Radosgw, running

T = TypeVar("T")
BUCKET = "tape"


@pytest.fixture(scope="session")
def radosgw() -> Iterator[Radosgw]:
    """A real S3 server with one bucket; the tests that need it are skipped, with the reason, where there is none."""
    with ExitStack() as stack:
        server = _started(stack, running(), "S3 server")
        make_bucket(server, BUCKET)
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """A server of Azure's blob storage; the tests that need it are skipped, with the reason, where there is none."""
    with ExitStack() as stack:
        yield _started(stack, azurite_running(), "server of Azure's")


def _started(stack: ExitStack, server: AbstractContextManager[T], what: str) -> T:
    try:
        return stack.enter_context(server)
    except Unavailable as reason:
        pytest.skip(f"no {what}: {reason}")


def make_bucket(server: Radosgw, name: str) -> None:
    """Create a bucket, by a signed address."""
    client = S3Store(
        name, endpoint=server.endpoint, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY,
        client_options={"allow_http": True},
    )  # fmt: skip
    address = obstore.sign(client, "PUT", "", timedelta(seconds=60))
    with urlopen(Request(address, method="PUT"), timeout=10) as answer:
        assert answer.status == 200


@pytest.fixture
def s3_environment(radosgw: Radosgw, monkeypatch: pytest.MonkeyPatch) -> Radosgw:
    """The server, and its credentials in the environment, with nothing of the caller's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in radosgw.environment.items():
        monkeypatch.setenv(name, value)
    return radosgw


@pytest.fixture
def location(s3_environment: Radosgw) -> RemoteLocation:
    """A folder of the bucket that nobody else uses."""
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    return RemoteLocation(url, s3_environment.endpoint, REGION, allow_http=True, timeout_s=20.0)
