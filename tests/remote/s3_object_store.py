"""Against real servers: radosgw (S3) and Azurite (Azure). Run by ``make test-s3``.

Google Cloud Storage was not run: no server of it is available here.
"""

import uuid
from dataclasses import replace

import pytest

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.errors import RemoteDenied, RemoteUnreachable
from backfilld.ports.remote import ObjectStore
from tests.remote.azurite import Azurite
from tests.remote.conformance import ObjectStoreConformance
from tests.remote.faulty_proxy import Fault, faulty_proxy

KEY = "market=spot/symbol=BTCUSDT/backfill_2025-11-07.parquet"


class TestRadosgw(ObjectStoreConformance):
    @pytest.fixture
    def store(self, location: RemoteLocation) -> ObjectStore:
        return open_object_store(location)


class TestAzurite(ObjectStoreConformance):
    @pytest.fixture
    def store(self, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        for name, value in azurite.environment.items():
            monkeypatch.setenv(name, value)
        name = f"c{uuid.uuid4().hex}"
        azurite.make_container(name)
        return open_object_store(RemoteLocation(f"az://{name}/pre", azurite.endpoint, allow_http=True, timeout_s=5.0))


@pytest.mark.parametrize("deed", ["probe", "get", "head", "put", "list"])
async def test_a_wrong_key_is_denied_and_the_secret_stays_secret(
    location: RemoteLocation, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrongsecret")
    with pytest.raises(RemoteDenied, match="403") as caught:
        await _do(deed, open_object_store(location))
    assert "wrongsecret" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("deed", ["probe", "put", "list"])
async def test_a_missing_bucket_is_denied_by_name(location: RemoteLocation, deed: str) -> None:
    elsewhere = replace(location, url="s3://nobody-made-it/x")
    with pytest.raises(RemoteDenied, match=r"s3://nobody-made-it/x.*there is no such bucket"):
        await _do(deed, open_object_store(elsewhere))


@pytest.mark.parametrize("fault", ["500", "503", "429"])
@pytest.mark.parametrize("deed", ["get", "head", "put", "list"])
async def test_an_answer_that_asks_for_patience_is_asked_again(
    location: RemoteLocation, fault: Fault, deed: str
) -> None:
    await open_object_store(location).put_if_absent("there", b"x" * 5000, {})
    with faulty_proxy(location, [fault, fault]) as (proxied, seen):
        await _do(deed, open_object_store(proxied))
        assert seen[:3] == [fault, fault, "pass"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("500", "500"), ("refuse", r"the library failed|the connection"), ("silence", "no answer in time")],
)
async def test_what_stays_broken_is_out_of_reach_within_the_time_limit(
    location: RemoteLocation, fault: Fault, expected: str
) -> None:
    with faulty_proxy(replace(location, timeout_s=1.0), [fault] * 50) as (proxied, _):
        store = open_object_store(proxied)
        for deed in ("put", "head"):
            with pytest.raises(RemoteUnreachable, match=expected):
                await _do(deed, store)
    assert await open_object_store(location).head(KEY) is None


async def test_an_object_whose_answer_was_lost_is_there_and_seen_as_existing(location: RemoteLocation) -> None:
    """The library asks again, and is refused by its own object: whose it is, the caller finds out by its content."""
    with faulty_proxy(location, ["lose"]) as (proxied, _):
        assert await open_object_store(proxied).put_if_absent(KEY, b"body", {"digest": "ours"}) is None
    found = await open_object_store(location).get(KEY, limit_bytes=10)
    assert found is not None
    assert (found.body, found.attributes["digest"]) == (b"body", "ours")


async def test_a_body_that_is_cut_on_its_way_up_leaves_no_object(location: RemoteLocation) -> None:
    faults = faulty_proxy(replace(location, timeout_s=1.0), ["cut_upload"] * 50)
    with faults as (proxied, _), pytest.raises(RemoteUnreachable):
        await open_object_store(proxied).put_if_absent(KEY, b"body" * 100_000, {})
    assert await open_object_store(location).head(KEY) is None


async def test_a_body_that_is_cut_on_its_way_down_is_read_to_its_end_or_not_at_all(location: RemoteLocation) -> None:
    body = bytes(range(256)) * 2000
    await open_object_store(location).put_if_absent(KEY, body, {})
    with faulty_proxy(location, ["cut", "cut"]) as (proxied, _):
        found = await open_object_store(proxied).get(KEY, limit_bytes=len(body))
    assert found is not None
    assert found.body == body


async def _do(deed: str, store: ObjectStore) -> None:
    match deed:
        case "probe":
            await store.probe(writes=True)
        case "get":
            await store.get("there", limit_bytes=5000)
        case "head":
            await store.head("there")
        case "list":
            await store.objects("")
        case _:
            await store.put_if_absent(KEY, b"body" * 1000, {})
