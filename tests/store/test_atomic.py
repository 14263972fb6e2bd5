"""Replacing a file: the old one or the new one, whole, whatever happens in between."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from backfilld import BackfillCacheManager, StoreError
from backfilld.store.atomic import TEMPORARY, replacing, sweep_state_directory, sweep_temporary_files
from tests.store.frames import DAY, SPOT, day_frame


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    with replacing(path) as temporary:
        write(temporary)


def _write_new(temporary: Path) -> None:
    temporary.write_text("new")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A file that holds what must not be lost."""
    path = tmp_path / "day.parquet"
    path.write_text("old")
    return path


def test_the_file_is_replaced_and_nothing_else_is_left(stored: Path) -> None:
    replace_file(stored, _write_new)
    assert stored.read_text() == "new"
    assert _names(stored.parent) == ["day.parquet"]


def test_directories_are_made(tmp_path: Path) -> None:
    replace_file(tmp_path / "a" / "b" / "file", _write_new)
    assert (tmp_path / "a" / "b" / "file").read_text() == "new"


def test_the_old_file_is_whole_while_the_new_one_is_written(stored: Path) -> None:
    """The temporary file stands beside it, in the same file system."""
    seen: list[tuple[str, str]] = []

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        seen.append((stored.read_text(), str(temporary.parent)))
        temporary.write_text("new")

    replace_file(stored, write)
    assert seen == [("old", str(stored.parent))]
    assert stored.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_exception_while_writing_leaves_the_old_file_and_no_temporary_one(
    stored: Path, error: BaseException
) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        replace_file(stored, write)
    assert stored.read_text() == "old"
    assert _names(stored.parent) == ["day.parquet"]


def test_what_the_file_system_refuses_is_a_store_error_with_deed_path_and_reason(stored: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(5, "Input/output error")

    with pytest.raises(StoreError, match=rf"^cannot write {stored}: Input/output error$"):
        replace_file(stored, write)
    assert stored.read_text() == "old"
    assert _names(stored.parent) == ["day.parquet"]


@pytest.mark.parametrize("failing", ["first", "last"])
def test_a_failed_sync_is_not_taken_for_success(stored: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Of the file: the old one stays. Of the directory: the caller learns that the new one may not survive."""
    real_sync, calls = os.fsync, []

    def sync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == (1 if failing == "first" else 2):
            raise OSError(5, "Input/output error")
        real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(StoreError, match="Input/output error"):
        replace_file(stored, _write_new)
    assert stored.read_text() == ("old" if failing == "first" else "new")
    assert _names(stored.parent) == ["day.parquet"]


def test_the_file_is_synced_before_the_rename_and_the_directory_after(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deeds: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        deeds.append("sync of " + Path(f"/proc/self/fd/{descriptor}").readlink().name.partition(TEMPORARY)[0])
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        deeds.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    replace_file(stored, _write_new)
    assert deeds == ["sync of day.parquet", "rename", f"sync of {stored.parent.name}"]


KILLED_WHILE_WRITING = """
import os, signal, sys
from datetime import date
from pathlib import Path
from backfilld import BackfillCacheManager
from backfilld.store import atomic
from tests.store.frames import DAY, day_frame

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

manager = BackfillCacheManager(sys.argv[1])
manager.append(DAY, day_frame(range(1000, 1010)))
atomic._sync = killed
manager.append(DAY, day_frame(range(1010, 1020)))
"""


def test_a_kill_between_writing_and_renaming_leaves_the_old_day_and_a_file_to_sweep(tmp_path: Path) -> None:
    """A process that kills itself at the worst moment; the next start finds the old rows and cleans up."""
    root = Path(__file__).parents[2]
    directory = tmp_path / "market=spot" / "symbol=BTCUSDT"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(directory)]
    assert subprocess.run(command, cwd=root, check=False, timeout=60).returncode == -signal.SIGKILL
    manager = BackfillCacheManager(directory)
    stale = [path for path in directory.iterdir() if TEMPORARY in path.name]
    assert len(stale) == 1
    assert manager.days() == [DAY]
    assert sweep_temporary_files(tmp_path) == stale
    assert _names(directory) == ["backfill_2025-11-07.parquet"]
    loaded = manager.load_cached_trades(DAY)
    assert loaded is not None
    assert loaded.equals(day_frame(range(1000, 1010)))


def test_sweeping_takes_our_temporary_files_and_no_others(tmp_path: Path) -> None:
    """By the full name that we give them, and only where we put them."""
    ours = [
        f"market=spot/symbol=BTCUSDT/backfill_2025-11-07.parquet{TEMPORARY}1-abababab",
        f"market=spot/symbol=BTCUSDT/backfill_2025-11-07.parquet.conflicts{TEMPORARY}1-0123abcd",
        f".backfilld/governor.json{TEMPORARY}2-cdcdcdcd",
        f".backfilld/archive/spot-BTCUSDT-aggTrades-2025-11-07.zip{TEMPORARY}3-efefefef",
    ]
    others = [
        "market=spot/symbol=BTCUSDT/backfill_2025-11-07.parquet",
        "market=spot/symbol=BTCUSDT/backfill_2025-11-07.parquet.bad-20251108T000000Z",
        "market=spot/symbol=BTCUSDT/notes.tmp-1",
        f"market=spot/symbol=BTCUSDT/backfill_2025-11-08.parquet{TEMPORARY}mine",
        f"research/model.json{TEMPORARY}4-abababab",
        f"mine.parquet{TEMPORARY}4-abababab",
    ]
    for name in [*ours, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    swept = sweep_temporary_files(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in swept} == set(ours)
    assert all((tmp_path / name).exists() for name in others)
    assert sweep_temporary_files(tmp_path / "nothing here") == []


def test_sweeping_leaves_alone_what_this_process_is_writing(tmp_path: Path) -> None:
    """The governor's memory is saved while the cache is opened."""
    path = tmp_path / ".backfilld" / "governor.json"
    swept: list[Path] = []

    def write(temporary: Path) -> None:
        temporary.write_text("{}")
        temporary.with_name(f"{path.name}{TEMPORARY}1-abababab").write_text("{")
        swept.extend(sweep_temporary_files(tmp_path))

    replace_file(path, write)
    assert [each.name for each in swept] == [f"{path.name}{TEMPORARY}1-abababab"]
    assert _names(path.parent) == [path.name]


# -- disks that refuse


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(directory)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True, text=True, timeout=30)
    except OSError as error:
        pytest.skip(f"no small disk can be mounted here: {error}")
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True, timeout=30)


def test_a_full_disk_keeps_the_old_day_and_no_temporary_file(small_disk: Path) -> None:
    manager = BackfillCacheManager(small_disk, SPOT)
    manager.append(DAY, day_frame(range(1000, 1100)))
    too_much = day_frame(range(1000, 100_000)).with_columns(q=pl.col("a").hash(1).cast(pl.Float64))
    with pytest.raises(StoreError, match=r"cannot write .*backfill_2025-11-07\.parquet: .*No space left on device"):
        manager.append(DAY, too_much[100:])
    assert _names(small_disk) == ["backfill_2025-11-07.parquet"]
    loaded = manager.load_cached_trades(DAY)
    assert loaded is not None
    assert loaded.equals(day_frame(range(1000, 1100)))
    manager.append(DAY, day_frame(range(1100, 1110)))


def test_a_directory_that_must_not_be_written_is_a_store_error(tmp_path: Path) -> None:
    """And the day in it stays readable."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the next test does it with a path below a file")
    manager = BackfillCacheManager(tmp_path / "cache", SPOT)
    manager.append(DAY, day_frame([1000]))
    manager.directory.chmod(0o555)
    with pytest.raises(StoreError, match="Permission denied"):
        manager.append(DAY, day_frame([1001]))
    manager.directory.chmod(0o755)
    assert manager.load_cached_trades(DAY) is not None


def test_a_path_below_a_regular_file_is_a_store_error(stored: Path) -> None:
    manager = BackfillCacheManager(stored / "cache", SPOT)
    with pytest.raises(StoreError, match="Not a directory"):
        manager.append(DAY, day_frame([1000]))
    assert stored.read_text() == "old"


def test_a_state_directory_is_swept_of_what_ended_processes_left(tmp_path: Path) -> None:
    """Commands that take no lock write there beside a daemon, and other programs may keep files there."""
    (tmp_path / "listing").mkdir()
    with subprocess.Popen(["true"]) as ended:
        pass
    stale = [tmp_path / f"{name}.json{TEMPORARY}{ended.pid}-0123abcd" for name in ("governor", "listing/spot-A")]
    living = tmp_path / f"listing/spot-B.json{TEMPORARY}{os.getpid()}-0123abcd"
    foreign = tmp_path / f"notes.txt{TEMPORARY}{ended.pid}-0123abcd"
    for path in (*stale, living, foreign, tmp_path / "governor.json"):
        path.touch()
    assert sweep_state_directory(tmp_path) == stale
    assert all(each.exists() for each in (living, foreign, tmp_path / "governor.json"))
    assert sweep_state_directory(tmp_path / "nothing here") == []
