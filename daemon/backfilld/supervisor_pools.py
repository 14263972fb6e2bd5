"""Jobs by pool: each pool has a channel and fetchers of its own.

Owns those channels, and how many fetchers there are. Fetchers that wait for the weight of one pool hold up no job of
another one.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import trio

from backfilld.actors.fetcher import FetcherPorts
from backfilld.actors.messages import Job
from backfilld.core.markets import RULES, Pool


def jobs_by_pool(
    nursery: trio.Nursery, jobs: trio.MemoryReceiveChannel[Job]
) -> Mapping[Pool, trio.MemoryReceiveChannel[Job]]:
    """The jobs of each pool; the channels end when ``jobs`` does."""
    # Never full: no more jobs are dealt than there are fetchers.
    ends = {pool: trio.open_memory_channel[Job](math.inf) for pool in Pool}
    nursery.start_soon(_route, jobs, {pool: send for pool, (send, _) in ends.items()})
    return {pool: receive for pool, (_, receive) in ends.items()}


async def _route(jobs: trio.MemoryReceiveChannel[Job], pools: Mapping[Pool, trio.MemorySendChannel[Job]]) -> None:
    async with AsyncExitStack() as stack:
        for end in (jobs, *pools.values()):
            await stack.enter_async_context(end)
        async for job in jobs:
            pools[RULES[job.market].pool].send_nowait(job)


class Fetchers:
    """The fetchers of each pool: more can be started while the pipeline runs; how many work at a time is the
    scheduler's decision."""

    def __init__(
        self,
        nursery: trio.Nursery,
        ports: Mapping[Pool, FetcherPorts],
        fetch: Callable[[FetcherPorts], Awaitable[None]],
    ) -> None:
        self._nursery = nursery
        self._ports = ports
        self._run = fetch
        self._count = 0
        self._deadline = math.inf
        self._scopes: list[trio.CancelScope] = []

    def grow(self, count: int) -> None:
        """Start fetchers until each pool has at least ``count``."""
        while self._count < count:
            self._count += 1
            for ports in self._ports.values():
                self._nursery.start_soon(self._fetch, ports.clone())

    async def _fetch(self, ports: FetcherPorts) -> None:
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._scopes.append(scope)
            await self._run(ports)

    def cancel_requests_at(self, deadline: float) -> None:
        """Wait for no answer any longer then."""
        self._deadline = deadline
        for scope in self._scopes:
            scope.deadline = deadline

    def close(self) -> None:
        """Start no more."""
        for ports in self._ports.values():
            ports.close()
