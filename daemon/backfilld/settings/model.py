"""Every setting with its default and its rule, and the sentence that refuses a bad one.

Owns the rules. Where values come from is in ``sources``. Must not act on any of them.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, Market
from backfilld.core.serving.addresses import TcpAddress, parse_address
from backfilld.errors import SettingsError
from backfilld.settings.rules import (
    base_url,
    bucket_url,
    check_level,
    check_scheme,
    directory,
    endpoint_url,
    host_name,
    instrument_text,
    is_loopback,
    stream_url,
)
from backfilld.settings.sources import CREDENTIAL, PREFIX, credential_path, gathered, sentence
from backfilld.store.layout import state_directory

__all__ = ["PREFIX", "Settings"]

_URL_OF = {market: f"{market}_url" for market in Market}
"""The setting of each market's base URLs. A market without one stops the import of this module."""

_STREAM_URL_OF = {market: f"{market}_stream_url" for market in Market}

_FIXED = {
    "cache_enabled",
    "cache_dir",
    "state_dir",
    "compression",
    "compression_level",
    "save_seconds",
    "encryption",
    "key_file",
    *_URL_OF.values(),
    *_STREAM_URL_OF.values(),
    "archive_url",
    "live",
    "request_timeout_seconds",
    "log_format",
    *(f"remote_{name}" for name in ("url", "endpoint", "region", "allow_http", "push", "pull", "concurrent")),
    "api_listen",
    "stream_listen",
    "api_hosts",
    "api_forward",
    "api_wait_seconds",
}
"""What is built once, when the daemon starts; SIGHUP changes the others."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _split_words(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _ignore_case(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _instruments(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("name at least one instrument, such as spot:BTCUSDT")
    return tuple(map(instrument_text, value))


def _given(value: object) -> object:
    if value == "":
        raise ValueError("it must be the path of a directory, and is empty")
    return value


def _urls(rule: Callable[[str], str]) -> AfterValidator:
    """Several are separated by commas or spaces."""
    return AfterValidator(lambda value: ", ".join(dict.fromkeys(map(rule, value.replace(",", " ").split() or [value]))))


def _unless_empty(rule: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda value: value and rule(value))


BaseUrls = Annotated[str, _urls(base_url)]
StreamUrls = Annotated[str, _urls(stream_url)]
Listen = Annotated[str, AfterValidator(lambda value: str(parse_address(value.strip()) or "off"))]
AnyCase = BeforeValidator(_ignore_case)


class Settings(BaseModel):
    """All settings, checked and frozen.

    Every name works with and without ``backfill_``: ``Settings(cache_dir=...)`` and
    ``Settings(backfill_cache_dir=...)`` are the same. ``config`` names a TOML file. Raises SettingsError naming the
    setting, its value, the rule, and where the value came from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache_enabled: bool = True
    cache_dir: Annotated[Path, BeforeValidator(_given), AfterValidator(directory)] = Path(
        "context_history_dir/backfill_cache"
    )
    state_dir: Path | None = None
    instruments: Annotated[tuple[str, ...], BeforeValidator(_split_words), AfterValidator(_instruments)] = (
        "spot:BTCUSDT",
    )
    days: int = Field(0, ge=0, le=3650)
    keep_days: int = Field(0, ge=0)
    max_concurrent: int = Field(5, ge=1, le=64)
    weight_share: float = Field(0.8, gt=0, le=1)
    checkpoint_seconds: Seconds = 10
    save_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300
    poll_seconds: Seconds = 30
    live: bool = True
    live_silence_seconds: Seconds = 60
    live_patience_seconds: Seconds = 30
    ready_when: Annotated[Literal["complete", "started"], AnyCase] = "complete"
    grace_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10
    request_timeout_seconds: Seconds = 20
    compression: Annotated[Literal["zstd", "snappy", "lz4", "gzip", "none"], AnyCase] = "zstd"
    compression_level: int | None = None
    spot_url: BaseUrls = RULES[Market.SPOT].rest_url
    um_url: BaseUrls = RULES[Market.UM].rest_url
    cm_url: BaseUrls = RULES[Market.CM].rest_url
    spot_stream_url: StreamUrls = ", ".join(RULES[Market.SPOT].stream_urls)
    um_stream_url: StreamUrls = ", ".join(RULES[Market.UM].stream_urls)
    cm_stream_url: StreamUrls = ", ".join(RULES[Market.CM].stream_urls)
    archive_url: Annotated[str, AfterValidator(base_url)] = "https://data.binance.vision"
    encryption: Annotated[Literal["none", "parquet"], AnyCase] = "none"
    key_file: Path | None = Field(default_factory=credential_path)
    remote_url: Annotated[str, _unless_empty(bucket_url)] = ""
    remote_endpoint: Annotated[str, _unless_empty(endpoint_url)] = ""
    remote_region: str = ""
    remote_allow_http: bool = False
    remote_push: bool = True
    remote_pull: bool = True
    remote_concurrent: int = Field(4, ge=1, le=32)
    plain_http_hosts: Annotated[tuple[str, ...], BeforeValidator(_split_words)] = ()
    api_listen: Listen = "off"
    stream_listen: Listen = "off"
    api_hosts: Annotated[
        tuple[str, ...], BeforeValidator(_split_words), AfterValidator(lambda value: tuple(map(host_name, value)))
    ] = ()
    api_forward: bool = True
    api_weight_share: float = Field(0.5, ge=0, le=1)
    api_wait_seconds: Seconds = 8
    log_format: Annotated[Literal["auto", "console", "json"], AnyCase] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = "info"

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, *, config: Path | str | None = None, **values: Any) -> None:
        path = None if config is None else Path(config)
        given, faults = gathered(values, frozenset(type(self).model_fields), path, os.environ)
        try:
            super().__init__(**{name: each.value for name, each in given.items() if name in type(self).model_fields})
        except ValidationError as error:
            faults += [sentence(dict(each), given) for each in error.errors(include_url=False)]
        if faults:
            raise SettingsError("; ".join(faults))
        self._sources = {name: each.source for name, each in given.items()}

    def source_of(self, name: str) -> str:
        """Where the value of a setting came from: a file, the environment, the command line, or ``default``."""
        return self._sources.get(name, "default") or "an argument"

    def sources(self) -> tuple[str, ...]:
        """Where values that are not defaults came from: files, the environment, the command line."""
        named = ("the command line" if each[:2] == "--" else each for each in self._sources.values() if each)
        return tuple(sorted({"the environment" if each.startswith("the environment") else each for each in named}))

    def __eq__(self, other: object) -> bool:
        """Settings are equal by their values, wherever these came from."""
        return isinstance(other, Settings) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]

    @property
    def state_path(self) -> Path:
        """Where this machine keeps what outlives a cache: STATE_DIR, or ``.backfilld`` in the cache."""
        return state_directory(self.cache_dir) if self.state_dir is None else self.state_dir.expanduser()

    @property
    def urls(self) -> Mapping[Market, tuple[str, ...]]:
        """The base URLs of each market, in order of preference."""
        texts = {market: getattr(self, name) for market, name in _URL_OF.items()}
        return {market: tuple(text.split(", ")) for market, text in texts.items()}

    @property
    def stream_urls(self) -> Mapping[Market, tuple[str, ...]]:
        """The stream addresses of each market, in order of preference."""
        texts = {market: getattr(self, name) for market, name in _STREAM_URL_OF.items()}
        return {market: tuple(text.split(", ")) for market, text in texts.items()}

    def fixed_differences(self, others: "Settings") -> tuple[str, ...]:
        """The settings that differ in ``others`` and cannot change while the daemon runs."""
        return tuple(sorted(name for name in _FIXED if getattr(self, name) != getattr(others, name)))

    def instrument_list(self) -> tuple[Instrument, ...]:
        """The instruments, each once, in the order given."""
        return tuple(dict.fromkeys(map(Instrument.parse, self.instruments)))

    @model_validator(mode="after")
    def _check_http(self) -> Self:
        names = (*_URL_OF.values(), *_STREAM_URL_OF.values(), "archive_url")
        for name, url in [(each, url) for each in names for url in getattr(self, each).split(", ")]:
            check_scheme(name, url, self.plain_http_hosts)
        return self

    @model_validator(mode="after")
    def _check_remote(self) -> Self:
        if self.remote_url and not self.cache_enabled:
            raise ValueError("remote_url: it stores the day files of the cache, and cache_enabled is false")
        parts = urlsplit(self.remote_endpoint)
        if parts.scheme == "http" and not (self.remote_allow_http or is_loopback(parts.hostname or "")):
            raise ValueError(
                f"remote_endpoint = {self.remote_endpoint}: http:// is for this machine alone; use https://, or set "
                "remote_allow_http"
            )
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        for name in ("api_listen", "stream_listen"):
            address = parse_address(getattr(self, name))
            if isinstance(address, TcpAddress) and not (address.is_loopback or self.api_hosts):
                raise ValueError(
                    f"{name} = {address}: other machines reach it, and nobody logs in; name in api_hosts the Host "
                    "that they ask, or listen on 127.0.0.1"
                )
        return self

    @model_validator(mode="after")
    def _check_encryption(self) -> Self:
        if self.encryption != "none" and self.key_file is None:
            raise ValueError(
                f"encryption = {self.encryption}: it needs key_file, the path of a file with keys, or systemd's "
                f"credential {CREDENTIAL}"
            )
        return self

    @model_validator(mode="after")
    def _check_level(self) -> Self:
        if self.compression_level is not None:
            check_level(self.compression, self.compression_level)
        return self

    @model_validator(mode="after")
    def _check_retention(self) -> Self:
        if 0 < self.keep_days < self.days:
            raise ValueError(
                f"keep_days {self.keep_days}: it must not be less than days ({self.days}), or 0 to keep all"
            )
        return self
