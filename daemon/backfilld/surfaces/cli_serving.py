"""The command about the endpoint: what to paste into a client."""

from pathlib import Path

import click

from backfilld.errors import SettingsError
from backfilld.surfaces.options import options, settings_of

_CLIENTS = ("ccxt", "python-binance", "binance-sdk", "freqtrade", "nautilus")


@click.command(short_help="Print the lines that connect a client.")
@click.argument("client", type=click.Choice(_CLIENTS), metavar="CLIENT")
@options("config")
def connect(client: str, config: Path | None) -> None:
    """Print the lines that make CLIENT ask this daemon's endpoint instead of Binance.

    CLIENT is ccxt, python-binance, binance-sdk, freqtrade or nautilus.
    """
    from backfilld.services.connecting import lines_for  # noqa: PLC0415

    settings = settings_of(config, (), None)
    rest = _base("http", "api_listen", settings.api_listen, "127.0.0.1:8190")
    streams = _base("ws", "stream_listen", settings.stream_listen, "127.0.0.1:8191")
    click.echo(lines_for(client, rest, streams), nl=False)


def _base(scheme: str, name: str, listens: str, usual: str) -> str:
    """The base URL of a listener; of one that is off, or that systemd opens, the usual address."""
    if listens.startswith("unix:"):
        raise SettingsError(f"{name} = {listens}: these clients speak to ports; listen on 127.0.0.1 for them")
    return f"{scheme}://{usual if listens in {'off', 'systemd'} else listens}"
