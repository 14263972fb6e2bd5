"""A fleet fills a bucket: whole, byte for byte the same whoever does it, and without any request weight. Run by
``make test-fleet``."""

import json
from pathlib import Path

from backfilld.adapters.object_store import RemoteLocation, open_object_store
from tests.fleet.world import SYMBOLS, Fleet, archive_of, span, weight_of


async def digests(location: RemoteLocation) -> dict[str, str]:
    """The digest of each day in the bucket, by key."""
    store = open_object_store(location)
    found = {}
    for each in await store.objects(""):
        if "backfill_" in each.key:
            content = await store.tail(each.key, tail_bytes=8)
            assert content is not None
            found[each.key] = content.attributes["digest"]
    return found


async def test_a_month_here_without_a_scheduler(tmp_path: Path, location: RemoteLocation) -> None:
    async with archive_of(SYMBOLS[:2], 1, rows=300) as (exchange, first, last):
        fleet = Fleet(exchange, location, tmp_path)
        run = await fleet.run("fill", *span(first, last, SYMBOLS[:2]), "--json")
        assert run.code == 0, run
        found = json.loads(run.stdout)
        assert (found["pushed"], found["unsealed"], found["findings"]) == (60, [], [])
        assert weight_of(exchange) == 0
        assert len(await digests(location)) == 60
        assert fleet.scratch() == []
