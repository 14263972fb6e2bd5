"""The governed client as the endpoint's forwarder. Owns one connection to the exchange, open while the endpoint is."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from backfilld.core.model import Market
from backfilld.errors import ExchangeError, TransientError
from backfilld.pipeline import Pipeline
from backfilld.ports import ExchangeClient, NoPermit
from backfilld.ports.forwarding import Forwarder, Passed


@asynccontextmanager
async def opened_forwarder(pipeline: Pipeline) -> AsyncIterator[Forwarder]:
    """A forwarder under the pipeline's governor."""
    async with pipeline.open_client() as client:
        yield _Governed(client)


class _Governed:
    def __init__(self, client: ExchangeClient) -> None:
        self._client = client

    async def forward(
        self, market: Market, target: str, weight: int, patience_s: float, headers: Mapping[str, str]
    ) -> Passed | ExchangeError:
        try:
            reply = await self._client.forward(market, target, weight, patience_s, headers)
        except NoPermit:
            return TransientError("the daemon is stopping")
        answer = reply.read()
        return answer if isinstance(answer, ExchangeError) else Passed(answer.status, answer.headers, answer.body)
