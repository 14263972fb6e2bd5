"""Where things lie: names of directories and files, and back again."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld import Instrument
from backfilld.store.layout import (
    day_file_name,
    days_in,
    instrument_directory,
    instrument_of,
    instruments_in,
    journals_in,
)


@given(st.sampled_from(["spot", "um", "cm"]), st.from_regex(r"[A-Z0-9_]{1,20}", fullmatch=True))
def test_an_instrument_is_found_again_by_its_directory(market: str, symbol: str) -> None:
    instrument = Instrument.parse(f"{market}:{symbol}")
    directory = instrument_directory(Path("cache"), instrument)
    assert directory == Path("cache") / f"market={market}" / f"symbol={symbol}"
    assert instrument_of(directory) == instrument


def test_symbols_of_any_script_have_a_directory(tmp_path: Path) -> None:
    instrument = Instrument.parse("spot:币安人生USDT")
    instrument_directory(tmp_path, instrument).mkdir(parents=True)
    assert instruments_in(tmp_path) == [instrument]


@pytest.mark.parametrize("text", ["spot:../x", "spot:..", "spot:a/b", "spot:", "spot:A B", "spot:btcusdt", "spot:A.B"])
def test_no_symbol_leads_out_of_its_directory(text: str) -> None:
    with pytest.raises(Exception, match="instrument"):
        Instrument.parse(text)


def test_foreign_directories_and_files_are_not_instruments(tmp_path: Path) -> None:
    for name in ("market=spot/symbol=BTCUSDT", "market=um/symbol=ETHUSDT", "market=moon/symbol=X", ".backfilld/x"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "market=spot/symbol=lower").mkdir()
    (tmp_path / "market=spot/symbol=AFILE").write_text("")
    assert list(map(str, instruments_in(tmp_path))) == ["spot:BTCUSDT", "um:ETHUSDT"]
    assert instruments_in(tmp_path / "missing") == []


def test_only_files_of_days_are_days(tmp_path: Path) -> None:
    for name in (
        "backfill_2025-11-07.parquet",
        "backfill_2025-11-06.parquet",
        "backfill_2025-02-30.parquet",
        "backfill_2025-11-07.parquet.tmp-1-ab",
        "backfill_2025-11-05.parquet.bad-20251108T000000Z",
        "backfill_20251107.parquet",
        "other_2025-11-04.parquet",
    ):
        (tmp_path / name).write_text("")
    assert days_in(tmp_path) == [date(2025, 11, 6), date(2025, 11, 7)]
    assert day_file_name(date(2025, 11, 7)) == "backfill_2025-11-07.parquet"
    assert days_in(tmp_path / "missing") == []


@pytest.mark.parametrize("day", ["0001-01-01", "2008-12-31", "2100-01-02", "9999-12-31"])
def test_a_day_out_of_our_time_is_no_day(tmp_path: Path, day: str) -> None:
    """Else status would put three million days between it and the others."""
    (tmp_path / f"backfill_{day}.parquet").touch()
    (tmp_path / f"{day}.journal").touch()
    assert (days_in(tmp_path), journals_in(tmp_path)) == ([], {})
