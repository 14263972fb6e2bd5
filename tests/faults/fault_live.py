"""Live while the disk is full: followers get every trade meanwhile, and the file has all of them afterwards."""

import signal
from contextlib import aclosing
from pathlib import Path

import trio

from backfilld import follow
from tests.e2e.test_live import (
    assert_equals_tape,
    is_contiguous,
    live_exchange,
    settings_of,
    streamed,
    until_attached,
)
from tests.e2e.world import BTC
from tests.effort import effort
from tests.faults.world import Mount, fill, running

FULL_S = float(effort(quick=15, thorough=60))


async def test_a_disk_that_is_full_for_a_while_holds_up_no_follower_and_loses_nothing(
    place: Path, mount: Mount
) -> None:
    async with live_exchange(300) as exchange:
        daemon = streamed(exchange, mount(place / "disk", "4m") / "cache")
        async with running(daemon) as run:
            await until_attached(daemon)
            await run.until_said("backfill_completed")
            ids: list[int] = []
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    async with aclosing(follow(BTC, settings=settings_of(daemon))) as frames:
                        async for frame in frames:
                            ids.extend(frame["a"].to_list())

                nursery.start_soon(listen)
                fill(place / "disk" / "filler")
                await run.until_said("disk_failed")
                before = len(ids)
                await trio.sleep(FULL_S)
                assert len(ids) - before > FULL_S * 300 / 2
                (place / "disk" / "filler").unlink()
                await run.until_said("disk_recovered")
                nursery.cancel_scope.cancel()
            assert is_contiguous(ids)
            run.send(signal.SIGTERM)
            assert await run.ended() == 0
        stored = daemon.stored()
        assert stored["a"][-1] >= ids[-1]
        assert_equals_tape(daemon, len(ids))
