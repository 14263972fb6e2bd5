"""What every ObjectStore promises: one suite for the one in memory, the library's own, and real servers.

A class of tests gets the suite by deriving from it, and has a fixture ``store``.
"""

import pytest
import trio

from backfilld.errors import ObjectRefused
from backfilld.ports.remote import ObjectStore, StoredObject

DAY = "market=spot/symbol=BTCUSDT/backfill_2025-11-07.parquet"
BODY = bytes(range(256)) * 40


async def create(store: ObjectStore, key: str = DAY, body: bytes = BODY) -> StoredObject:
    """An object that was not there before."""
    made = await store.put_if_absent(key, body, {"digest": "abc", "rows": "7"})
    assert made is not None
    return made


class ObjectStoreConformance:
    """The promises of :class:`backfilld.ports.remote.ObjectStore`."""

    async def test_what_is_created_is_read_as_it_was_with_its_attributes(self, store: ObjectStore) -> None:
        made = await create(store)
        found = await store.get(DAY, limit_bytes=len(BODY))
        assert found is not None
        assert (found.body, found.object) == (BODY, made)
        assert found.attributes.items() >= {"digest": "abc", "rows": "7"}.items()
        assert await store.head(DAY) == made
        assert (made.key, made.bytes) == (DAY, len(BODY))

    async def test_what_exists_is_not_created_again_and_stays(self, store: ObjectStore) -> None:
        made = await create(store)
        assert await store.put_if_absent(DAY, b"another", {}) is None
        assert await store.head(DAY) == made

    async def test_of_many_who_create_at_once_one_does_and_its_content_stays(self, store: ObjectStore) -> None:
        winners: list[bytes] = []

        async def race(body: bytes) -> None:
            if await store.put_if_absent(DAY, body, {}) is not None:
                winners.append(body)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(race, bytes([number]) * 1000)
        found = await store.get(DAY, limit_bytes=1000)
        assert found is not None
        assert winners == [found.body]

    async def test_an_object_is_replaced_by_its_tag_and_by_no_other(self, store: ObjectStore) -> None:
        first = await create(store)
        second = await store.put_if_match(DAY, b"second", {"digest": "def"}, first.etag)
        assert second is not None
        assert second.etag != first.etag
        assert await store.put_if_match(DAY, b"third", {}, first.etag) is None
        found = await store.get(DAY, limit_bytes=100)
        assert found is not None
        assert (found.body, found.attributes["digest"]) == (b"second", "def")

    async def test_an_absent_object_is_not_replaced(self, store: ObjectStore) -> None:
        made = await create(store)
        assert await store.put_if_match("market=spot/absent", b"", {}, made.etag) is None
        assert await store.head("market=spot/absent") is None

    async def test_counters_raised_by_tag_lose_no_step(self, store: ObjectStore) -> None:
        await create(store, "counter", b"0")

        async def raise_it(times: int) -> None:
            while times:
                found = await store.get("counter", limit_bytes=10)
                assert found is not None
                raised = str(int(found.body) + 1).encode()
                times -= await store.put_if_match("counter", raised, {}, found.object.etag) is not None

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(raise_it, 5)
        found = await store.get("counter", limit_bytes=10)
        assert found is not None
        assert found.body == b"15"

    async def test_absent_objects_are_none(self, store: ObjectStore) -> None:
        assert await store.get("absent", limit_bytes=1) is None
        assert await store.tail("absent", tail_bytes=1) is None
        assert await store.head("absent") is None

    async def test_an_object_above_the_limit_is_refused(self, store: ObjectStore) -> None:
        await create(store)
        with pytest.raises(ObjectRefused, match=f"{len(BODY)} bytes, and the limit is {len(BODY) - 1}"):
            await store.get(DAY, limit_bytes=len(BODY) - 1)

    async def test_the_tail_is_the_end_of_an_object_or_all_of_a_short_one(self, store: ObjectStore) -> None:
        made = await create(store)
        for size, expected in ((100, BODY[-100:]), (len(BODY), BODY), (len(BODY) + 50, BODY)):
            found = await store.tail(DAY, tail_bytes=size)
            assert found is not None
            assert (found.body, found.object, found.attributes["digest"]) == (expected, made, "abc")

    async def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        await create(store, "empty", b"")
        found = await store.get("empty", limit_bytes=0)
        assert found is not None
        assert found.body == b""

    async def test_listing_is_by_key_of_one_folder_and_can_go_on_after_a_key(self, store: ObjectStore) -> None:
        days = [f"market=spot/symbol=BTCUSDT/backfill_2025-11-0{day}.parquet" for day in (3, 1, 2)]
        for key in (*days, "market=spot/symbol=BTCUSDTX/backfill_2025-11-01.parquet", "market=um/x"):
            await create(store, key, b"1")
        listed = await store.objects("market=spot/symbol=BTCUSDT")
        assert [each.key for each in listed] == sorted(days)
        assert all(each.bytes == 1 and each.etag for each in listed)
        later = await store.objects("market=spot/symbol=BTCUSDT", after=min(days))
        assert [each.key for each in later] == sorted(days)[1:]
        assert await store.objects("market=cm") == []
        assert len(await store.objects("")) == 5

    async def test_more_objects_than_a_page_of_the_server_are_all_listed(self, store: ObjectStore) -> None:
        keys = [f"many/{number:04}" for number in range(1100)]
        async with trio.open_nursery() as nursery:
            for part in range(4):
                nursery.start_soon(_create_all, store, keys[part::4])
        assert [each.key for each in await store.objects("many")] == keys

    async def test_folders_are_those_right_in_a_folder(self, store: ObjectStore) -> None:
        for key in (
            "market=spot/symbol=A/x",
            "market=spot/symbol=A/y",
            "market=spot/symbol=B/x",
            "market=um/symbol=C/x",
        ):
            await create(store, key, b"")
        assert await store.folders("market=spot") == ["market=spot/symbol=A", "market=spot/symbol=B"]
        assert await store.folders("") == ["market=spot", "market=um"]
        assert await store.folders("market=cm") == []

    async def test_a_symbol_in_any_script_is_a_key(self, store: ObjectStore) -> None:
        key = "market=spot/symbol=币安人生USDT/backfill_2025-11-07.parquet"
        made = await create(store, key)
        assert made.key == key
        assert [each.key for each in await store.objects("market=spot/symbol=币安人生USDT")] == [key]
        assert await store.folders("market=spot") == ["market=spot/symbol=币安人生USDT"]
        found = await store.get(key, limit_bytes=len(BODY))
        assert found is not None

    async def test_the_probe_passes_again_and_again_and_leaves_at_most_one_object(self, store: ObjectStore) -> None:
        await store.probe(writes=False)
        assert await store.objects("") == []
        for _ in range(3):
            await store.probe(writes=True)
        assert len(await store.objects("")) <= 1


async def _create_all(store: ObjectStore, keys: list[str]) -> None:
    for key in keys:
        await create(store, key, b"1")
