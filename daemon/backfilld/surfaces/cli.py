"""The command line. Owns words and exit codes; everything else is done elsewhere."""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import click

from backfilld.core.backfill.outcome import EXIT_INCOMPLETE, EXIT_SETTINGS, exit_code
from backfilld.errors import BackfillError, SettingsError
from backfilld.settings import Settings
from backfilld.settings.sources import Given

F = TypeVar("F", bound=Callable[..., Any])


def _options(*wanted: str) -> Callable[[F], F]:
    every = {
        "config": click.option("--config", type=click.Path(path_type=Path), help="A TOML file with settings."),
        "instrument": click.option(
            "--instrument", "instruments", multiple=True, help="market:SYMBOL, such as spot:BTCUSDT; repeatable."
        ),
        "cache-dir": click.option("--cache-dir", type=click.Path(), help="Where the day files are."),
    }

    def decorate(command: F) -> F:
        for name in reversed(wanted):
            command = every[name](command)
        return command

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="backfilld")
def cli() -> None:
    """Keep every Binance aggregate trade of an instrument on disk: gap-free by id, resumed in a second, never
    banned."""


@cli.command()
@_options("config", "instrument", "cache-dir")
@click.option("--once", is_flag=True, help="End after the first complete backfill.")
def run(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None, *, once: bool) -> None:
    """Backfill the instruments and keep them topped up.

    Exit codes: 0 done; 1 incomplete, with the reason; 75 try later (exchange out of reach or banning, cache in use);
    78 a setting is wrong.
    """
    import trio  # noqa: PLC0415 - --help and check-config need none of it

    from backfilld.surfaces.logs import configure_logs  # noqa: PLC0415
    from backfilld.surfaces.running import run_daemon  # noqa: PLC0415
    from backfilld.surfaces.startup import settle  # noqa: PLC0415

    settle()
    settings = _settings(config, instruments, cache_dir)
    configure_logs(settings.log_format, settings.log_level)

    async def main() -> int:
        return await run_daemon(settings, once=once, read_settings=lambda: _settings(config, instruments, cache_dir))

    sys.exit(trio.run(main))


@cli.command()
@_options("config", "instrument", "cache-dir")
@click.option("--from", "first", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The first UTC day.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="The last UTC day; yesterday if not given.")
@click.option("--dry-run", is_flag=True, help="Only print what it would cost.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: one JSON document instead of a table.")
def fill(
    config: Path | None,
    instruments: tuple[str, ...],
    cache_dir: str | None,
    first: datetime,
    last: datetime | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fill a span of days, both ends included: from the archive what it has, from the exchange the rest.

    Days that are complete already are not asked for again. Exit codes as for run.
    """
    import trio  # noqa: PLC0415

    from backfilld.services.estimate import fill_window, today_utc  # noqa: PLC0415
    from backfilld.surfaces.fill import run_estimate  # noqa: PLC0415
    from backfilld.surfaces.logs import configure_logs  # noqa: PLC0415
    from backfilld.surfaces.running import run_daemon  # noqa: PLC0415
    from backfilld.surfaces.startup import settle  # noqa: PLC0415

    settle()
    settings = _settings(config, instruments, cache_dir)
    today = today_utc()
    window = fill_window(first.date(), last.date() if last else today - timedelta(days=1), today)
    if dry_run:
        run_estimate(settings, window, as_json=as_json)
        return
    if as_json:
        raise SettingsError("--json goes with --dry-run: a fill writes its log")
    if not settings.cache_enabled:
        raise SettingsError("cache_enabled = false: fill writes day files, and none may be written")
    configure_logs(settings.log_format, settings.log_level)

    async def main() -> int:
        return await run_daemon(
            settings, once=True, window=window, read_settings=lambda: _settings(config, instruments, cache_dir)
        )

    sys.exit(trio.run(main))


@cli.command()
@click.option(
    "--trades", default=50_000, show_default=True, type=click.IntRange(1_000, 2_000_000), help="Trades of today."
)
@click.option(
    "--cache-dir", type=click.Path(path_type=Path), help="Keep the day files here; a temporary directory if not."
)
def demo(trades: int, cache_dir: Path | None) -> None:
    """Run the daemon on an embedded exchange: cold start, restart, summary."""
    import trio  # noqa: PLC0415

    try:
        from backfilld.surfaces.demo import run_demo  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sentence = f"backfilld demo needs {error.name}, which is not installed: pip install 'backfilld[demo]'"
        raise SettingsError(sentence) from error
    from backfilld.surfaces.logs import configure_logs  # noqa: PLC0415
    from backfilld.surfaces.startup import settle  # noqa: PLC0415

    settle()
    configure_logs("auto", "info")

    async def main() -> int:
        return await run_demo(trades, cache_dir)

    sys.exit(trio.run(main))


@cli.command()
@_options("config", "instrument", "cache-dir")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def status(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None, *, as_json: bool) -> None:
    """Show what the cache holds, by instrument and day."""
    from backfilld.surfaces.status import print_status  # noqa: PLC0415

    settings = _settings(config, instruments, cache_dir)
    print_status(settings.cache_dir, settings.instrument_list() if instruments else None, as_json=as_json)


@cli.command()
@_options("config", "instrument", "cache-dir")
@click.option(
    "--against", type=click.Choice(["archive"]), help="Compare with what is published, too; it costs no request weight."
)
@click.option("--repair", is_flag=True, help="Move aside or take out what is bad, and fetch exactly that again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def verify(
    config: Path | None,
    instruments: tuple[str, ...],
    cache_dir: str | None,
    against: str | None,
    *,
    repair: bool,
    as_json: bool,
) -> None:
    """Read every day file and check it against its certificate and its neighbours.

    Alone it needs neither the exchange nor the lock, and changes nothing. Exit codes: 0 nothing is wrong, or not any
    more; 1 something is; 75 the cache is in use (--repair), or the archive or the exchange out of reach; 78 a setting
    is wrong.
    """
    settings = _settings(config, instruments, cache_dir)
    if repair:
        from backfilld.surfaces.verify import repair as verify_cache  # noqa: PLC0415
    else:
        from backfilld.surfaces.verify import verify as verify_cache  # noqa: PLC0415
    wanted = settings.instrument_list() if instruments else None
    sys.exit(verify_cache(settings, wanted, against_archive=against is not None, as_json=as_json))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@_options("config", "cache-dir")
@click.option("--instrument", required=True, help="Whose trades they are: market:SYMBOL, such as spot:BTCUSDT.")
def adopt(directory: Path, config: Path | None, cache_dir: str | None, instrument: str) -> None:
    """Take over flat files backfill_YYYY-MM-DD.parquet that an earlier program wrote; the originals stay.

    Exit codes: 0 all taken; 1 a file could not be taken, with the reason; 75 the cache is in use; 78 nothing to adopt.
    """
    from backfilld.assembly import encoding_of  # noqa: PLC0415
    from backfilld.surfaces.adopt import adopt as adopt_directory  # noqa: PLC0415

    settings = _settings(config, (instrument,), cache_dir)
    (whose,) = settings.instrument_list()
    sys.exit(adopt_directory(directory, settings.cache_dir, whose, encoding_of(settings)))


@cli.command()
@click.argument("instrument")
@_options("config", "cache-dir")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="The UTC day; today if not given.")
@click.option("--out", type=click.Path(path_type=Path), help="FILE.html, FILE.png or FILE.svg.")
def chart(instrument: str, config: Path | None, cache_dir: str | None, day: datetime | None, out: Path | None) -> None:
    """Draw a stored day: price, VWAP, volume profile, cumulative delta, missing trades. Needs the extra [chart]."""
    from backfilld.services.estimate import today_utc  # noqa: PLC0415
    from backfilld.surfaces.chart import draw  # noqa: PLC0415

    settings = _settings(config, (instrument,), cache_dir)
    draw(settings.cache_dir, settings.instrument_list()[0], day.date() if day else today_utc(), out)


@cli.command()
@click.argument("instrument")
@_options("config", "cache-dir")
@click.option("--from-id", type=click.IntRange(min=0), help="Begin with this trade; with the next one if not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per trade instead of a line to read.")
def tail(config: Path | None, instrument: str, cache_dir: str | None, from_id: int | None, *, as_json: bool) -> None:
    """Print an instrument's trades, from disk through to live, until Ctrl-C.

    They come by way of the running daemon, or by a stream of its own if none runs. Exit codes as for run; stderr names
    the id to go on from.
    """
    import trio  # noqa: PLC0415

    from backfilld.core.model import Instrument  # noqa: PLC0415
    from backfilld.surfaces.logs import configure_logs  # noqa: PLC0415
    from backfilld.surfaces.startup import settle  # noqa: PLC0415
    from backfilld.surfaces.tail import print_trades  # noqa: PLC0415

    settle()
    settings = _settings(config, (), cache_dir)
    configure_logs(settings.log_format, "error")
    wanted = Instrument.parse(instrument)
    try:
        trio.run(partial(print_trades, settings, wanted, from_id, as_json=as_json))
    except (KeyboardInterrupt, BrokenPipeError):
        # Whoever reads has seen enough.
        sys.stdout = None


@cli.command()
@click.argument("instrument")
@_options("config", "cache-dir")
@click.option("--from", "first", required=True, type=click.DateTime(["%Y-%m-%d"]), help="The first UTC day.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="The last UTC day; yesterday if not given.")
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
    from backfilld.services.estimate import today_utc  # noqa: PLC0415
    from backfilld.surfaces.export import export_days  # noqa: PLC0415

    settings = _settings(config, (instrument,), cache_dir)
    stop = (last.date() if last else today_utc() - timedelta(days=1)) + timedelta(days=1)
    export_days(settings, settings.instrument_list()[0], first.date(), stop, every, form, out)


@cli.command()
@_options("config", "instrument", "cache-dir")
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
    from backfilld.surfaces.status import print_cleanup  # noqa: PLC0415

    settings = _settings(config, instruments, cache_dir)
    wanted = settings.instrument_list() if instruments else None
    print_cleanup(settings.cache_dir, wanted, keep_days, dry_run=dry_run)


@cli.command("check-config")
@_options("config", "instrument", "cache-dir")
def check_config(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None) -> None:
    """Check the settings and print them as they are in force."""
    settings = _settings(config, instruments, cache_dir)
    values = settings.model_dump(mode="json", exclude_none=True)
    by_source = sorted(values, key=lambda name: (settings.source_of(name) == "default", settings.source_of(name)))
    for source, names in groupby(by_source, key=settings.source_of):
        click.echo(f"# {source}")
        for name in names:
            click.echo(f"{name} = {_toml(values[name])}")


def _settings(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None) -> Settings:
    given = {
        "instruments": Given(",".join(instruments), "--instrument") if instruments else None,
        "cache_dir": Given(cache_dir, "--cache-dir") if cache_dir is not None else None,
    }
    return Settings(config=config, **given)


def _toml(value: object) -> str:
    import json  # noqa: PLC0415

    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Run the command line; what backfilld raises on purpose becomes a sentence on stderr and an exit code."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Abort:
        sys.exit(EXIT_INCOMPLETE)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
    except click.ClickException as error:
        _complain(error.format_message())
        sys.exit(EXIT_SETTINGS)
    except BackfillError as error:
        _complain(str(error))
        sys.exit(exit_code(error))
    except ExceptionGroup as group:
        _complain("; ".join(_leaves(group)))
        sys.exit(EXIT_INCOMPLETE)


def _complain(sentence: str) -> None:
    from backfilld.surfaces.logs import complain  # noqa: PLC0415 - seldom needed

    complain(sentence)


def _leaves(group: ExceptionGroup[Exception]) -> list[str]:
    found: list[str] = []
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            found += _leaves(error)
        elif isinstance(error, BrokenPipeError):
            found.append("nobody reads stdout any more, where the log goes")
        else:
            found.append(f"{type(error).__name__}: {error}")
    return list(dict.fromkeys(found))
