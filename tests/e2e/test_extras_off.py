"""A daemon without a bucket, keys and a fleet carries nothing of them: no module, no thread, no timer."""

import json
import sys
from base64 import b64encode
from pathlib import Path

import pytest
import trio

from tests.e2e.world import BTC, Daemon, exchange_at, generated
from tests.store.keyrings import OLD

PARTS = (
    "obstore", "pyarrow._parquet_encryption", "distributed", "dask",
    "backfilld.adapters.object_store", "backfilld.adapters.remote_days", "backfilld.adapters.bucket_days",
    "backfilld.services.remote", "backfilld.store.manifest", "backfilld.store.replica", "backfilld.store.key_file",
    "backfilld.store.key_wear",
)  # fmt: skip

PROGRAM = f"""
import json, sys, threading, trio
from pathlib import Path

class Tasks(trio.abc.Instrument):
    names = set()
    def task_spawned(self, task):
        self.names.add(task.coro.__qualname__)

real = trio.run
def run(*arguments, **options):
    return real(*arguments, instruments=[Tasks()], **options)
trio.run = run
sys.argv[0] = "backfilld"
try:
    from backfilld.surfaces.cli import main
    main()
finally:
    found = dict(modules=[name for name in {PARTS!r} if name in sys.modules], tasks=sorted(Tasks.names),
                 threads=sorted(each.name for each in threading.enumerate()))
    Path(sys.argv[0]).with_name("seen.json").write_text(json.dumps(found))
"""
REMOTE_TASKS = ("replicate", "push", "pull")


async def seen_of(daemon: Daemon) -> dict[str, list[str]]:
    """What a single run had at its end: modules, tasks of trio, threads."""
    with trio.fail_after(60):
        done = await trio.run_process(
            [sys.executable, "-c", PROGRAM, "run", "--once"],
            env=daemon.environment(), cwd=daemon.cache_dir.parent, check=False, capture_stdout=True,
            capture_stderr=True,
        )  # fmt: skip
    assert done.returncode == 0, done
    found: dict[str, list[str]] = json.loads((daemon.cache_dir.parent / "seen.json").read_text())
    return found


def of_a_bucket(tasks: list[str]) -> list[str]:
    return [name for name in tasks if name.rpartition(".")[2] in REMOTE_TASKS]


async def test_without_a_bucket_and_keys_nothing_of_them_is_loaded_and_runs(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: generated(500)}) as exchange:
        found = await seen_of(Daemon(exchange, tmp_path / "cache"))
        assert "run_writer" in found["tasks"]
        assert (found["modules"], of_a_bucket(found["tasks"])) == ([], [])
        assert not [name for name in found["threads"] if "tokio" in name or "obstore" in name]


async def test_the_same_look_sees_them_where_they_are_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    keys = tmp_path / "backfilld-keys"
    keys.touch(0o600)
    keys.write_text(f"{OLD.id} {b64encode(OLD.secret).decode()}\n")
    async with exchange_at(16, {BTC: generated(500)}) as exchange:
        daemon = Daemon(exchange, tmp_path / "cache", {"ENCRYPTION": "parquet", "KEY_FILE": str(keys)})
        assert {"pyarrow._parquet_encryption", "backfilld.store.key_file"} <= set((await seen_of(daemon))["modules"])
        # Nobody answers there, which is enough to see who would ask.
        daemon.settings |= {"REMOTE_URL": "s3://tape/x", "REMOTE_ENDPOINT": "http://127.0.0.1:1", "REMOTE_REGION": "r"}
        found = await seen_of(daemon)
        assert "obstore" in found["modules"]
        assert of_a_bucket(found["tasks"])
