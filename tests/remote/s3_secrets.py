"""Neither the credentials of a bucket nor the keys of the files are in logs, errors, check-config, files or ps. Run by
``make test-s3``."""

import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
import trio

from backfilld.adapters.object_store import RemoteLocation
from tests.e2e.test_archive import PROMPT, tape_of
from tests.e2e.world import BTC, Daemon, ended, exchange_at
from tests.remote.s3_pipeline import OUT_OF_REACH, with_bucket
from tests.remote.secrets import SECRET, environments, forms_of, shown_by_ps
from tests.store.keyrings import NEW, OLD

WRONG = b"hunter2hunter2"
"""A secret that is none of the bucket's is one all the same."""


def with_keys(daemon: Daemon) -> Daemon:
    path = daemon.cache_dir.parent / "backfilld-keys"
    path.touch(0o600)
    path.write_text("".join(f"{key.id} {b64encode(key.secret).decode()}\n" for key in (OLD, NEW)))
    daemon.settings |= {"ENCRYPTION": "parquet", "KEY_FILE": str(path), "LOG_LEVEL": "debug"}
    return daemon


def assert_no_secrets(*texts: bytes) -> None:
    for text in texts:
        for secret in (SECRET, WRONG, *forms_of(OLD), *forms_of(NEW)):
            assert secret not in text


def started(daemon: Daemon, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(
            daemon.command("run"), env=daemon.environment(), cwd=log.parent, stdout=file, stderr=file
        )


async def test_a_daemon_and_what_it_starts_show_no_secret(tmp_path: Path, location: RemoteLocation) -> None:
    """Its log at the level of debug, its command line, what its children know, and all files but the key's own."""
    async with exchange_at(16, {BTC: tape_of(2)}, PROMPT) as exchange:
        daemon, daemon_log = with_keys(with_bucket(exchange, tmp_path / "a", location, 2)), tmp_path / "daemon.log"
        process = started(daemon, daemon_log)
        seen: list[bytes] = []
        with trio.fail_after(60):
            while b"day_pushed" not in daemon_log.read_bytes():
                seen += shown_by_ps(process.pid)
                await trio.sleep(0.05)
        assert any(b"backfilld\x00run" in each for each in seen)
        # The store's own credentials are in the daemon's environment, where its operator put them; keys are nowhere.
        for known in environments(process.pid):
            assert not [form for key in (OLD, NEW) for form in forms_of(key) if form in known]
        process.terminate()
        assert await ended(process) == 0
    assert_no_secrets(daemon_log.read_bytes(), *seen)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "backfilld-keys":
            assert_no_secrets(path.read_bytes())


COMMANDS = [("check-config",), ("verify", "--remote", "--deep"), ("rekey", "--remote", "--key", NEW.id)]


async def test_commands_and_their_errors_show_no_secret(
    tmp_path: Path, location: RemoteLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bucket that works, one out of reach, one that refuses the credentials, and files that no key opens."""
    async with exchange_at(16, {BTC: tape_of(2)}, PROMPT) as exchange:
        daemon = with_keys(with_bucket(exchange, tmp_path / "a", location, 2))
        await daemon.once()
        texts = []

        async def run(*arguments: str) -> int:
            done = await daemon.run(*arguments)
            texts.append((done.stdout + done.stderr).encode())
            return done.code

        for command in COMMANDS:
            assert await run(*command) == 0, command
        good = dict(daemon.settings)
        daemon.settings |= OUT_OF_REACH
        assert await run("push") == 75
        daemon.settings = good
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRONG.decode())
        assert await run("verify", "--remote") == 78
        (tmp_path / "a" / "backfilld-keys").write_text(f"strange {b64encode(bytes(range(96, 128))).decode()}\n")
        assert await run("verify") == 78
        (tmp_path / "a" / "backfilld-keys").write_text(f"{b64encode(OLD.secret).decode()}\n")  # its id is missing
        assert await run("status") == 78
    assert_no_secrets(*texts)
