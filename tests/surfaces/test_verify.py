"""``backfilld verify`` as a process: words, exit codes, and that it changes nothing."""

import json
from pathlib import Path

from backfilld import BackfillCacheManager
from backfilld.store.lock import locked
from tests.fakes import starts_at
from tests.store.frames import DAY, day_frame
from tests.surfaces.commands import backfilld, filled_cache


def sealed_cache(cache_dir: Path) -> BackfillCacheManager:
    manager = BackfillCacheManager(cache_dir / "market=spot" / "symbol=BTCUSDT")
    manager.append(DAY, day_frame(range(1000, 2000)), starts_at(DAY, 1000, 2000))
    return manager


def test_a_true_cache_is_0_and_a_line_also_while_a_daemon_holds_it(tmp_path: Path) -> None:
    manager = sealed_cache(tmp_path / "cache")
    size = manager.get_cache_path(DAY).stat().st_size
    with locked(tmp_path / "cache"):
        done = backfilld("verify", "--cache-dir", "cache", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"1 file, 1,000 trades, {size:,} bytes in ")
    assert done.stdout.endswith(" s: every file is what it claims\n")


def test_a_damaged_cache_is_1_and_a_table_and_stays_as_it_is(tmp_path: Path) -> None:
    cache = filled_cache(tmp_path / "cache")
    before = {path: path.read_bytes() for path in cache.rglob("*.parquet*")}
    done = backfilld("verify", "--cache-dir", "cache", cwd=tmp_path)
    assert done.returncode == 1
    rows = [" ".join(line.replace("│", " ").split()) for line in done.stdout.splitlines()]
    assert "spot:BTCUSDT 2025-11-06 hole ids 3010 to 3019 are missing" in rows
    assert "spot:BTCUSDT 2025-11-06 chain its first id is 3000, and 2025-11-05 says that the next is 2234" in rows
    assert any(row.startswith("spot:BTCUSDT 2025-11-07 unreadable it cannot be decoded") for row in rows)
    assert "um:ETHUSDT 2025-11-07 time 5 rows have T of another day, such as id 5" in rows
    assert rows[-1].endswith(": 4 findings")
    assert {path: path.read_bytes() for path in cache.rglob("*.parquet*")} == before


def test_findings_as_json_name_instrument_day_kind_and_ids(tmp_path: Path) -> None:
    filled_cache(tmp_path / "cache")
    done = backfilld("verify", "--cache-dir", "cache", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["files"], document["rows"]) == (1, 4, 1259)
    assert document["findings"][1] == {
        "instrument": "spot:BTCUSDT",
        "day": "2025-11-06",
        "kind": "chain",
        "sentence": "its first id is 3000, and 2025-11-05 says that the next is 2234",
        "first_id": 2234,
        "last_id": 2999,
    }


def test_one_instrument_is_verified_alone_and_nothing_to_verify_is_said(tmp_path: Path) -> None:
    filled_cache(tmp_path / "cache")
    futures = BackfillCacheManager(tmp_path / "cache" / "market=cm" / "symbol=BTCUSD_PERP")
    futures.append(DAY, day_frame(range(1000, 2000)))
    done = backfilld("verify", "--cache-dir", "cache", "--instrument", "cm:BTCUSD_PERP", cwd=tmp_path)
    assert (done.returncode, done.stdout[:21]) == (0, "1 file, 1,000 trades,")
    none = backfilld("verify", "--cache-dir", "cache", "--instrument", "um:XRPUSDT", cwd=tmp_path)
    assert (none.returncode, none.stderr) == (
        78, "backfilld: instrument um:XRPUSDT: the cache cache has no day file of it\n"
    )  # fmt: skip
    gone = backfilld("verify", "--cache-dir", "nothing", cwd=tmp_path)
    assert (gone.returncode, gone.stderr) == (78, "backfilld: cache_dir = nothing: there is no such directory\n")


def test_many_holes_are_a_table_that_can_be_read_and_all_in_json(tmp_path: Path) -> None:
    manager = BackfillCacheManager(tmp_path / "cache" / "market=spot" / "symbol=BTCUSDT")
    manager.append(DAY, day_frame(range(1000, 1060, 2)))
    done = backfilld("verify", "--cache-dir", "cache", cwd=tmp_path)
    rows = [" ".join(line.replace("│", " ").split()) for line in done.stdout.splitlines()]
    assert sum("are missing" in row for row in rows) == 10
    assert "spot:BTCUSDT 2025-11-07 hole and 19 more" in rows
    assert rows[-1].endswith(": 29 findings")
    report = json.loads(backfilld("verify", "--cache-dir", "cache", "--json", cwd=tmp_path).stdout)
    assert [finding["first_id"] for finding in report["findings"]] == list(range(1001, 1059, 2))
