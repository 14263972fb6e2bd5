"""The governed client as the endpoint's forwarder. Owns one connection to the exchange, open while the endpoint is."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from backfilld.core.model import Market
from backfilld.errors import ExchangeError, TransientError
from backfilld.ports.forwarding import Forwarder, Passed
from backfilld.supervisor import Pipeline


@asynccontextmanager
async def opened_forwarder(_pipeline: Pipeline) -> AsyncIterator[Forwarder]:
    """A forwarder under the pipeline's governor."""
    yield _Absent()


class _Absent:
    async def forward(
        self, _market: Market, _target: str, _weight: int, _patience_s: float, _headers: Mapping[str, str]
    ) -> Passed | ExchangeError:
        return TransientError("nothing is forwarded yet")
