"""Small files inspected together get the verdicts that each would get by itself."""

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backfilld import BackfillCacheManager
from backfilld.core.day.addition import Addition
from backfilld.services.verify import day_files, verify_files
from backfilld.store.format.dayfile import DayWriter
from backfilld.store.format.digest import BLANK, FILE_DIGEST_KEY
from backfilld.store.format.footer import METADATA_KEY
from backfilld.store.format.keys import NO_KEYS
from backfilld.store.layout import instrument_directory
from backfilld.store.upkeep.inspection import inspect_day
from backfilld.store.upkeep.small_days import DayFile, _good_ones, inspect_days
from backfilld.store.waiting_days import WaitingDays
from tests.fakes import starts_at
from tests.store.frames import DAY, SPOT, day_frame

DAYS = [DAY + timedelta(days=number) for number in range(5)]


def filled(cache: Path) -> list[DayFile]:
    """Five sealed days of 20 trades each."""
    manager = BackfillCacheManager(instrument_directory(cache, SPOT), SPOT)
    for number, day in enumerate(DAYS):
        first = 1000 + 20 * number
        manager.append(day, day_frame(range(first, first + 20), day), starts_at(day, first, first + 20))
    return day_files(cache, None)


def forge(path: Path, trades: pl.DataFrame) -> None:
    """Other rows under the same certificate, in a file whose digest fits."""
    certificate = (pq.ParquetFile(path).metadata.metadata or {})[METADATA_KEY.encode()]
    with DayWriter(path, DAY, SPOT) as writer:
        writer._encode(trades)
        writer._file.add_key_value_metadata({METADATA_KEY: certificate.decode(), FILE_DIGEST_KEY: BLANK})
        writer._is_finished = True
    assert json.loads(certificate)["sealed"]


def test_good_files_take_the_short_way(tmp_path: Path) -> None:
    files = filled(tmp_path)
    found = dict(_good_ones(files, NO_KEYS))
    assert [found[place] for place in range(5)] == [inspect_day(*file) for file in files]
    assert all(not each.findings for each in found.values())


@settings(max_examples=60, deadline=None)
@given(
    which=st.integers(0, 4),
    row=st.integers(0, 19),
    change=st.sampled_from(
        [
            ("p", float("nan")), ("p", -1.0), ("p", 7.0), ("q", float("inf")), ("q", 0.0), ("T", 0), ("T", 1 << 42),
            ("a", 5), ("a", 1 << 40), ("f", 0), ("l", 0), ("m", None), ("M", None),
        ]
    ),
)  # fmt: skip
def test_no_changed_value_of_any_row_passes(
    tmp_path_factory: pytest.TempPathFactory, which: int, row: int, change: tuple[str, float | None]
) -> None:
    """The digest of its bytes fits, as a forger makes it; whatever is wrong is found as if the file stood alone."""
    files = filled(tmp_path_factory.mktemp("forged"))
    path, day, _, _ = files[which]
    name, value = change
    trades = BackfillCacheManager(path.parent, SPOT).load_cached_trades(day)
    assert trades is not None
    new = ~pl.col(name) if value is None else pl.lit(value, trades.schema[name])
    is_row = pl.int_range(pl.len()) == row
    changed = trades.with_columns(pl.when(is_row).then(new).otherwise(name).alias(name))
    forge(path, changed)
    found = inspect_days(files)
    assert found == [inspect_day(*file) for file in files]
    assert [bool(each and each.findings) for each in found] == [
        number == which and not changed.equals(trades) for number in range(5)
    ]


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "other_day", "text"])
def test_a_damaged_file_is_judged_by_itself(tmp_path: Path, damage: str) -> None:
    files = filled(tmp_path)
    path, other = files[2][0], files[3][0]
    body = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(body[:-30])
        case "flipped":
            path.write_bytes(body[:60] + bytes([body[60] ^ 1]) + body[61:])
        case "gone":
            path.unlink()
        case "other_day":
            path.write_bytes(other.read_bytes())
        case _:
            path.write_text("cut")
    found = inspect_days(files)
    assert found == [inspect_day(*file) for file in files]
    bad = found[2]
    assert bad is None if damage == "gone" else bad is not None and bad.findings


def test_the_rows_of_a_journal_count(tmp_path: Path) -> None:
    """A day whose end waits in its journal is verified with it."""
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT), SPOT)
    waiting, times = WaitingDays(300.0), starts_at(DAY, 1000)
    waiting.rewrite(manager, Addition(SPOT, DAY, day_frame(range(1000, 1500)), times))
    done = waiting.append(manager, Addition(SPOT, DAY, day_frame(range(1500, 1510))), 0.0)
    assert done.is_in_journal
    verified = verify_files(day_files(tmp_path, None))
    assert (verified.findings, [each.rows for each in verified.days]) == ((), [510])
    manager.journal_path(DAY).write_bytes(b"torn")
    assert [each.rows for each in verify_files(day_files(tmp_path, None)).days] == [500]


def test_a_bad_file_among_groups_of_good_ones_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    files = day_files(tmp_path, None)
    files[1][0].write_text("cut")
    monkeypatch.setattr("backfilld.store.upkeep.small_days.TOGETHER_FILES", 2)
    verified = verify_files(files)
    assert [each.day for each in verified.days] == DAYS
    assert [(each.day, each.kind) for each in verified.findings] == [(DAYS[1], "unreadable")]


@pytest.mark.parametrize("change", [("p", -1.0), ("q", float("inf")), ("T", 1), ("T", 1 << 42)])
def test_values_that_were_never_right_are_found_though_every_digest_fits(
    tmp_path: Path, change: tuple[str, float]
) -> None:
    files, (name, value) = filled(tmp_path), change
    path, day, _, _ = files[2]
    path.unlink()
    wrong = pl.when(pl.col("a") == 1050).then(pl.lit(value)).otherwise(name)
    trades = day_frame(range(1040, 1060), day)
    trades = trades.with_columns(wrong.cast(trades.schema[name]).alias(name))
    BackfillCacheManager(path.parent, SPOT).append(day, trades, starts_at(day, 1040, 1060))
    found = inspect_days(files)
    assert found == [inspect_day(*file) for file in files]
    assert [bool(each and each.findings) for each in found] == [False, False, True, False, False]
