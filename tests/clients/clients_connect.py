"""Unmodified clients, with only the lines pasted that ``backfilld connect`` prints. Run by ``make test-clients``."""

from pathlib import Path

import pytest

from tests.clients.running import need_clients, run_program
from tests.e2e.test_live import live_exchange, streamed, until_attached
from tests.e2e.test_serving import free_port
from tests.e2e.world import ended

SCRIPTS = {
    "ccxt": """
import ccxt
exchange = ccxt.binance({'options': {'defaultType': 'spot', 'fetchMarkets': {'types': ['spot']}}})
{lines}
assert len(exchange.fetch_trades('BTC/USDT', limit=5)) == 5
assert len(exchange.fetch_ohlcv('BTC/USDT', '1m', limit=3)) == 3
""",
    "python-binance": """
from binance.client import Client
client = Client(ping=False)
{lines}
assert len(client.get_aggregate_trades(symbol='BTCUSDT', limit=5)) == 5
assert len(client.get_klines(symbol='BTCUSDT', interval='1m', limit=3)) == 3
""",
    "binance-sdk": """
{lines}
assert len(client.rest_api.agg_trades(symbol='BTCUSDT', limit=5).data()) == 5
assert len(client.rest_api.klines(symbol='BTCUSDT', interval='1m', limit=3).data()) == 3
""",
}


@pytest.mark.parametrize("client", SCRIPTS)
async def test_a_client_works_with_the_lines_pasted(client: str, tmp_path: Path) -> None:
    need_clients()
    async with live_exchange(20.0) as exchange:
        api, streams = free_port(), free_port()
        listen = {"API_LISTEN": f"127.0.0.1:{api}", "STREAM_LISTEN": f"127.0.0.1:{streams}"}
        daemon = streamed(exchange, tmp_path / "cache", **listen)
        process = daemon.start("run")
        try:
            await until_attached(daemon)
            lines = (await daemon.run("connect", client)).stdout
            await run_program(SCRIPTS[client].replace("{lines}", lines), tmp_path)
        finally:
            process.terminate()
            assert await ended(process) == 0
