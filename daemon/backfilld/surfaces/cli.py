"""The command line. Owns words and exit codes; everything else is done elsewhere."""

import errno
import sys
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

import click

from backfilld.errors import EXIT_INCOMPLETE, EXIT_SETTINGS, BackfillError, SettingsError
from backfilld.surfaces.cli_bucket import BUCKET_COMMANDS
from backfilld.surfaces.cli_days import COMMANDS
from backfilld.surfaces.cli_fleet import fleet
from backfilld.surfaces.cli_serving import connect
from backfilld.surfaces.options import DAY, daemon_settings_of, options, settings_of
from backfilld.surfaces.startup import import_daemon, settle


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="backfilld")
def cli() -> None:
    """Keep every Binance aggregate trade of an instrument on disk: gap-free by id, resumed in a second, never
    banned."""


for _command in (*COMMANDS, *BUCKET_COMMANDS, fleet, connect):
    cli.add_command(_command)


@cli.command(short_help="Backfill, then stay up to date.")
@options("config", "instrument", "cache-dir")
@click.option("--once", is_flag=True, help="End after the first complete backfill.")
def run(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None, *, once: bool) -> None:
    """Backfill the instruments and keep them topped up.

    Exit codes: 0 done; 1 incomplete, with the reason; 75 try later (exchange out of reach or banning, cache in use);
    78 a setting is wrong.
    """
    import_daemon()
    import trio  # noqa: PLC0415 - --help and check-config need none of it

    from backfilld.surfaces.logs import configure_logs  # noqa: PLC0415
    from backfilld.surfaces.running import run_daemon  # noqa: PLC0415

    settle()
    settings = daemon_settings_of(config, instruments, cache_dir)
    configure_logs(settings.log_format, settings.log_level, once=once)

    async def main() -> int:
        return await run_daemon(
            settings, once=once, read_settings=lambda: daemon_settings_of(config, instruments, cache_dir)
        )

    sys.exit(trio.run(main))


@cli.command(short_help="Fill a span of past days.")
@options("config", "instrument", "cache-dir")
@click.option("--from", "first", required=True, type=DAY, help="The first UTC day.")
@click.option("--to", "last", type=DAY, help="The last UTC day; yesterday if not given.")
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
    import_daemon()
    import trio  # noqa: PLC0415

    from backfilld.services.estimate import fill_window, today_utc  # noqa: PLC0415
    from backfilld.surfaces.fill import run_estimate  # noqa: PLC0415
    from backfilld.surfaces.logs import configure_logs  # noqa: PLC0415
    from backfilld.surfaces.running import run_daemon  # noqa: PLC0415

    settle()
    settings = daemon_settings_of(config, instruments, cache_dir)
    today = today_utc()
    window = fill_window(first.date(), last.date() if last else today - timedelta(days=1), today)
    if dry_run:
        # Stdout is for the estimate alone.
        configure_logs("json", "error")
        run_estimate(settings, window, as_json=as_json)
        return
    if as_json:
        raise SettingsError("--json goes with --dry-run: a fill writes its log")
    if not settings.cache_enabled:
        raise SettingsError("cache_enabled = false: fill writes day files, and none may be written")
    configure_logs(settings.log_format, settings.log_level, once=True)

    async def main() -> int:
        return await run_daemon(
            settings, once=True, window=window, read_settings=lambda: daemon_settings_of(config, instruments, cache_dir)
        )

    sys.exit(trio.run(main))


@cli.command(short_help="Run on an embedded exchange.")
@click.option(
    "--trades", default=50_000, show_default=True, type=click.IntRange(1_000, 2_000_000), help="Trades of today."
)
@click.option(
    "--cache-dir", type=click.Path(path_type=Path), help="Keep the day files here; a temporary directory if not."
)
@click.option("--page", is_flag=True, help="Show the page of a daemon that is live, until Ctrl-C.")
def demo(trades: int, cache_dir: Path | None, *, page: bool) -> None:
    """Run the daemon on an embedded exchange: cold start, restart, live, summary."""
    import trio  # noqa: PLC0415

    if cache_dir is not None and any(cache_dir.glob("market=*")):
        rule = "it has day files already, and the demo's trades are invented: name a new directory"
        raise SettingsError(f"cache_dir = {cache_dir}: {rule} (from --cache-dir)")
    try:
        if page:
            from backfilld.surfaces.demo_page import run_page_demo as run_demo  # noqa: PLC0415
            from backfilld.surfaces.endpoint import refuse_without_extra  # noqa: PLC0415

            refuse_without_extra()
        else:
            from backfilld.surfaces.demo import run_demo  # noqa: PLC0415
    except ModuleNotFoundError as error:
        sentence = f"backfilld demo needs {error.name}, which is not installed: pip install 'backfilld[demo]'"
        raise SettingsError(sentence) from error
    from backfilld.surfaces.logs import configure_logs  # noqa: PLC0415

    settle()
    configure_logs("auto", "info")

    async def main() -> int:
        return await run_demo(trades, cache_dir)

    sys.exit(trio.run(main))


@cli.command("check-config", short_help="Check and print the settings.")
@options("config", "instrument", "cache-dir")
def check_config(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None) -> None:
    """Check the settings and print them as they are in force."""
    settings = settings_of(config, instruments, cache_dir)
    if settings.key_file is not None:
        from backfilld.settings.encoding import keys_of  # noqa: PLC0415 - most have no keys, and need not load so much

        keys_of(settings)
    values = settings.model_dump(mode="json", exclude_none=True)
    by_source = sorted(values, key=lambda name: (settings.source_of(name) == "default", settings.source_of(name)))
    for source, names in groupby(by_source, key=settings.source_of):
        click.echo(f"# {source}")
        for name in names:
            click.echo(_assignment(name, values[name]))
    from backfilld.core.polling import polling_weights  # noqa: PLC0415 - --help needs none of it
    from backfilld.surfaces.words import say  # noqa: PLC0415

    for each in polling_weights(settings.instrument_list(), settings.poll_seconds, settings.weight_share):
        say(f"# {'WARNING, ' if each.is_too_much else ''}{each}", indent="# ")


def _assignment(name: str, value: object) -> str:
    """A line of TOML; a list that is longer than the terminal stands one below the other."""
    from backfilld.surfaces.table import terminal_width  # noqa: PLC0415

    line, width = f"{name} = {_toml(value)}", terminal_width()
    if width is None or len(line) <= width:
        return line
    if isinstance(value, list):
        return "\n".join([f"{name} = [", *(f"  {_toml(each)}," for each in value), "]"])
    if not isinstance(value, str) or ", " not in value:
        return line
    return f'{name} = """\n  ' + value.replace(", ", ",\n  ") + '"""'


def _toml(value: object) -> str:
    import json  # noqa: PLC0415

    return json.dumps(value, ensure_ascii=False)


def main() -> None:
    """Run the command line; what backfilld raises on purpose becomes a sentence on stderr and an exit code."""
    try:
        try:
            sys.exit(cli.main(standalone_mode=False))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except click.exceptions.Abort:
        sys.exit(EXIT_INCOMPLETE)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
    except click.ClickException as error:
        _complain(error.format_message())
        sys.exit(EXIT_SETTINGS)
    except BackfillError as error:
        from backfilld.core.backfill.outcome import exit_code  # noqa: PLC0415 - seldom needed, and not light

        _complain(str(error))
        sys.exit(exit_code(error))
    except OSError as error:
        _refuse(error)
    except ExceptionGroup as group:
        _complain("; ".join(_leaves(group)))
        sys.exit(EXIT_INCOMPLETE)
    finally:
        if logs := sys.modules.get("backfilld.surfaces.logs"):
            logs.finish_logs()


def _refuse(error: OSError) -> None:
    """What the system refuses is a sentence. An error that names no file is of stdout, as far as it can be: a reader
    that has gone has seen enough."""
    reason = error.strerror or str(error)
    if error.filename is not None or error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE}:
        _complain(f"{error.filename or 'the system'} cannot be used: {reason}")
    else:
        sys.stdout = None
        if error.errno != errno.EPIPE:
            _complain(f"stdout cannot be written: {reason}")
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
