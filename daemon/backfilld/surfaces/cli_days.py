"""The commands about stored days: what is there, is it right, and giving it away. They need no exchange, but for
``tail`` and repairs."""

import math
import sys
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import click

from backfilld.errors import SettingsError
from backfilld.surfaces.options import DAY, instrument_of, options, settings_of
from backfilld.surfaces.startup import settle, without


@click.command(short_help="Show what the cache stores.")
@options("config", "instrument", "cache-dir")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.option("--remote", is_flag=True, help="What the bucket (REMOTE_URL) stores, beside the cache.")
@click.option("--check", is_flag=True, help="Only whether it is complete and fresh, as one line and an exit code.")
@click.option(
    "--max-lag",
    "max_lag_s",
    type=click.FloatRange(min=20),
    help="With --check: seconds that an instrument may be behind. A daemon reports every 15 s.  [default: 60]",
)
def status(
    config: Path | None,
    instruments: tuple[str, ...],
    cache_dir: str | None,
    *,
    as_json: bool,
    remote: bool,
    check: bool,
    max_lag_s: float | None,
) -> None:
    """Show what is stored, by instrument and day.

    Exit codes of --check: 0 complete and fresh; 1 an instrument is behind or not complete, named; 75 no daemon has
    reported for a minute; 78 a setting is wrong.
    """
    if max_lag_s is not None and not check:
        raise SettingsError("--max-lag goes with --check")
    max_lag_s = 60.0 if max_lag_s is None else max_lag_s
    if not math.isfinite(max_lag_s):
        raise SettingsError(f"--max-lag {max_lag_s}: it must be a number of seconds")
    settings = settings_of(config, instruments, cache_dir)
    wanted = settings.instrument_list() if instruments else None
    if cache_dir is not None and not settings.cache_dir.exists():
        raise SettingsError(f"cache_dir = {settings.cache_dir}: there is no such directory (from --cache-dir)")
    if check:
        from backfilld.surfaces.check import print_check  # noqa: PLC0415

        sys.exit(print_check(settings.cache_dir, wanted, max_lag_s, as_json=as_json))
    if remote:
        from backfilld.surfaces.remote import status as print_remote  # noqa: PLC0415

        print_remote(settings, wanted, as_json=as_json)
        return
    from backfilld.surfaces.status import print_status  # noqa: PLC0415

    encoding = None
    if settings.key_file is not None:
        from backfilld.settings.encoding import encoding_of  # noqa: PLC0415 - most have no keys, and need no pyarrow

        encoding = encoding_of(settings)
    with without("numpy"):
        print_status(settings.cache_dir, settings.state_path, wanted, as_json=as_json, encoding=encoding)


@click.command(short_help="Check every day file; --repair.")
@options("config", "instrument", "cache-dir")
@click.option(
    "--against", type=click.Choice(["archive"]), help="Compare with what is published, too; it costs no request weight."
)
@click.option("--repair", is_flag=True, help="Move aside or take out what is bad, and fetch exactly that again.")
@click.option("--remote", is_flag=True, help="Verify the bucket (REMOTE_URL); --repair replaces from the cache.")
@click.option("--deep", is_flag=True, help="With --remote: read every object, not its certificate alone.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def verify(
    config: Path | None,
    instruments: tuple[str, ...],
    cache_dir: str | None,
    against: str | None,
    *,
    repair: bool,
    remote: bool,
    deep: bool,
    as_json: bool,
) -> None:
    """Read every day file and check it against its certificate and its neighbours.

    Alone it needs neither the exchange nor the lock, and changes nothing. Exit codes: 0 nothing is wrong, or not any
    more; 1 something is; 75 the cache is in use (--repair), or the archive or the exchange out of reach; 78 a setting
    is wrong.
    """
    if deep and not remote:
        raise SettingsError("--deep goes with --remote: without it every day file is read whole anyway")
    settings = settings_of(config, instruments, cache_dir)
    wanted = settings.instrument_list() if instruments else None
    if remote:
        from backfilld.surfaces.remote import verify as verify_bucket  # noqa: PLC0415

        sys.exit(verify_bucket(settings, wanted, deep=deep, repair=repair, as_json=as_json))
    with without("numpy"):
        from backfilld.surfaces.verify import repair as repair_cache  # noqa: PLC0415
        from backfilld.surfaces.verify import verify as verify_cache  # noqa: PLC0415
    if repair:
        verify_cache = repair_cache
    sys.exit(verify_cache(settings, wanted, against_archive=against is not None, as_json=as_json))


@click.command(short_help="Take over the files of an earlier program.")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@options("config", "cache-dir")
@click.option("--instrument", required=True, help="Whose trades they are: market:SYMBOL, such as spot:BTCUSDT.")
def adopt(directory: Path, config: Path | None, cache_dir: str | None, instrument: str) -> None:
    """Take over flat files backfill_YYYY-MM-DD.parquet that an earlier program wrote; the originals stay.

    Exit codes: 0 all taken; 1 a file could not be taken, with the reason; 75 the cache is in use; 78 nothing to adopt.
    """
    from backfilld.settings.encoding import encoding_of  # noqa: PLC0415
    from backfilld.surfaces.adopt import adopt as adopt_directory  # noqa: PLC0415

    settings = settings_of(config, (instrument,), cache_dir)
    (whose,) = settings.instrument_list()
    sys.exit(adopt_directory(directory, settings.cache_dir, whose, encoding_of(settings)))


@click.command(short_help="Draw a stored day.")
@click.argument("instrument")
@options("config", "cache-dir")
@click.option("--day", type=DAY, help="The UTC day; today if not given.")
@click.option("--out", type=click.Path(path_type=Path), help="FILE.html, FILE.png or FILE.svg.")
def chart(instrument: str, config: Path | None, cache_dir: str | None, day: datetime | None, out: Path | None) -> None:
    """Draw a stored day: price, VWAP, volume profile, cumulative delta, missing trades. Needs the extra [chart]."""
    from backfilld.services.estimate import fill_window, today_utc  # noqa: PLC0415
    from backfilld.surfaces.chart import draw  # noqa: PLC0415

    settings = settings_of(config, (instrument,), cache_dir)
    today = today_utc()
    wanted = day.date() if day else today
    fill_window(wanted, wanted, today, "--day", "--day")  # no other day can be stored
    draw(settings, instrument_of(settings), wanted, out)


@click.command(short_help="Print trades as they come.")
@click.argument("instrument")
@options("config", "cache-dir")
@click.option("--from-id", type=click.IntRange(min=0), help="Begin with this trade; with the next one if not given.")
@click.option("--from", "start", help="Begin with the first trade at or after this UTC day or ISO 8601 time.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per trade instead of a line to read.")
def tail(
    config: Path | None,
    instrument: str,
    cache_dir: str | None,
    from_id: int | None,
    start: str | None,
    *,
    as_json: bool,
) -> None:
    """Print an instrument's trades, from disk through to live, until Ctrl-C.

    They come by way of the running daemon, or by a stream of its own if none runs. Exit codes as for run; stderr names
    the id to go on from.
    """
    import trio  # noqa: PLC0415

    from backfilld.surfaces.logs import configure_logs  # noqa: PLC0415
    from backfilld.surfaces.tail import print_trades  # noqa: PLC0415

    settle()
    settings = settings_of(config, (instrument,), cache_dir)
    configure_logs(settings.log_format, "error")
    wanted = instrument_of(settings)
    try:
        trio.run(partial(print_trades, settings, wanted, from_id, start, as_json=as_json))
    except (KeyboardInterrupt, BrokenPipeError):
        # Whoever reads has seen enough.
        sys.stdout = None


@click.command(short_help="Write stored days as CSV, Parquet, Feather.")
@click.argument("instrument")
@options("config", "cache-dir")
@click.option("--from", "first", required=True, type=DAY, help="The first UTC day.")
@click.option("--to", "last", type=DAY, help="The last UTC day; yesterday if not given.")
@click.option("--every", help="Bars of this length, such as 1m, 1h or 1d; the trades themselves if not given.")
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "feather"]), default="csv", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file; stdout for csv if not given.")
def export(
    instrument: str,
    config: Path | None,
    cache_dir: str | None,
    first: datetime,
    last: datetime | None,
    every: str | None,
    form: str,
    out: Path | None,
) -> None:
    """Write stored days as bars or trades: CSV, Parquet or Feather."""
    from backfilld.services.estimate import fill_window, today_utc  # noqa: PLC0415
    from backfilld.surfaces.export import export_days  # noqa: PLC0415

    settings = settings_of(config, (instrument,), cache_dir)
    today = today_utc()
    until = last.date() if last else today - timedelta(days=1)
    fill_window(first.date(), until, today)  # no other day can be stored
    export_days(settings, instrument_of(settings), first.date(), until, every, form, out)


@click.command(short_help="Delete old day files.")
@options("config", "instrument", "cache-dir")
@click.option(
    "--keep-days",
    required=True,
    type=click.IntRange(0),
    help="Delete day files older than this many days; 0 keeps all.",
)
@click.option("--dry-run", is_flag=True, help="Only print which files would be deleted.")
def cleanup(
    config: Path | None, instruments: tuple[str, ...], cache_dir: str | None, keep_days: int, *, dry_run: bool
) -> None:
    """Delete old day files."""
    from backfilld.settings.encoding import encoding_of  # noqa: PLC0415
    from backfilld.surfaces.cleanup import print_cleanup  # noqa: PLC0415

    settings = settings_of(config, instruments, cache_dir)
    wanted = settings.instrument_list() if instruments else None
    pushed_to = settings.remote_url if settings.remote_push else ""
    encoding = encoding_of(settings)
    print_cleanup(settings.cache_dir, wanted, keep_days, dry_run=dry_run, pushed_to=pushed_to, encoding=encoding)


@click.command(short_help="Put what is stored under another key.")
@options("config", "instrument", "cache-dir")
@click.option("--key", "key_id", metavar="ID", help="A key of KEY_FILE; the first one if not given.")
@click.option("--decrypt", "decrypts", is_flag=True, help="Write plain files instead.")
@click.option("--remote", is_flag=True, help="What is in the bucket (REMOTE_URL), too.")
def rekey(
    config: Path | None,
    instruments: tuple[str, ...],
    cache_dir: str | None,
    key_id: str | None,
    *,
    decrypts: bool,
    remote: bool,
) -> None:
    """Write every day file, journal and report anew under the key that encrypts now, after comparing it with what it
    replaces. Plain files are encrypted. Interrupted, it goes on where it was.

    Exit codes: 0 nothing is left under another key; 1 a file cannot be used; 75 a daemon uses the cache, or the bucket
    is out of reach; 78 a setting is wrong, or no key opens a file.
    """
    from backfilld.surfaces.rekey import rekey as rekey_all  # noqa: PLC0415

    if key_id is not None and decrypts:
        raise click.UsageError("--key and --decrypt exclude each other")
    settings = settings_of(config, instruments, cache_dir)
    wanted = settings.instrument_list() if instruments else None
    sys.exit(rekey_all(settings, wanted, key_id, decrypts=decrypts, remote=remote))


COMMANDS = (status, verify, adopt, chart, tail, export, cleanup, rekey)
