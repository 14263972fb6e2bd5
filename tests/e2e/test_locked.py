"""A day file that no key opens, and every command beside it: it is never moved, written or fetched again."""

import os
from pathlib import Path

import pytest

from backfilld.core.model import Instrument
from backfilld.store.layout import stamp_of
from binance_simulator import Exchange
from tests.e2e.world import BTC, TODAY, Daemon, exchange_at, generated

ETH = Instrument.parse("spot:ETHUSDT")
LOCKED = {"PARE": b"PARE" + os.urandom(3000) + b"PARE", "age": b"age-encryption.org/v1\n-> X25519 " + os.urandom(300)}


def locked_in(daemon: Daemon, content: bytes) -> Path:
    path = daemon.day_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def questions_about(exchange: Exchange, instrument: Instrument) -> list[str]:
    return [str(each) for each in exchange.requests if instrument.symbol in str(each)]


@pytest.mark.parametrize("content", LOCKED.values(), ids=LOCKED.keys())
async def test_no_command_touches_a_locked_file_or_asks_for_its_instrument(tmp_path: Path, content: bytes) -> None:
    tapes = {BTC: generated(2_000), ETH: generated(3_000, seed=2)}
    async with exchange_at(16, tapes) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"INSTRUMENTS": "spot:BTCUSDT spot:ETHUSDT"})
        path = locked_in(daemon, content)
        before = stamp_of(path)
        ended = {
            "run": await daemon.run("run", "--once"),
            "again": await daemon.run("run", "--once"),
            "fill": await daemon.run("fill", "--from", str(TODAY), "--to", str(TODAY), "--instrument", "spot:BTCUSDT"),
            "status": await daemon.run("status"),
            "verify": await daemon.run("verify"),
            "repair": await daemon.run("verify", "--repair"),
            "cleanup": await daemon.run("cleanup", "--keep-days", "1"),
            "export": await daemon.run(
                "export", "spot:BTCUSDT", "--from", str(TODAY), "--to", str(TODAY), "--out", str(tmp_path / "out")
            ),
        }
        codes = {name: each.code for name, each in ended.items()}
        assert codes == {
            "run": 78,
            "again": 78,
            "fill": 78,
            "status": 0,
            "verify": 78,
            "repair": 78,
            "cleanup": 0,
            "export": 78,
        }, ended
        assert "locked" in ended["status"].stdout
        assert "locked" in ended["verify"].stdout
        assert "encrypted, and no key opens it" in ended["run"].stderr
        assert daemon.manager(ETH).facts(TODAY).rows > 2_000
        assert questions_about(exchange, BTC) == []
    assert path.read_bytes() == content
    assert stamp_of(path) == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]
