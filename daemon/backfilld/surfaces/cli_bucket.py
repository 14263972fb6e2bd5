"""The commands about the bucket (REMOTE_URL): days to it and from it, by hand."""

import sys
from datetime import datetime
from pathlib import Path

import click

from backfilld.surfaces.options import DAY, options, settings_of


@click.command(short_help="Push sealed days to the bucket.")
@options("config", "instrument", "cache-dir")
def push(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None) -> None:
    """Push every sealed day that is not in the bucket (REMOTE_URL) yet; nothing there is overwritten.

    Exit codes: 0 all are there; 1 the bucket has other rows of a day; 75 it is out of reach; 78 a setting is wrong.
    """
    from backfilld.surfaces.remote import push as push_cache  # noqa: PLC0415

    settings = settings_of(config, instruments, cache_dir)
    sys.exit(push_cache(settings, settings.instrument_list() if instruments else None))


@click.command(short_help="Get days from the bucket.")
@options("config", "instrument", "cache-dir")
@click.option("--from", "first", required=True, type=DAY, help="The first UTC day.")
@click.option("--to", "last", required=True, type=DAY, help="The last UTC day.")
def pull(
    config: Path | None, instruments: tuple[str, ...], cache_dir: str | None, first: datetime, last: datetime
) -> None:
    """Put the days that the bucket (REMOTE_URL) has into the cache, each after every check.

    Exit codes: 0 done; 1 a day was refused; 75 the bucket is out of reach, or the cache in use; 78 a setting is wrong.
    """
    from backfilld.surfaces.remote import pull as pull_cache  # noqa: PLC0415

    settings = settings_of(config, instruments, cache_dir)
    sys.exit(pull_cache(settings, settings.instrument_list(), first.date(), last.date()))


@click.command(short_help="Make the bucket's manifests.")
@options("config", "instrument", "cache-dir")
def catalog(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None) -> None:
    """Make the manifests in the bucket (REMOTE_URL) anew, from the certificates of its days. Exit codes as for pull."""
    from backfilld.surfaces.remote import catalog as make_catalog  # noqa: PLC0415

    settings = settings_of(config, instruments, cache_dir)
    sys.exit(make_catalog(settings, settings.instrument_list() if instruments else None))


BUCKET_COMMANDS = (push, pull, catalog)
