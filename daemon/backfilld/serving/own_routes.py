"""The routes that are backfilld's own and not the exchange's: page, events, metrics, health.

Owns their paths: ``/``, ``/events``, ``/metrics``, ``/healthz``, ``/readyz`` and ``/static/``.
"""

from collections.abc import Sequence

from starlette.routing import BaseRoute

from backfilld.serving.monitor.routes import monitor_routes
from backfilld.serving.world import World


def own_routes(world: World) -> Sequence[BaseRoute]:
    """The routes, built for one daemon."""
    return monitor_routes(world.watch)
