"""The key file: its form, who may read it, and that no sentence gives a key away."""

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from backfilld.errors import SettingsError
from backfilld.store.format.keys import Key
from backfilld.store.key_file import load_keys
from backfilld.store.key_wear import BLOCK_USES, MOST_USES, WORN_USES, KeyWear, key_uses

SECRET = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()


def unused(_key: Key, _uses: int) -> None:
    raise AssertionError("no key was used")


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, mode: int = 0o600) -> Path:
        path = tmp_path / "keys"
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_the_first_key_encrypts_and_all_decrypt(key_file: Callable[..., Path], mode: int) -> None:
    path = key_file(f"# of this quarter\n\n2026-q4 {SECRET}\n  2026-q3\t{OTHER}  \n", mode)
    ring = load_keys(path, encrypts=True, used=unused)
    assert [key.id for key in ring.keys] == ["2026-q4", "2026-q3"]
    assert ring.writing is ring.keys[0]
    assert load_keys(path, encrypts=False, used=unused).writing is None
    assert SECRET not in repr(ring)
    assert "secret" not in repr(ring)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o440, 0o660, 0o604, 0o700, 0o4600])
def test_a_file_that_others_can_read_is_refused(key_file: Callable[..., Path], mode: int) -> None:
    path = key_file(f"k {SECRET}\n", mode)
    with pytest.raises(SettingsError, match=rf"its mode is {mode:04o}, and must be 0400 or 0600") as refused:
        load_keys(path, encrypts=True, used=unused)
    assert SECRET not in str(refused.value)


def test_a_credential_of_systemd_may_show_an_access_control_list_as_a_group(key_file: Callable[..., Path]) -> None:
    """With User= or DynamicUser= systemd 254 and later makes credentials 0440."""
    path = key_file(f"k {SECRET}\n", 0o440)
    assert load_keys(path, encrypts=True, used=unused, is_credential=True).keys[0].id == "k"
    with pytest.raises(SettingsError):
        load_keys(key_file(f"k {SECRET}\n", 0o444), encrypts=True, used=unused, is_credential=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no key"),
        ("# nothing\n", "it has no key"),
        (f"k {SECRET}\n{SECRET}\n", "line 2 must be an id"),
        (f"k {SECRET} more\n", "line 1 must be an id"),
        (f"k {SECRET[:-4]}\n", "line 1 must be an id"),
        ("k c2hvcnQ=\n", "line 1 must be an id"),
        (f"k!{SECRET}\n", "line 1 must be an id"),
        (f"k {SECRET[:-1]}!\n", "line 1 must be an id"),
        (f"k {SECRET}\nk {OTHER}\n", "line 2 repeats the id or the key of line 1"),
        (f"k {SECRET}\nn {SECRET}\n", "line 2 repeats the id or the key of line 1"),
    ],
)
def test_what_is_not_a_key_file_is_refused_without_showing_it(
    key_file: Callable[..., Path], text: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        load_keys(key_file(text), encrypts=True, used=unused)
    assert SECRET[:8] not in str(refused.value)
    assert "c2hv" not in str(refused.value)


def test_links_pipes_and_missing_files_are_refused(tmp_path: Path, key_file: Callable[..., Path]) -> None:
    real = key_file(f"k {SECRET}\n")
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(real)
    os.mkfifo(pipe, 0o600)
    for path, said in ((link, "link"), (pipe, "must be a file"), (tmp_path, "must be a file"), (tmp_path / "no", "No")):
        with pytest.raises(SettingsError, match=said):
            load_keys(path, encrypts=True, used=unused)


# -- wear


def test_uses_are_reserved_before_they_happen_and_outlive_the_process(tmp_path: Path) -> None:
    key = Key("k", bytes(32))
    path = tmp_path / ".backfilld" / "key_wear.json"
    first = KeyWear(tmp_path)
    for _ in range(100):
        first.used(key, 100)
        assert key_uses(path)[key.fingerprint] >= 100
    assert 10_000 <= key_uses(path)[key.fingerprint] <= 10_000 + BLOCK_USES
    KeyWear(tmp_path).used(key, 3 * BLOCK_USES)
    assert key_uses(path)[key.fingerprint] >= 10_000 + 3 * BLOCK_USES


def test_a_worn_key_is_named_once(tmp_path: Path) -> None:
    key = Key("k", bytes(32))
    KeyWear(tmp_path).used(key, WORN_USES - 2 * BLOCK_USES)
    wear = KeyWear(tmp_path)
    with capture_logs() as lines:
        for _ in range(8):
            wear.used(key, BLOCK_USES)
    (line,) = lines
    assert (line["event"], line["key"], line["limit"]) == ("key_worn", "k", MOST_USES)
    assert line["uses"] >= WORN_USES


def test_a_count_that_cannot_be_read_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / ".backfilld" / "key_wear.json"
    path.parent.mkdir()
    path.write_text("{")
    KeyWear(tmp_path).used(Key("k", bytes(32)), 1)
    assert len(key_uses(path)) == 1
