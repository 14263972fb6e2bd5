"""config/backfilld.toml is the documentation of the defaults: it holds every key, and exactly the defaults."""

import re
import tomllib
from pathlib import Path

import pytest

from backfilld import Settings

pytestmark = pytest.mark.usefixtures("clean_place")

EXAMPLE = Path(__file__).parents[1] / "config" / "backfilld.toml"
WITHOUT_A_DEFAULT = {"compression_level", "state_dir", "key_file"}
"""What is left out by default; the example shows the value that the codec then takes, and a place for keys."""


def _uncommented(text: str) -> str:
    """The text with the marks taken off lines that are commented settings: ``# key = value``."""
    return re.sub(r"^#\s?(?=[a-z_]+ = )", "", text, flags=re.MULTILINE)


def test_the_example_as_it_is_changes_nothing() -> None:
    assert Settings(config=EXAMPLE) == Settings()


def test_the_example_names_every_setting_once_and_no_other() -> None:
    keys = re.findall(r"^(?:#\s?)?([a-z_]+) = ", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(keys) == sorted(Settings.model_fields)


def test_the_example_uncommented_holds_exactly_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "uncommented.toml"
    path.write_text(_uncommented(EXAMPLE.read_text(encoding="utf-8")), encoding="utf-8")
    shown = Settings(config=path).model_dump()
    defaults = Settings().model_dump()
    assert set(tomllib.loads(path.read_text(encoding="utf-8"))) == set(defaults)
    for key in WITHOUT_A_DEFAULT:
        assert defaults.pop(key) is None
        assert shown.pop(key) is not None
    assert shown == defaults


def test_the_level_shown_is_the_one_in_force() -> None:
    """The only value in the example that is not a default of Settings is the one the encoder takes by default."""
    from backfilld.store.format.dayfile import Encoding  # noqa: PLC0415 - only for this value

    shown = tomllib.loads(_uncommented(EXAMPLE.read_text(encoding="utf-8")))
    assert shown["compression_level"] == Encoding(shown["compression"]).effective_level
