"""The daemon with encryption on, as a process: cold, resume, kill -9, damage, repair, and without its key."""

import base64
import os
import random
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import trio

import backfilld
from backfilld.core.model import Instrument
from backfilld.settings import Settings
from backfilld.store.format.keys import Key
from binance_simulator import Exchange
from tests.e2e.test_archive import daemon_of, past, tape_of
from tests.e2e.world import BTC, TODAY, Daemon, exchange_at, generated, kill
from tests.store.keyrings import NEW, OLD, tree_of

ETH = Instrument.parse("spot:ETHUSDT")
SECRET = base64.b64encode(OLD.secret).decode()


def key_file(directory: Path, *keys: Key, name: str = "keys") -> Path:
    path = directory / name
    path.write_text("".join(f"{key.id} {base64.b64encode(key.secret).decode()}\n" for key in keys))
    path.chmod(0o600)
    return path


def encrypted(daemon: Daemon, *keys: Key, name: str = "keys") -> Daemon:
    """The daemon with these keys."""
    path = key_file(daemon.cache_dir.parent, *keys, name=name)
    daemon.settings |= {"ENCRYPTION": "parquet", "KEY_FILE": str(path)}
    return daemon


def rows_of(daemon: Daemon, instrument: Instrument = BTC) -> pl.DataFrame:
    """What is stored of today, by the library."""
    settings = Settings(
        cache_dir=daemon.cache_dir, encryption="parquet", key_file=Path(daemon.settings["KEY_FILE"]), save_seconds=0
    )
    start = f"{TODAY}T00:00:00Z"
    return backfilld.scan(instrument, start, f"{TODAY}T23:59:59Z", settings=settings, incomplete="warn").collect()


def plain_files(cache_dir: Path) -> list[str]:
    """Files in which trades are readable: those of Parquet and journals that are not encrypted."""
    found = []
    for name, (_, _, content) in tree_of(cache_dir).items():
        is_trades = ".parquet" in name or ".journal" in name or ".conflicts" in name
        if is_trades and (b"PAR1" in content or b"BfJ1" in content or b"BTCUSDT" in content):
            found.append(name)
    return found


@pytest.mark.filterwarnings("ignore::backfilld.scanning.IncompleteSpan")
async def test_cold_resume_and_the_library_read_what_was_encrypted(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: generated(40_000, live_rate_per_s=200)}) as exchange:
        daemon = encrypted(Daemon(exchange, tmp_path / "cache"), OLD)
        cold = await daemon.once()
        cold_requests = len(exchange.requests)
        stored = rows_of(daemon)
        assert stored.equals(daemon.tape_of_today().head(stored.height))
        warm = await daemon.once()
        grown = rows_of(daemon)
        assert grown.equals(daemon.tape_of_today().head(grown.height))
        assert warm.event("backfill_started")["strategy"] == "resume"
        assert len(exchange.requests) - cold_requests <= 4 + (grown.height - stored.height) // 1000
        assert (await daemon.run("verify")).code == 0
        status = await daemon.run("status")
        assert "locked" not in status.stdout.replace("L locked", "")
        checked = await daemon.run("check-config")
        assert plain_files(daemon.cache_dir) == []
        for text in (cold.stdout, warm.stdout, status.stdout, checked.stdout, checked.stderr):
            assert SECRET not in text


@pytest.mark.filterwarnings("ignore::backfilld.scanning.IncompleteSpan")
@pytest.mark.parametrize("save_seconds", ["0", "300"])
async def test_a_daemon_that_is_killed_goes_on_and_never_wrote_a_plain_row(tmp_path: Path, save_seconds: str) -> None:
    """Also into the journal, and into temporary files."""
    async with exchange_at(16, {BTC: generated(60_000, live_rate_per_s=500)}) as exchange:
        daemon = encrypted(Daemon(exchange, tmp_path / "cache"), OLD)
        daemon.settings |= {"CHECKPOINT_SECONDS": "0.1", "POLL_SECONDS": "0.5", "SAVE_SECONDS": save_seconds}
        for _ in range(6):
            process = daemon.start("run")
            await trio.sleep(random.uniform(1.0, 2.5))
            await kill(process)
            assert plain_files(daemon.cache_dir) == []
        await daemon.once()
        stored = rows_of(daemon)
        assert stored.equals(daemon.tape_of_today().head(stored.height))
        assert (await daemon.run("verify")).code == 0


async def test_a_flipped_bit_is_found_and_repaired(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: tape_of(4)}) as exchange:
        daemon = encrypted(daemon_of(exchange, tmp_path, 3), OLD)
        await daemon.once()
        path = daemon.day_file(past(3)[1])
        for place in (-30, 0.5):
            content = bytearray(path.read_bytes())
            content[place if isinstance(place, int) else int(len(content) * place)] ^= 4
            path.write_bytes(content)
            assert (await daemon.run("verify")).code == 1
            repaired = await daemon.run("verify", "--repair")
            assert repaired.code == 0, repaired
            assert (await daemon.run("verify")).code == 0
        assert plain_files(daemon.cache_dir) == []


def about(exchange: Exchange, instrument: Instrument) -> list[str]:
    return [str(each) for each in exchange.requests if instrument.symbol in str(each)]


@pytest.mark.parametrize("keys", ["another", "none", "another of that id"])
async def test_without_its_key_an_instrument_stands_still_and_others_go_on(tmp_path: Path, keys: str) -> None:
    async with exchange_at(16, {BTC: generated(3_000), ETH: generated(2_000, seed=3)}) as exchange:
        daemon = encrypted(Daemon(exchange, tmp_path / "cache"), OLD)
        await daemon.once()
        before = tree_of(daemon.day_file().parent)
        asked = about(exchange, BTC)
        daemon.settings["INSTRUMENTS"] = "spot:BTCUSDT spot:ETHUSDT"
        if keys == "none":
            del daemon.settings["KEY_FILE"], daemon.settings["ENCRYPTION"]
        else:
            other = NEW if keys == "another" else Key(OLD.id, os.urandom(32))
            encrypted(daemon, other, name="others")
        run = await daemon.run("run", "--once")
        assert run.code == 78
        assert [each["event"] for each in run.events].count("day_locked") == 1
        assert run.stderr.count("no key opens it") == 1
        assert (": /" in run.stderr and "another key under that id" in run.stderr) == (keys == "another of that id")
        assert daemon.day_file().parent.parent.joinpath("symbol=ETHUSDT").exists()
        for command in (("verify",), ("verify", "--repair")):
            assert (await daemon.run(*command)).code == 78
        assert "is locked" in (await daemon.run("status")).stdout
        if keys == "another":  # it waits half a minute for a daemon
            daemon.settings["LIVE"] = "true"
            tail = await daemon.run("tail", "spot:BTCUSDT", "--from-id", "1")
            assert (tail.code, tail.stderr.count("no key opens it")) == (78, 1)
        assert tree_of(daemon.day_file().parent) == before
        assert about(exchange, BTC) == asked


@pytest.mark.parametrize("mode", [0o644, 0o640])
async def test_a_key_file_that_others_can_read_is_a_wrong_setting(tmp_path: Path, mode: int) -> None:
    async with exchange_at(16, {BTC: generated(100)}) as exchange:
        daemon = encrypted(Daemon(exchange, tmp_path / "cache"), OLD)
        Path(daemon.settings["KEY_FILE"]).chmod(mode)
        for command in (("run", "--once"), ("status",), ("check-config",)):
            ended = await daemon.run(*command)
            assert ended.code == 78
            assert f"its mode is {mode:04o}, and must be 0400 or 0600" in ended.stderr
            assert ended.stderr.count("\n") == 1
        assert not exchange.requests


async def test_a_plain_cache_is_named_where_encryption_is_switched_on(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: generated(1_000)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache")
        await daemon.once()
        encrypted(daemon, OLD)
        assert "1 day unencrypted" in (await daemon.run("status")).stdout
        verified = await daemon.run("verify")
        assert verified.code == 1
        assert "unencrypted" in verified.stdout


async def test_a_rekey_that_is_killed_ends_with_no_file_under_the_old_key(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: tape_of(12)}) as exchange:
        daemon = encrypted(daemon_of(exchange, tmp_path, 10), OLD)
        await daemon.once()
        stored = {day: daemon_rows(daemon, OLD, day) for day in past(10)}
        encrypted(daemon, NEW, OLD)
        for _ in range(6):
            process = daemon.start("rekey")
            await trio.sleep(random.uniform(0.4, 1.0))
            await kill(process)
        done = await daemon.run("rekey")
        assert done.code == 0, done
        again = await daemon.run("rekey")
        assert "0 files put under the key 2026-q4, 11 were so already" in again.stdout
        for name, (_, _, content) in tree_of(daemon.cache_dir).items():
            assert OLD.fingerprint.encode() not in content or name.endswith("key_wear.json"), name
            assert ".tmp-" not in name
        for day, trades in stored.items():
            assert daemon_rows(daemon, NEW, day).equals(trades)
        encrypted(daemon, NEW)
        assert (await daemon.run("verify")).code == 0
        assert (await daemon.run("rekey", "--decrypt")).code == 0
        del daemon.settings["KEY_FILE"], daemon.settings["ENCRYPTION"]
        assert (await daemon.run("verify")).code == 0


def daemon_rows(daemon: Daemon, key: Key, day: date) -> pl.DataFrame:
    """A day, read by polars alone."""
    decryption = pl.ParquetDecryptionProperties(footer_key=key.secret)
    return pl.read_parquet(daemon.day_file(day), decryption=decryption, hive_partitioning=False)
