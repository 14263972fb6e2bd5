"""The object store in memory and the library's own keep the promises; the adapter's errors say what is wrong."""

import socket
import subprocess
import sys
import time

import pytest
import trio

from backfilld.adapters.object_store import BucketStore, RemoteLocation, open_object_store
from backfilld.errors import RemoteDenied, RemoteUnreachable
from backfilld.ports.remote import ObjectStore
from tests.remote.conformance import ObjectStoreConformance
from tests.remote.lax_server import Habit, lax_server
from tests.remote.twin import TwinStore


class TestTwin(ObjectStoreConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return TwinStore()


class TestLibraryInMemory(ObjectStoreConformance):
    """Stands for Google Cloud Storage as well, for which there is no server that could be run here."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        return open_object_store(RemoteLocation("memory://"))


async def test_a_server_that_is_not_there_is_out_of_reach_and_named_without_credentials(
    credentials: None,
) -> None:
    location = RemoteLocation("s3://bucket/pre", "http://127.0.0.1:1", "us-east-1", allow_http=True, timeout_s=0.5)
    store = open_object_store(location)
    with pytest.raises(RemoteUnreachable, match="s3://bucket/pre: head key: the connection was refused") as caught:
        await store.head("key")
    assert caught.value.__cause__ is None
    assert "the-" not in f"{caught.value!r} {store!r}"
    assert isinstance(store, BucketStore)


@pytest.mark.parametrize(
    ("habit", "name"), [("ignores_if_none_match", "If-None-Match"), ("ignores_if_match", "If-Match")]
)
async def test_a_bucket_that_ignores_a_condition_is_denied_by_the_probe(
    credentials: None, habit: Habit, name: str
) -> None:
    with lax_server(habit) as location, pytest.raises(RemoteDenied, match=rf"s3://tape/pre: .*\({name} is ignored\)"):
        await open_object_store(location).probe(writes=True)


@pytest.mark.parametrize("habit", ["quoted_only", "bare_only"])
async def test_a_tag_is_accepted_with_and_without_quotes(credentials: None, habit: Habit) -> None:
    with lax_server(habit) as location:
        store = open_object_store(location)
        made = await store.put_if_absent("key", b"one", {})
        assert made is not None
        replaced = await store.put_if_match("key", b"two", {}, made.etag)
        assert replaced is not None
        assert await store.put_if_match("key", b"three", {}, made.etag) is None


async def test_a_store_that_refuses_the_tag_that_it_names_itself_is_denied(credentials: None) -> None:
    """Else whoever replaces by tag would try for ever."""
    with lax_server("refuses_if_match") as location:
        store = open_object_store(location)
        made = await store.put_if_absent("key", b"one", {})
        assert made is not None
        with pytest.raises(RemoteDenied, match="refuses the tag"):
            await store.put_if_match("key", b"two", {}, made.etag)


async def test_nobody_waits_for_a_request_that_is_cancelled(credentials: None) -> None:
    """Its thread lives on until the library's time limit."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        store = open_object_store(RemoteLocation("s3://b", endpoint, "us-east-1", allow_http=True, timeout_s=1.0))
        began = time.monotonic()
        with trio.move_on_after(0.1) as scope:
            await store.head("key")
        assert scope.cancelled_caught
        assert time.monotonic() - began < 0.8


async def test_a_redirect_takes_no_credentials_along(credentials: None) -> None:
    """The library follows redirects. What comes from there is checked as everything out of a bucket is."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(5)
        with lax_server("redirects", other.getsockname()[1]) as location, pytest.raises(RemoteUnreachable):
            await open_object_store(location).probe(writes=False)
        peer, _ = other.accept()
        with peer:
            request = peer.recv(10_000)
    assert b"GET /elsewhere" in request
    assert b"uthorization" not in request
    assert b"the-key-id" not in request


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")


FORKED = """
import os, sys, trio
from backfilld.adapters.object_store import RemoteLocation, open_object_store
from backfilld.errors import RemoteDenied

async def ask(store):
    return await store.head("there")

if sys.argv[1] == "after a request":
    trio.run(ask, open_object_store(RemoteLocation("memory://tape")))
if os.fork() == 0:
    try:
        # A new store is of no use: the threads belong to the library, not to the store.
        trio.run(ask, open_object_store(RemoteLocation("memory://tape")))
        print("answered", flush=True)
    except RemoteDenied as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
trio.run(ask, open_object_store(RemoteLocation("memory://tape")))
print("the parent goes on")
"""


@pytest.mark.parametrize(
    ("when", "child"),
    [
        ("before any request", "answered"),
        (
            "after a request",
            "memory://tape: this process was forked from one that has used a bucket; start it by spawn, not by fork",
        ),
    ],
)
def test_a_forked_process_is_refused_instead_of_waiting_for_ever(when: str, child: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKED, when]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [child, "the parent goes on"]
