"""``backfilld adopt`` as a process: words, exit codes, and that the originals stay."""

from datetime import timedelta
from pathlib import Path

import polars as pl

from backfilld import BackfillCacheManager
from backfilld.store.lock import locked
from tests.store.frames import DAY, day_frame
from tests.surfaces.commands import backfilld

NEXT = DAY + timedelta(days=1)


def old_cache(directory: Path) -> Path:
    """Two flat days where the guide's program kept them; the first holds a row of the second and a double."""
    directory.mkdir(parents=True)
    first = pl.concat([day_frame(range(1000, 1100)), day_frame([1100], NEXT), day_frame([1050])])
    first.write_parquet(directory / "backfill_2025-11-07.parquet", compression="snappy")
    day_frame(range(1101, 1200), NEXT).reverse().write_parquet(directory / "backfill_2025-11-08.parquet")
    return directory


def test_flat_files_in_the_cache_directory_itself_are_taken_over(tmp_path: Path) -> None:
    """As an upgrade in place would have it; the originals stay, byte for byte."""
    old = old_cache(tmp_path / "cache")
    before = {path: path.read_bytes() for path in old.iterdir()}
    done = backfilld("adopt", "cache", "--instrument", "spot:BTCUSDT", "--cache-dir", "cache", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [" ".join(line.replace("│", " ").split()) for line in done.stdout.splitlines()]
    assert "backfill_2025-11-07.parquet 102 1 1 0 101" in rows
    assert "backfill_2025-11-08.parquet 99 0 0 0 99" in rows
    assert rows[-2] == "backfill_2025-11-07.parquet has rows of other days, which went there: 1 to 2025-11-08"
    assert rows[-1].startswith("2 files with 201 rows taken over for spot:BTCUSDT: 200 trades added, ")
    assert {path: path.read_bytes() for path in old.iterdir() if path in before} == before
    manager = BackfillCacheManager(tmp_path / "cache" / "market=spot" / "symbol=BTCUSDT")
    assert [manager.facts(day).rows for day in manager.days()] == [100, 100]
    again = backfilld("adopt", "cache", "--instrument", "spot:BTCUSDT", "--cache-dir", "cache", cwd=tmp_path)
    assert again.returncode == 0
    assert ": 0 trades added, " in again.stdout


def test_a_file_that_cannot_be_taken_is_1_and_the_others_are_taken(tmp_path: Path) -> None:
    old = old_cache(tmp_path / "old")
    (old / "backfill_2025-11-07.parquet").write_text("cut")
    done = backfilld("adopt", "old", "--instrument", "spot:BTCUSDT", "--cache-dir", "cache", cwd=tmp_path)
    assert done.returncode == 1
    assert "old/backfill_2025-11-07.parquet was not taken: it cannot be read (" in done.stdout
    assert "1 file with 99 rows taken over" in done.stdout
    assert (old / "backfill_2025-11-07.parquet").read_text() == "cut"


def test_adopting_waits_for_no_daemon_and_needs_something_to_adopt(tmp_path: Path) -> None:
    old_cache(tmp_path / "old")
    (tmp_path / "empty").mkdir()
    arguments = ("--instrument", "spot:BTCUSDT", "--cache-dir", "cache")
    with locked(tmp_path / "cache"):
        busy = backfilld("adopt", "old", *arguments, cwd=tmp_path)
    assert (busy.returncode, "is held by another backfilld" in busy.stderr) == (75, True)
    empty = backfilld("adopt", "empty", *arguments, cwd=tmp_path)
    assert (empty.returncode, empty.stderr) == (
        78, "backfilld: empty: there is no file backfill_YYYY-MM-DD.parquet in this directory\n"
    )  # fmt: skip
    assert backfilld("adopt", "nowhere", *arguments, cwd=tmp_path).returncode == 78
    assert backfilld("adopt", "old", "--cache-dir", "cache", cwd=tmp_path).returncode == 78
