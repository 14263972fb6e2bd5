"""Settings: every knob, its default and its rule.

Owns where values come from (arguments, then ``BACKFILL_<NAME>`` in the environment, then ``.env``, then the TOML file,
then the default) and the sentence that refuses a bad one. Must not act on any of them.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, Market
from backfilld.errors import SettingsError

PREFIX = "backfill_"
_LEVELS = {"zstd": (1, 22), "gzip": (1, 9)}

_URL_OF = {market: f"{market}_url" for market in Market}
"""The setting of each market's base URLs. A market without one stops the import of this module."""

_FIXED = {
    "cache_enabled",
    "cache_dir",
    "compression",
    "compression_level",
    *_URL_OF.values(),
    "archive_url",
    "request_timeout_seconds",
    "log_format",
}
"""What is built once, when the daemon starts; SIGHUP changes the others."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _split_words(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


class Settings(BaseSettings):
    """All settings, checked and frozen.

    Every name works with and without ``backfill_``: ``Settings(cache_dir=...)`` and
    ``Settings(backfill_cache_dir=...)`` are the same. ``config`` names a TOML file. Raises SettingsError naming the
    key, the value and the rule.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", dotenv_filtering="match_prefix", frozen=True, extra="forbid"
    )

    cache_enabled: bool = True
    cache_dir: Path = Path("context_history_dir/backfill_cache")
    instruments: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_words)] = ("spot:BTCUSDT",)
    days: int = Field(0, ge=0, le=3650)
    keep_days: int = Field(0, ge=0)
    max_concurrent: int = Field(5, ge=1, le=64)
    weight_share: float = Field(0.8, gt=0, le=1)
    checkpoint_seconds: Seconds = 10
    poll_seconds: Seconds = 30
    ready_when: Literal["complete", "started"] = "complete"
    grace_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10
    request_timeout_seconds: Seconds = 20
    compression: Literal["zstd", "snappy", "lz4", "gzip", "none"] = "zstd"
    compression_level: int | None = None
    spot_url: str = RULES[Market.SPOT].rest_url
    um_url: str = RULES[Market.UM].rest_url
    cm_url: str = RULES[Market.CM].rest_url
    archive_url: str = "https://data.binance.vision"
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __init__(self, *, config: Path | str | None = None, **values: Any) -> None:
        given = {name.lower().removeprefix(PREFIX): value for name, value in values.items() if value is not None}
        file_values = _read_toml(Path(config)) if config is not None else {}
        try:
            super().__init__(**given, _file_values=file_values)
        except ValidationError as error:
            raise SettingsError(_sentence(error)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{self.model_config['env_file']}: it cannot be read ({error})") from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of precedence; the TOML file's values come along with the arguments."""
        arguments = cast("InitSettingsSource", init_settings).init_kwargs
        file_values = arguments.pop("_file_values", {})
        return init_settings, env_settings, dotenv_settings, InitSettingsSource(settings_cls, file_values)

    @property
    def urls(self) -> Mapping[Market, tuple[str, ...]]:
        """The base URLs of each market, in order of preference."""
        texts = {market: getattr(self, name) for market, name in _URL_OF.items()}
        return {market: tuple(text.split(", ")) for market, text in texts.items()}

    def fixed_differences(self, others: "Settings") -> tuple[str, ...]:
        """The settings that differ in ``others`` and cannot change while the daemon runs."""
        return tuple(sorted(name for name in _FIXED if getattr(self, name) != getattr(others, name)))

    def instrument_list(self) -> tuple[Instrument, ...]:
        """The instruments, each once, in the order given."""
        return tuple(dict.fromkeys(map(Instrument.parse, self.instruments)))

    @field_validator("instruments")
    @classmethod
    def _check_instruments(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one instrument, such as spot:BTCUSDT")
        for text in value:
            try:
                Instrument.parse(text)
            except SettingsError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("log_level", "log_format", "compression", "ready_when", mode="before")
    @classmethod
    def _ignore_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator(*_URL_OF.values())
    @classmethod
    def _check_urls(cls, value: str) -> str:
        """Several are separated by commas or spaces."""
        return ", ".join(dict.fromkeys(map(_base_url, value.replace(",", " ").split() or [value])))

    @field_validator("archive_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return _base_url(value)

    @field_validator("cache_dir", mode="before")
    @classmethod
    def _check_given(cls, value: object) -> object:
        if value == "":
            raise ValueError("it must be the path of a directory, and is empty")
        return value

    @field_validator("cache_dir")
    @classmethod
    def _check_directory(cls, value: Path) -> Path:
        try:
            value = value.expanduser()
            stands = value.exists()
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"it must be the path of a directory ({error})") from None
        if "\0" in str(value):
            raise ValueError("it must be the path of a directory, without a NUL")
        if stands and not value.is_dir():
            raise ValueError("it must be a directory, and a file stands there")
        return value

    @model_validator(mode="after")
    def _check_level(self) -> Self:
        if self.compression_level is None:
            return self
        if self.compression not in _LEVELS:
            raise ValueError(f"compression_level: {self.compression} has no levels, leave it out")
        low, high = _LEVELS[self.compression]
        if not low <= self.compression_level <= high:
            raise ValueError(f"compression_level {self.compression_level}: {self.compression} has {low} to {high}")
        return self

    @model_validator(mode="after")
    def _check_retention(self) -> Self:
        if 0 < self.keep_days < self.days:
            raise ValueError(
                f"keep_days {self.keep_days}: it must not be less than days ({self.days}), or 0 to keep all"
            )
        return self


def _base_url(value: str) -> str:
    rule = "a base URL is http:// or https://, a host and perhaps a port, without a path"
    try:
        parts = urlsplit(value)
        host = (parts.hostname or "").encode("idna")
        good = parts.scheme in {"http", "https"} and host and parts.port != 0 and not re.search(r"[\s\\]", value)
    except ValueError:
        good = False
    if not good or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(rule)
    return value.rstrip("/")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"config {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"config {path}: this is no TOML ({error})") from error


def _sentence(error: ValidationError) -> str:
    """All that is wrong, one clause a key."""
    return "; ".join(_clause(dict(each)) for each in error.errors(include_url=False))


def _clause(fault: Mapping[str, Any]) -> str:
    key = str(fault["loc"][0]) if fault["loc"] else ""
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Settings.model_fields, n=1)
        return f"there is no setting {key}" + (f", did you mean {near[0]}?" if near else "")
    if not key:
        return message
    given = fault["input"]
    shown = " ".join(map(str, given)) if isinstance(given, tuple | list) else str(given)
    return f"{key} = {shown}: {message[:1].lower()}{message[1:]}"
