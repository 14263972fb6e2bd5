"""The file with what the exchange has shown: whatever stands in it, a start goes on and believes nothing impossible."""

import os
from pathlib import Path

import pytest

from backfilld.core.backfill.newest_shown import ShownEnd
from backfilld.store.shown_state import load_shown, save_shown
from tests.fakes import BTC, DAY_MS

SHOWN = ShownEnd(150, DAY_MS, 99, DAY_MS + 5)


def path_of(cache_dir: Path) -> Path:
    save_shown(cache_dir, BTC, SHOWN)
    (path,) = cache_dir.rglob("symbol=BTCUSDT.json")
    return path


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b"\xff", b"{}", b"[" * 100_000, b'{"version":1,"shown_id":1e400}', b"x" * (2 << 20)],
)
def test_a_file_that_is_none_of_ours_says_nothing(tmp_path: Path, body: bytes) -> None:
    path_of(tmp_path).write_bytes(body)
    assert load_shown(tmp_path, BTC) is None


@pytest.mark.parametrize(
    "shown",
    [
        '"shown_id":-1,"shown_ms":1762473600000',
        '"shown_id":9223372036854775807,"shown_ms":1762473600000',
        '"shown_id":5',
    ],
)
def test_an_impossible_trade_is_left_out(tmp_path: Path, shown: str) -> None:
    path_of(tmp_path).write_text('{"version":1,' + shown + ',"agreed_id":99,"agreed_ms":1762473600005}')
    assert load_shown(tmp_path, BTC) == ShownEnd(agreed_id=99, agreed_ms=DAY_MS + 5)


def test_a_later_version_is_read_as_far_as_it_is_understood(tmp_path: Path) -> None:
    path_of(tmp_path).write_text('{"version":7,"shown_id":150,"shown_ms":1762473600000,"mood":"good"}')
    assert load_shown(tmp_path, BTC) == ShownEnd(150, DAY_MS)


def test_neither_link_nor_pipe_is_read(tmp_path: Path) -> None:
    path = path_of(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert load_shown(tmp_path, BTC) is None
    path.unlink()
    os.mkfifo(path)
    assert load_shown(tmp_path, BTC) is None
