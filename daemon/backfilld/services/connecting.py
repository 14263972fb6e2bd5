"""The lines that make a client of Binance ask backfilld instead, for each client that lets its addresses be changed.

Owns the recipes. They change public addresses only: signed requests must go on to Binance.
"""

from collections.abc import Mapping

CCXT = """\
urls = exchange.urls['api']
urls['public'] = '{rest}/api/v3'
urls['fapiPublic'] = '{rest}/fapi/v1'
urls['dapiPublic'] = '{rest}/dapi/v1'
streams = urls.setdefault('ws', {{}})
streams['spot'] = '{streams}/stream/ws'
streams['linear'] = '{streams}/ws'
streams['inverse'] = '{streams}/cm/ws'
exchange.options['watchTrades'] = {{'name': 'aggTrade'}}
"""

PYTHON_BINANCE = """\
# For public data only: python-binance sends signed requests
# to the same address.
client.API_URL = '{rest}/api'
client.FUTURES_URL = '{rest}/fapi'
# The same for a socket manager:
# manager.STREAM_URL = '{streams}/'
# manager.FSTREAM_URL = '{streams}/um/'
# manager.DSTREAM_URL = '{streams}/cm/'
"""

BINANCE_SDK = """\
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketStreams,
)
from binance_sdk_spot.spot import Spot
client = Spot(
    config_rest_api=ConfigurationRestAPI(
        base_path='{rest}'
    ),
    config_ws_streams=ConfigurationWebSocketStreams(
        stream_url='{streams}'
    ),
)
"""

FREQTRADE = """\
"exchange": {{
  "ccxt_config": {{
    "urls": {{
      "api": {{
        "public": "{rest}/api/v3",
        "fapiPublic": "{rest}/fapi/v1",
        "ws": {{
          "spot": "{streams}/stream/ws",
          "linear": "{streams}/ws"
        }}
      }}
    }}
  }}
}}
"""

NAUTILUS = """\
# In BinanceDataClientConfig, for public data:
base_url_http='{rest}',
base_url_ws='{streams}',
"""

RECIPES: Mapping[str, str] = {
    "ccxt": CCXT,
    "python-binance": PYTHON_BINANCE,
    "binance-sdk": BINANCE_SDK,
    "freqtrade": FREQTRADE,
    "nautilus": NAUTILUS,
}


def lines_for(client: str, rest: str, streams: str) -> str:
    """The lines to paste for a client; ``rest`` and ``streams`` are the base URLs of the endpoint."""
    return RECIPES[client].format(rest=rest, streams=streams)
