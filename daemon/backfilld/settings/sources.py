"""Where values come from: arguments, the environment, a TOML file, ``.env``, each with a name that a sentence can use.

    argument or command line  >  environment  >  --config FILE  >  .env  >  default

A ``.env`` lies in the current directory, which somebody else may have filled: it never beats a file that was named.
Owns reading the sources, and refusing names that are not settings. Must not check values.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backfilld.core.text import plain
from backfilld.errors import SettingsError

PREFIX = "backfill_"
PROGRAM_PREFIX = "backfilld_"
"""The program's own name is an easy slip for the prefix of its settings."""

DOTENV = ".env"
MOST_BYTES = 1_000_000
"""The size of the largest settings file that is read. Ours has 4 kB."""

CREDENTIAL = "backfilld-keys"
"""The name of the key file among the credentials that systemd hands over."""


def credential_path() -> Path | None:
    """The key file that systemd has handed over; None if there is none."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / CREDENTIAL if directory else None
    return path if path is not None and path.exists() else None


@dataclass(frozen=True, slots=True)
class Given:
    """A value as a source gave it; ``source`` is what a sentence calls that source."""

    value: object
    source: str


def gathered(
    arguments: Mapping[str, object], names: frozenset[str], config: Path | None, environment: Mapping[str, str]
) -> tuple[dict[str, Given], list[str]]:
    """The value of each setting that some source gives, from the source that counts, and a sentence for each name that
    is not a setting. ``names`` are all settings. Raises SettingsError for files that cannot be read."""
    faults: list[str] = []
    values: dict[str, Given] = {}
    for given in (
        _from_dotenv(names, faults),
        _from_toml(config, names, faults),
        _from_environment(environment, names, faults),
        _from_arguments(arguments, names, faults),
    ):
        values |= given
    return values, faults


def _from_arguments(arguments: Mapping[str, object], names: frozenset[str], faults: list[str]) -> dict[str, Given]:
    found = {name.lower().removeprefix(PREFIX): value for name, value in arguments.items() if value is not None}
    faults += [_no_such(name, names, "the arguments") for name in found if name not in names]
    return {name: value if isinstance(value, Given) else Given(value, "") for name, value in found.items()}


def _from_environment(environment: Mapping[str, str], names: frozenset[str], faults: list[str]) -> dict[str, Given]:
    return {
        name: Given(value, f"the environment, {written}")
        for written, name, value in _prefixed(environment, names, "the environment", faults)
    }


def _prefixed(
    variables: Mapping[str, str | None], names: frozenset[str], place: str, faults: list[str]
) -> Iterator[tuple[str, str, str]]:
    """Each variable that is a setting: as it is written, its setting, its value."""
    for written, value in variables.items():
        lowered = written.lower()
        if lowered.startswith(PROGRAM_PREFIX):
            faults.append(_misspelt(written, lowered.removeprefix(PROGRAM_PREFIX), names, place))
        elif lowered.startswith(PREFIX):
            name = lowered.removeprefix(PREFIX)
            if name not in names:
                faults.append(_misspelt(written, name, names, place))
            elif value is not None:
                yield written, name, value


def _from_dotenv(names: frozenset[str], faults: list[str]) -> dict[str, Given]:
    path = Path(DOTENV)
    if not path.exists():
        return {}
    from io import StringIO  # noqa: PLC0415 - most places have no .env

    from dotenv import dotenv_values  # noqa: PLC0415

    variables = dotenv_values(stream=StringIO(_text_of(path, DOTENV)), interpolate=False)
    return {name: Given(value, DOTENV) for _, name, value in _prefixed(variables, names, DOTENV, faults)}


def _from_toml(path: Path | None, names: frozenset[str], faults: list[str]) -> dict[str, Given]:
    if path is None:
        return {}
    text = _text_of(path, f"config {path}")
    import tomllib  # noqa: PLC0415 - most name no file

    try:
        values: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise SettingsError(f"config {path}: it is not TOML that can be read (nested too deeply)") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of 5,000 digits
        raise SettingsError(f"config {path}: it is not TOML ({plain(str(error))})") from None
    faults += [_no_such(name, names, str(path)) for name in values if name not in names]
    return {name: Given(value, str(path)) for name, value in values.items()}


def _text_of(path: Path, called: str) -> str:
    """The text of a regular file of reasonable size; a pipe is never waited for. Raises SettingsError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(21, "Is a directory")
            if not stat.S_ISREG(found.st_mode):
                raise SettingsError(f"{called}: it must be a file, and is a pipe or a device")
            body = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SettingsError(f"{plain(called)}: it cannot be read ({reason})") from None
    if len(body) > MOST_BYTES:
        raise SettingsError(f"{called}: it has more than {MOST_BYTES:,} bytes")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{called}: it is not text in UTF-8 ({error.reason})") from None


def _no_such(name: str, names: frozenset[str], place: str) -> str:
    near = _nearest(name, names)
    hint = f", did you mean {near[0]}?" if near else ""
    return f"there is no setting {plain(name, 60)}{hint} (from {plain(place)})"


def _misspelt(written: str, name: str, names: frozenset[str], place: str) -> str:
    near = [name] if name in names else _nearest(name, names)
    hint = f", did you mean {PREFIX.upper()}{near[0].upper()}?" if near else ""
    return f"there is no setting {plain(written, 60)}{hint} (from {place})"


def _nearest(name: str, names: frozenset[str]) -> list[str]:
    import difflib  # noqa: PLC0415 - only what is misspelt needs it

    return difflib.get_close_matches(name, names, n=1)


def sentence(fault: Mapping[str, Any], given: Mapping[str, Given]) -> str:
    """What is wrong with a setting: its name, its value, the rule, and the source of the value."""
    key = str(fault["loc"][0]) if fault["loc"] else ""
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not key:
        # A rule about several settings begins with the name of the one to change.
        first = re.match(r"[a-z_]*", message)
        source = given[first[0]].source if first and first[0] in given else ""
        return plain(message) + (f" (from {source})" if source else "")
    value = given[key].value if key in given else fault["input"]
    shown = " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    if "@" in shown and key.endswith("_url"):
        shown = re.sub(r"//[^@]*@", "//...@", shown)
    source = f" (from {given[key].source})" if key in given and given[key].source else ""
    return f"{key} = {plain(shown, 80)}: {plain(message[:1].lower() + message[1:])}{source}"
