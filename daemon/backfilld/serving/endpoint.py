"""The endpoint's life beside the pipeline: it listens, starts again after a failure, and ends with the daemon.

Owns the lifetimes. The pipeline does not know of it: whatever happens here delays neither the writer nor the shutdown.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog
import trio
from trio_util import move_on_when

from backfilld.adapters.parquet_store import ParquetStore
from backfilld.adapters.served_days import ServedDays
from backfilld.core.markets import RULES
from backfilld.core.model import Market
from backfilld.core.serving.addresses import Address, hosts_answered, parse_address
from backfilld.core.text import plain
from backfilld.errors import SettingsError
from backfilld.pipeline import Pipeline
from backfilld.ports import ExchangeClient
from backfilld.serving.application import application
from backfilld.serving.clock import Clock
from backfilld.serving.connections import Connections
from backfilld.serving.hub import Hub
from backfilld.serving.library import Library
from backfilld.serving.relay import Relay
from backfilld.serving.rest import Sources, exchange_routes
from backfilld.serving.sockets import close_listener, open_listener
from backfilld.serving.stream_server import StreamServer
from backfilld.serving.symbols import Symbols
from backfilld.serving.tails import Tails
from backfilld.serving.world import World
from backfilld.settings import Settings

log = structlog.get_logger()

AGAIN_S = 10.0
"""A port that is taken, or a failure, is tried again after so long."""

ENDING_PART = 0.2
"""The part of GRACE_SECONDS that requests in hand are waited for; the rest is the writer's."""

MOST_ENDING_S = 2.0


async def run_endpoint(world: World) -> None:
    """Serve until the daemon stops. Never raises for what a client or the system does."""
    stop = world.pipeline.stop
    while not stop.is_set():
        try:
            await _serve(world)
        except Exception as error:  # noqa: BLE001 - the trades are more important than those who read them
            log.error("endpoint_failed", error=plain(_reason(error)), again_in_s=AGAIN_S)
            async with move_on_when(stop.wait):
                await trio.sleep(AGAIN_S)


async def _serve(world: World) -> None:
    settings = world.settings
    ending_s = min(MOST_ENDING_S, ENDING_PART * settings.grace_seconds)
    with _listening(settings, "api_listen", "api") as api, _listening(settings, "stream_listen", "streams") as streams:
        async with world.pipeline.open_client() as client, trio.open_nursery() as nursery:
            serving = _Serving(world, client, nursery)
            connections = Connections(application(world, exchange_routes(serving.sources)))
            nursery.start_soon(world.watch.run)
            nursery.start_soon(serving.hub.run)
            try:
                async with move_on_when(world.pipeline.stop.wait), trio.open_nursery() as accepting:
                    # trio refuses to serve no listener.
                    if api:
                        accepting.start_soon(connections.accept, api, nursery)
                    if streams:
                        accepting.start_soon(serving.streams.accept, streams, nursery)
                    await trio.sleep_forever()
                serving.streams.shut_down()
                await connections.finish(ending_s)
                await serving.streams.finish(ending_s)
            finally:
                # Before the nursery waits: a shielded write ends by nothing else.
                connections.abort_all()
                serving.streams.abort_all()
                nursery.cancel_scope.cancel()


class _Serving:
    """What REST and streams share."""

    def __init__(self, world: World, client: ExchangeClient, nursery: trio.Nursery) -> None:
        settings, pipeline = world.settings, world.pipeline
        store = pipeline.store
        self.tails = Tails()
        self.hub = Hub(pipeline.live, self.tails)
        clock = Clock(partial(_clock_bounds_ms, pipeline), self.hub.is_attached)
        days = ServedDays(store.manager if isinstance(store, ParquetStore) else None, nursery)
        relay = Relay(client, settings.api_wait_seconds, nursery)
        self.sources = Sources(
            Library(days, self.tails, clock),
            relay,
            Symbols(relay),
            clock,
            partial(_used_weight, pipeline),
            settings.api_forward,
        )
        hosts = hosts_answered(settings.api_hosts)
        sources = self.sources
        self.streams = StreamServer(self.hub, sources.library, sources.symbols, clock, hosts, world.traffic)
        self.hub.on_gap = self.streams.on_gap


def _clock_bounds_ms(pipeline: Pipeline, market: Market) -> tuple[int, int]:
    clock, local_ms = pipeline.governor.budgets[RULES[market].pool].clock, trio.current_time() * 1000
    return int(clock.earliest_ms(local_ms)), int(clock.latest_ms(local_ms))


def _used_weight(pipeline: Pipeline, market: Market) -> int:
    shown = pipeline.governor.statistics.value.get(RULES[market].pool)
    return 0 if shown is None else shown.used


@contextmanager
def _listening(settings: Settings, setting: str, name: str) -> Iterator[list[trio.SocketListener]]:
    """The listener that the setting names, if any. Raises SettingsError where nobody can listen."""
    address: Address | None = parse_address(getattr(settings, setting))
    if address is None:
        yield []
        return
    try:
        listener = open_listener(address, name)
    except OSError as error:
        reason = f"it must be an address that is free: {error.strerror or error}"
        raise SettingsError(f"{setting} = {address}: {reason} (from {settings.source_of(setting)})") from error
    log.info("endpoint_listening", serves=name, address=str(address))
    try:
        yield [listener]
    finally:
        close_listener(address, listener)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or repr(error)
