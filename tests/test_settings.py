"""Settings: where values come from, what is refused, and in which words."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backfilld import Instrument, Settings, SettingsError
from backfilld.core.model import Market

pytestmark = pytest.mark.usefixtures("clean_place")


def toml(text: str) -> Path:
    path = Path("settings.toml")
    path.write_text(text)
    return path


def refusal(**values: Any) -> str:
    """The sentence that refuses these values."""
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    return str(caught.value)


# -- defaults and precedence


def test_the_defaults_are_the_contracts() -> None:
    assert Settings().model_dump() == {
        "cache_enabled": True,
        "cache_dir": Path("context_history_dir/backfill_cache"),
        "state_dir": None,
        "instruments": ("spot:BTCUSDT",),
        "days": 0,
        "keep_days": 0,
        "max_concurrent": 5,
        "weight_share": 0.8,
        "checkpoint_seconds": 10,
        "save_seconds": 300,
        "poll_seconds": 30,
        "live": True,
        "live_silence_seconds": 60,
        "live_patience_seconds": 30,
        "ready_when": "complete",
        "grace_seconds": 10,
        "request_timeout_seconds": 20,
        "encryption": "none",
        "key_file": None,
        "compression": "zstd",
        "compression_level": None,
        "spot_url": "https://api.binance.com",
        "um_url": "https://fapi.binance.com",
        "cm_url": "https://dapi.binance.com",
        "spot_stream_url": "wss://stream.binance.com:9443, wss://data-stream.binance.vision",
        "um_stream_url": "wss://fstream.binance.com/market",
        "cm_stream_url": "wss://dstream.binance.com/market, wss://dstream.binance.com",
        "archive_url": "https://data.binance.vision",
        "remote_url": "",
        "remote_endpoint": "",
        "remote_region": "",
        "remote_allow_http": False,
        "remote_push": True,
        "remote_pull": True,
        "remote_concurrent": 4,
        "plain_http_hosts": (),
        "api_listen": "off",
        "stream_listen": "off",
        "api_hosts": (),
        "api_forward": True,
        "api_weight_share": 0.5,
        "api_wait_seconds": 8,
        "log_format": "auto",
        "log_level": "info",
    }


@pytest.mark.parametrize(
    ("key", "texts", "values"),
    [
        ("days", ("1", "2", "3"), (1, 2, 3, 4)),
        ("cache_enabled", ("true", "false", "true"), (True, False, True, False)),
        (
            "cache_dir",
            ('"in-toml"', "in-dotenv", "in-env"),
            tuple(map(Path, ("in-toml", "in-dotenv", "in-env", "arg"))),
        ),
        ("weight_share", ("0.1", "0.2", "0.3"), (0.1, 0.2, 0.3, 0.4)),
        ("log_level", ('"debug"', "warning", "error"), ("debug", "warning", "error", "info")),
        (
            "instruments",
            ('["spot:A", "um:B"]', "spot:C", "spot:D,cm:E um:F"),
            (("spot:A", "um:B"), ("spot:C",), ("spot:D", "cm:E", "um:F"), ("spot:G",)),
        ),
    ],
)
def test_argument_beats_environment_beats_config_beats_dotenv_beats_default(
    monkeypatch: pytest.MonkeyPatch, key: str, texts: tuple[str, str, str], values: tuple[object, ...]
) -> None:
    """Added one after the other, each wins over the one before; a .env never beats a file that was named."""
    in_toml, in_dotenv, in_environment = texts
    dotenv, argument = values[1], values[3]
    Path(".env").write_text(f"BACKFILL_{key.upper()}={in_dotenv}\n")
    assert (getattr(Settings(), key), Settings().source_of(key)) == (dotenv, ".env")
    config = toml(f"{key} = {in_toml}\n")
    assert getattr(Settings(config=config), key) == values[0]
    assert Settings(config=config).source_of(key) == "settings.toml"
    monkeypatch.setenv(f"BACKFILL_{key.upper()}", in_environment)
    assert getattr(Settings(config=config), key) == values[2]
    assert Settings(config=config).source_of(key) == f"the environment, BACKFILL_{key.upper()}"
    assert getattr(Settings(config=config, **{key: argument}), key) == argument
    assert getattr(Settings(config=config, **{f"backfill_{key}": argument}), key) == argument


def test_sources_are_mixed_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("BACKFILL_POLL_SECONDS=2\nBACKFILL_DAYS=7\n")
    monkeypatch.setenv("BACKFILL_DAYS", "8")
    settings = Settings(config=toml("grace_seconds = 1\ndays = 6\n"), max_concurrent=3)
    assert (settings.grace_seconds, settings.poll_seconds, settings.days, settings.max_concurrent) == (1, 2, 8, 3)


@pytest.mark.parametrize("name", ["cache_dir", "backfill_cache_dir", "BACKFILL_CACHE_DIR"])
def test_every_spelling_of_an_argument_is_the_same(name: str) -> None:
    assert Settings(**{name: "./my_cache"}).cache_dir == Path("my_cache")


def test_the_guides_arguments_work() -> None:
    settings = Settings(backfill_cache_enabled=False, backfill_cache_dir="./my_cache")
    assert (settings.cache_enabled, settings.cache_dir) == (False, Path("my_cache"))


def test_an_argument_of_none_is_one_that_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line hands over options that were left out."""
    monkeypatch.setenv("BACKFILL_CACHE_DIR", "from-env")
    assert Settings(cache_dir=None, instruments=None).cache_dir == Path("from-env")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("no", False), ("FALSE", False), ("on", True)])
def test_switches_take_the_usual_words(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("BACKFILL_CACHE_ENABLED", text)
    assert Settings().cache_enabled is value


def test_names_and_words_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("backfill_log_level", "WARNING")
    assert Settings(compression="ZSTD", log_format="Json").model_dump(include={"log_level", "log_format"}) == {
        "log_level": "warning",
        "log_format": "json",
    }


@pytest.mark.parametrize(
    "text",
    ["spot:BTCUSDT,um:ETHUSDT", "spot:BTCUSDT um:ETHUSDT", " spot:BTCUSDT ,\tum:ETHUSDT, ", "spot:BTCUSDT\num:ETHUSDT"],
)
def test_instruments_are_comma_or_space_separated(text: str) -> None:
    expected = (Instrument(Market.SPOT, "BTCUSDT"), Instrument(Market.UM, "ETHUSDT"))
    assert Settings(instruments=text).instrument_list() == expected


def test_an_instrument_named_twice_counts_once() -> None:
    assert list(map(str, Settings(instruments="spot:B spot:A spot:B").instrument_list())) == ["spot:B", "spot:A"]


def test_urls_are_of_markets_and_end_without_a_slash() -> None:
    several = "https://data-api.binance.vision/, https://api1.binance.com https://api1.binance.com/"
    settings = Settings(spot_url=several, cm_url="http://[::1]:8080")
    assert settings.urls == {
        Market.SPOT: ("https://data-api.binance.vision", "https://api1.binance.com"),
        Market.UM: ("https://fapi.binance.com",),
        Market.CM: ("http://[::1]:8080",),
    }


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.days = 3  # type: ignore[misc]


# -- refusals


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("days", -1, "days = -1: input should be greater than or equal to 0"),
        ("days", 3651, "days = 3651: input should be less than or equal to 3650"),
        ("days", "soon", "days = soon: input should be a valid integer"),
        ("days", 1.5, "days = 1.5: input should be a valid integer"),
        ("keep_days", -3, "keep_days = -3: input should be greater than or equal to 0"),
        ("max_concurrent", 0, "max_concurrent = 0: input should be greater than or equal to 1"),
        ("max_concurrent", 65, "max_concurrent = 65: input should be less than or equal to 64"),
        ("weight_share", 0, "weight_share = 0: input should be greater than 0"),
        ("weight_share", 1.01, "weight_share = 1.01: input should be less than or equal to 1"),
        ("weight_share", "nan", "weight_share = nan: "),
        ("checkpoint_seconds", 0, "checkpoint_seconds = 0: input should be greater than 0"),
        ("poll_seconds", "inf", "poll_seconds = inf: input should be a finite number"),
        ("grace_seconds", -0.1, "grace_seconds = -0.1: input should be greater than or equal to 0"),
        ("request_timeout_seconds", 0, "request_timeout_seconds = 0: input should be greater than 0"),
        ("cache_enabled", "perhaps", "cache_enabled = perhaps: input should be a valid boolean"),
        ("compression", "brotli", "compression = brotli: input should be 'zstd', 'snappy', 'lz4', 'gzip' or 'none'"),
        ("log_level", "loud", "log_level = loud: input should be 'debug', 'info', 'warning' or 'error'"),
        ("log_format", "xml", "log_format = xml: input should be 'auto', 'console' or 'json'"),
        ("instruments", "", "instruments = : name at least one instrument, such as spot:BTCUSDT"),
        (
            "instruments",
            "BTCUSDT",
            "write market:SYMBOL with market one of spot, um, cm; did you mean spot:BTCUSDT?",
        ),
        ("instruments", "moon:BTCUSDT", "instrument 'moon:BTCUSDT': write market:SYMBOL"),
        ("instruments", "spot:../x", "instrument 'spot:..X': a symbol is 1 to 60 letters, digits and _"),
        ("spot_url", "https://me:secret@host", "spot_url = https://...@host: a base URL has no user name"),
        ("um_url", "http://10.0.0.1:80", "http:// is for this machine alone"),
        ("spot_url", "api.binance.com", "spot_url = api.binance.com: a base URL is http:// or https://"),
        ("um_url", "ftp://fapi.binance.com", "um_url = ftp://fapi.binance.com: a base URL is"),
        ("cm_url", "https://dapi.binance.com/dapi/v1", "cm_url = https://dapi.binance.com/dapi/v1: a base URL is"),
        ("archive_url", "https://", "archive_url = https://: a base URL is"),
        ("spot_url", "https://host:99999", "spot_url = https://host:99999: a base URL is"),
        ("spot_url", "https://host:0", "spot_url = https://host:0: a base URL is"),
        ("spot_url", "https://[::1", "spot_url = https://[::1: a base URL is"),
        ("spot_url", "https://host?x=1", "spot_url = https://host?x=1: a base URL is"),
        ("spot_url", "https://ho\tst", "a base URL is"),
        ("spot_url", "https://ho st", "spot_url = https://ho st: a base URL is"),
        ("spot_url", "https://bad..ü", "spot_url = https://bad..ü: a base URL is"),
    ],
)
def test_a_bad_value_is_refused_by_key_value_and_rule(key: str, value: object, said: str) -> None:
    sentence = refusal(**{key: value})
    assert sentence.startswith(key)
    assert said in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"compression": "snappy", "compression_level": 3}, "compression_level: snappy has no levels, leave it out"),
        ({"compression": "none", "compression_level": 3}, "compression_level: none has no levels, leave it out"),
        ({"compression_level": 0}, "compression_level 0: zstd has 1 to 22"),
        ({"compression_level": 23}, "compression_level 23: zstd has 1 to 22"),
        ({"compression": "gzip", "compression_level": 10}, "compression_level 10: gzip has 1 to 9"),
        ({"days": 5, "keep_days": 4}, "keep_days 4: it must not be less than days (5), or 0 to keep all"),
    ],
)
def test_values_that_do_not_go_together_are_refused(values: dict[str, object], said: str) -> None:
    assert refusal(**values) == said


@pytest.mark.parametrize(
    "values",
    [
        {"compression": "gzip", "compression_level": 9},
        {"compression_level": 22},
        {"days": 5, "keep_days": 5},
        {"days": 5, "keep_days": 0},
        {"grace_seconds": 0},
        {"weight_share": 1},
        {"max_concurrent": 64, "days": 3650},
    ],
)
def test_the_edges_of_the_rules_are_allowed(values: dict[str, Any]) -> None:
    assert Settings(**values).model_dump(include=set(values)) == values


def test_all_that_is_wrong_is_said_at_once() -> None:
    sentence = refusal(days=-1, log_level="loud", nonsense=1)
    assert sentence.count("; ") == 2
    assert all(part in sentence for part in ("days = -1", "log_level = loud", "there is no setting nonsense"))


@pytest.mark.parametrize("source", ["argument", "toml", "dotenv", "environment"])
def test_an_unknown_name_is_refused_with_a_suggestion_and_its_source(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {}
    match source:
        case "argument":
            values, said = {"cachedir": "x"}, "cachedir, did you mean cache_dir? (from the arguments)"
        case "toml":
            values = {"config": toml('cachedir = "x"')}
            said = "cachedir, did you mean cache_dir? (from settings.toml)"
        case "dotenv":
            Path(".env").write_text("BACKFILL_CACHEDIR=x\n")
            said = "BACKFILL_CACHEDIR, did you mean BACKFILL_CACHE_DIR? (from .env)"
        case _:
            monkeypatch.setenv("BACKFILL_CACHEDIR", "x")
            said = "BACKFILL_CACHEDIR, did you mean BACKFILL_CACHE_DIR? (from the environment)"
    assert refusal(**values) == f"there is no setting {said}"


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_the_name_of_the_program_is_not_a_prefix_of_settings(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """BACKFILLD_DAYS=3 would be an easy slip, and would change nothing in silence."""
    if place == ".env":
        Path(".env").write_text("BACKFILLD_DAYS=3\n")
    else:
        monkeypatch.setenv("BACKFILLD_DAYS", "3")
    assert refusal().startswith("there is no setting BACKFILLD_DAYS, did you mean BACKFILL_DAYS? (from ")


def test_a_bad_value_names_the_source_that_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("BACKFILL_POLL_SECONDS=0\n")
    monkeypatch.setenv("BACKFILL_DAYS", "-1")
    sentence = refusal(config=toml("max_concurrent = 0"))
    assert "poll_seconds = 0: input should be greater than 0 (from .env)" in sentence
    assert "days = -1: input should be greater than or equal to 0 (from the environment, BACKFILL_DAYS)" in sentence
    assert "max_concurrent = 0: input should be greater than or equal to 1 (from settings.toml)" in sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('um_url = "http://far.example"', "um_url = http://far.example: http:// is for this machine alone"),
        ('api_listen = "0.0.0.0:8190"', "api_listen = 0.0.0.0:8190: other machines reach it"),
        (
            'remote_url = "s3://b"\nremote_endpoint = "http://far.example"',
            "remote_endpoint = http://far.example: http://",
        ),
        ("days = 9\nkeep_days = 3", "keep_days 3: it must not be less than days (9)"),
        ('encryption = "parquet"', "encryption = parquet: it needs key_file"),
    ],
)
def test_a_rule_about_several_settings_names_the_source_of_the_one_to_change(text: str, said: str) -> None:
    sentence = refusal(config=toml(text))
    assert sentence.startswith(said)
    assert sentence.endswith(" (from settings.toml)")


@pytest.mark.parametrize("text", ["frobnicate = 1", "[frobnicate]\ndays = 1"])
def test_an_unknown_key_like_no_other_has_no_suggestion(text: str) -> None:
    assert refusal(config=toml(text)) == "there is no setting frobnicate (from settings.toml)"


@pytest.mark.parametrize(
    "text",
    ["days = " + "9" * 5000, "days = " + "[" * 100_000, "[days]\nx = 1", 'cache_dir = "a\\u001b[2Jb\\nc"\ndays = -1'],
    ids=["digits", "nested", "table", "control characters"],
)
def test_a_hostile_toml_is_a_sentence(text: str) -> None:
    sentence = refusal(config=toml(text))
    assert sentence.isprintable()
    assert len(sentence) < 500


@pytest.mark.parametrize("name", [".env", "settings.toml"])
def test_a_pipe_is_never_waited_for(name: str) -> None:
    os.mkfifo(name)
    sentence = refusal(config=name) if name == "settings.toml" else refusal()
    assert sentence.endswith("it must be a file, and is a pipe or a device")


@pytest.mark.parametrize(
    ("text", "instrument"),
    [
        ("spot:btcusdt", "spot:BTCUSDT"),
        ("BTC/USDT", "spot:BTCUSDT"),
        ("UM:btc/usdt", "um:BTCUSDT"),
        ("cm:btcusd_perp", "cm:BTCUSD_PERP"),
    ],
)
def test_an_instrument_is_understood_as_people_write_it(text: str, instrument: str) -> None:
    assert Settings(instruments=text).instruments == (instrument,)


def test_plain_http_is_for_this_machine_and_for_hosts_that_are_named() -> None:
    for host in ("127.0.0.1", "[::1]:9", "localhost:8000"):
        assert Settings(spot_url=f"http://{host}").spot_url == f"http://{host}"
    assert Settings(um_url="http://proxy.lan:80", plain_http_hosts="proxy.lan").um_url == "http://proxy.lan:80"


def test_other_programs_keys_in_dotenv_are_none_of_ours() -> None:
    Path(".env").write_text("API_KEY=secret\nDAYS=9\nBACKFILL_DAYS=2\nOTHER_BACKFILL_DAYS=4\n")
    assert Settings().days == 2


def test_a_secret_of_another_program_is_never_in_a_sentence() -> None:
    Path(".env").write_text("API_KEY=hunter2\nBACKFILL_DAYS=x\n")
    assert "hunter2" not in refusal()


def test_a_dotenv_that_is_not_text_is_refused_by_name() -> None:
    Path(".env").write_bytes(b"BACKFILL_DAYS=\xff\n")
    assert ".env" in refusal()


# -- paths


def test_a_home_directory_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(cache_dir="~/cache").cache_dir == tmp_path / "cache"


def test_a_cache_directory_need_not_exist_and_is_not_made() -> None:
    assert Settings(cache_dir="not/yet").cache_dir == Path("not/yet")
    assert not Path("not").exists()


def test_a_file_in_place_of_the_cache_directory_is_refused() -> None:
    Path("file").write_text("")
    assert refusal(cache_dir="file") == "cache_dir = file: it must be a directory, and a file stands there"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/cache", "x" * 300, "nul\0byte"], ids=["home", "long", "nul"])
def test_a_path_that_cannot_be_is_refused_by_key(path: str) -> None:
    assert refusal(cache_dir=path).startswith("cache_dir")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (str, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_text("days = "), "it is not"),
        (lambda path: path.write_text("days 3"), "it is not"),
        (lambda path: path.write_bytes(b"days = 3 # \xff"), "it is not"),
    ],
    ids=["missing", "directory", "cut", "words", "bytes"],
)
def test_a_config_that_cannot_be_read_is_refused_by_its_path(make: Any, said: str) -> None:
    path = Path("my.toml")
    make(path)
    assert refusal(config=path).startswith("config my.toml: ")
    assert said in refusal(config="my.toml")


def test_what_toml_holds_must_be_of_the_right_kind() -> None:
    sentence = refusal(config=toml("instruments = 5\ncompression = 3\nweight_share = [1]\ncache_dir = 7"))
    for key in ("instruments", "compression", "weight_share", "cache_dir"):
        assert f"{key} = " in sentence


def test_importing_reads_no_settings() -> None:
    """A bad environment is refused when settings are made, not when the package is imported."""
    command = [sys.executable, "-c", "import backfilld"]
    environment = os.environ | {"BACKFILL_DAYS": "nonsense"}
    assert subprocess.run(command, env=environment, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"remote_url": "ftp://bucket"}, "s3://BUCKET/PREFIX"),
        ({"remote_url": "s3:///prefix"}, "s3://BUCKET/PREFIX"),
        ({"remote_url": "s3://b/p?versionId=1"}, "s3://BUCKET/PREFIX"),
        ({"remote_url": "s3://key:secret@bucket"}, "credentials come from the environment"),
        ({"remote_endpoint": "http://169.254.169.254"}, "is not an object store"),
        ({"remote_endpoint": "https://[fe80::1]:9000"}, "is not an object store"),
        ({"remote_endpoint": "http://10.0.0.1:9000"}, "http:// is for this machine alone"),
        ({"remote_endpoint": "https://u:p@host"}, "no user name"),
        ({"remote_url": "s3://bucket", "cache_enabled": False}, "cache_enabled is false"),
        ({"remote_concurrent": 0}, "remote_concurrent"),
    ],
)
def test_a_bucket_that_cannot_be_meant_is_refused(given: dict[str, Any], rule: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(rule)):
        Settings(**given)


def test_a_bucket_is_named_by_its_url() -> None:
    for url in ("s3://bucket", "s3://bucket/pre/fix", "gs://bucket/p", "az://container"):
        assert Settings(remote_url=f"{url}/").remote_url == url
    assert Settings(remote_endpoint="http://127.0.0.1:9000").remote_endpoint == "http://127.0.0.1:9000"
    assert Settings(remote_endpoint="http://10.0.0.1", remote_allow_http=True).remote_endpoint == "http://10.0.0.1"
