"""What the tests of the adapters share: asking a scripted server one question."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from backfilld.adapters.binance_rest import opener
from backfilld.core.model import Market
from backfilld.ports import RestClient
from tests.adapters.raw_server import Answer, RawServer, raw_server

OpenPair = Callable[..., AbstractAsyncContextManager[tuple[RestClient, RawServer]]]


def _client_of(server: RawServer, timeout_s: float) -> AbstractAsyncContextManager[RestClient]:
    return opener(dict.fromkeys(Market, (server.url,)), timeout_s)()


@pytest.fixture
def scripted() -> OpenPair:
    """Open a server with a script, and a client of it for every market, whose requests last ``timeout_s`` at most."""

    @asynccontextmanager
    async def open_pair(*script: Answer, timeout_s: float = 10) -> AsyncIterator[tuple[RestClient, RawServer]]:
        async with raw_server(*script) as server, _client_of(server, timeout_s) as client:
            yield client, server

    return open_pair
