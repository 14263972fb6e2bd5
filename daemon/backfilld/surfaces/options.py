"""The options that most commands share, and the settings that they come to.

Imports nothing heavy: it stands in the way of ``--help``.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from backfilld.errors import SettingsError

if TYPE_CHECKING:
    from backfilld.core.model import Instrument
    from backfilld.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


class _Day(click.ParamType):  # type: ignore[type-arg]
    """A UTC day as 2026-11-22."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The midnight at which the day begins."""
        try:
            # strptime takes the digits of every script.
            text = value.encode("ascii").decode() if isinstance(value, str) else value
            return datetime.strptime(text, "%Y-%m-%d") if isinstance(text, str) else text  # noqa: DTZ007 - a day
        except ValueError:
            self.fail(f"{value!r} is not a day; write one as 2026-11-22", param, ctx)


DAY = _Day()


def options(*wanted: str) -> Callable[[F], F]:
    """Add these options to a command, in this order of help: config, instrument, cache-dir."""
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


def settings_of(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None) -> "Settings":
    """The settings of a command line. Raises SettingsError."""
    from backfilld.settings import Settings  # noqa: PLC0415 - --help needs none of it
    from backfilld.settings.sources import Given  # noqa: PLC0415

    given = {
        "instruments": Given(",".join(instruments), "--instrument") if instruments else None,
        "cache_dir": Given(cache_dir, "--cache-dir") if cache_dir is not None else None,
    }
    return Settings(config=config, **given)


def instrument_of(settings: "Settings") -> "Instrument":
    """The one instrument of a command line that takes no more. Raises SettingsError."""
    first, *others = settings.instrument_list()
    if others:
        raise SettingsError(f"instruments {first}, {', '.join(map(str, others))}: this command takes one")
    return first


def daemon_settings_of(config: Path | None, instruments: tuple[str, ...], cache_dir: str | None) -> "Settings":
    """The same for what runs long: its log names paths that can be used from anywhere."""
    settings = settings_of(config, instruments, cache_dir)
    return settings.model_copy(update={"cache_dir": settings.cache_dir.absolute()})
