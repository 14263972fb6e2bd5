"""The streams by unmodified clients, with only the lines pasted that ``backfilld connect`` prints."""

from pathlib import Path

import pytest

from backfilld.core.model import Instrument
from binance_simulator import Tape, open_exchange
from binance_simulator.exchange import host_ms
from tests.clients.running import need_clients, run_program
from tests.e2e.test_live import PROMPT, streamed, until_attached
from tests.e2e.test_serving import free_port
from tests.e2e.world import BTC, START_MS, at_hour, ended

UM, CM = Instrument.parse("um:BTCUSDT"), Instrument.parse("cm:BTCUSD_PERP")
ROWS = 60

PROGRAM = """
import asyncio, json
found = {{"trades": [], "candles": 0}}
async def main():
{body}
asyncio.run(asyncio.wait_for(main(), 45))
print(json.dumps(found))
"""

CCXT = """
    import ccxt.pro as ccxt
    exchange = ccxt.binance({{'newUpdates': True, 'options': {{'fetchMarkets': {{'types': ['{kind}']}}}}}})
{lines}
    try:
        while len(found["trades"]) < {rows}:
            for trade in await exchange.watch_trades('{symbol}'):
                found["trades"].append([int(trade['info']['a']), trade['info']['p'], trade['info']['q']])
        {candles}
    finally:
        await exchange.close()
"""
WATCH_CANDLES = "found['candles'] = len(await exchange.watch_ohlcv('BTC/USDT', '1m'))"

PYTHON_BINANCE = """
    from binance import AsyncClient, BinanceSocketManager
    client = AsyncClient()
    manager = BinanceSocketManager(client)
{lines}
    try:
        async with manager.{socket} as stream:
            while len(found["trades"]) < {rows}:
                message = await stream.recv()
                message = message.get('data', message)
                found["trades"].append([message['a'], message['p'], message['q']])
        {candles}
    finally:
        await client.close_connection()
"""
SOCKET_CANDLES = """async with manager.kline_socket('BTCUSDT', '1m') as stream:
            found['candles'] = int((await stream.recv())['e'] == 'kline')"""

SDK = """
{lines}
    connection = await client.websocket_streams.create_connection()
    handle = await connection.agg_trade(symbol='btcusdt')
    def heard(data):
        found["trades"].append([data.a, data.p, data.q])
    handle.on("message", heard)
    candles = await connection.kline(symbol='btcusdt', interval='1m')
    candles.on("message", lambda data: found.__setitem__('candles', found['candles'] + 1))
    while len(found["trades"]) < {rows} or not found['candles']:
        await asyncio.sleep(0.1)
    await handle.unsubscribe()
    await connection.close_connection(close_session=True)
"""

PROGRAMS = {
    "ccxt": (BTC, "ccxt", CCXT, {"kind": "spot", "symbol": "BTC/USDT", "candles": WATCH_CANDLES}),
    "ccxt um": (UM, "ccxt", CCXT, {"kind": "linear", "symbol": "BTC/USDT:USDT", "candles": ""}),
    "ccxt cm": (CM, "ccxt", CCXT, {"kind": "inverse", "symbol": "BTC/USD:BTC", "candles": ""}),
    "python-binance": (
        BTC,
        "python-binance",
        PYTHON_BINANCE,
        {"socket": "aggtrade_socket('BTCUSDT')", "candles": SOCKET_CANDLES},
    ),
    "python-binance multiplexed": (
        BTC,
        "python-binance",
        PYTHON_BINANCE,
        {"socket": "multiplex_socket(['btcusdt@aggTrade'])", "candles": ""},
    ),
    "python-binance um": (
        UM,
        "python-binance",
        PYTHON_BINANCE,
        {"socket": "aggtrade_futures_socket('BTCUSDT')", "candles": ""},
    ),
    "binance-sdk": (BTC, "binance-sdk", SDK, {"candles": "both at once"}),
}


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_client_s_streams_bring_each_trade_once_and_in_order(program: str, tmp_path: Path) -> None:
    need_clients()
    instrument, client, body, given = PROGRAMS[program]
    start_ms = at_hour(10)
    tape = Tape.generate(
        start_ms=START_MS - 3_600_000, stop_ms=start_ms, trades=3000, first_id=1000, live_rate_per_s=20.0
    )
    shift_ms = start_ms - host_ms()
    async with open_exchange(
        {str(instrument): tape}, clock_ms=lambda: host_ms() + shift_ms, streams=PROMPT
    ) as exchange:
        listen = {"API_LISTEN": f"127.0.0.1:{free_port()}", "STREAM_LISTEN": f"127.0.0.1:{free_port()}"}
        daemon = streamed(exchange, tmp_path / "cache", INSTRUMENTS=str(instrument), **listen)
        process = daemon.start("run")
        try:
            await until_attached(daemon, instrument)
            # What is a comment is for a socket manager, which this program has.
            lines = (await daemon.run("connect", client)).stdout.replace("# manager.", "manager.")
            script = body.format(lines=indented(lines), rows=ROWS, **given)
            found = await run_program(PROGRAM.format(body=script), tmp_path)
        finally:
            process.terminate()
            assert await ended(process) == 0
        ids = [each[0] for each in found["trades"]]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        rows = exchange.visible(str(instrument)).rows_by_key("a", named=True, unique=True)
        for trade_id, price, quantity in found["trades"]:
            assert (float(price), float(quantity)) == (rows[trade_id]["p"], rows[trade_id]["q"])
        assert (found["candles"] > 0) == bool(given["candles"])


def indented(lines: str) -> str:
    return "".join(f"    {line}\n" for line in lines.splitlines())
