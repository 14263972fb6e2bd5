"""The chart of a day: its tables say what the trades say, missing ids break its lines, and each format is written."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from backfilld import SettingsError
from backfilld.core.model import IdRange, Instrument, Market
from backfilld.services.chart import POINTS, chart_tables, day_chart, write_chart
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.surfaces.cli import cli
from tests.fakes import starts_at
from tests.store.frames import DAY, day_frame

MISSING = IdRange(1400, 1499)


def day_trades() -> pl.DataFrame:
    return day_frame([*range(1000, MISSING.first_id), *range(MISSING.last_id + 1, 3000)])


def test_the_profile_holds_all_volume_and_its_point_of_control_has_the_most() -> None:
    trades = day_trades()
    profile = chart_tables(trades).profile
    assert profile["volume"].sum() == pytest.approx(trades["q"].sum())
    assert profile.filter("is_poc")["volume"][0] == profile["volume"].max()


def test_the_last_point_has_the_days_vwap_and_delta() -> None:
    trades = day_trades()
    last = chart_tables(trades).points.row(-1, named=True)
    assert last["vwap"] == pytest.approx(trades.select((pl.col("p") * pl.col("q")).sum() / pl.col("q").sum()).item())
    signed = trades.select(pl.when("m").then(-pl.col("q")).otherwise(pl.col("q")).sum()).item()
    assert last["delta"] == pytest.approx(signed)


def test_missing_ids_are_shaded_and_break_the_lines() -> None:
    tables = chart_tables(day_trades())
    assert tables.holes["missing"].to_list() == [len(MISSING)]
    assert tables.points["close"].null_count() == 1


def test_a_long_day_is_drawn_with_a_bounded_number_of_points() -> None:
    assert chart_tables(day_frame(range(1000, 60_000))).points.height <= POINTS + 1


def test_markers_alone_are_nothing_to_draw() -> None:
    markers = day_frame(range(1000, 1003)).with_columns(p=pl.lit(0.0), q=pl.lit(0.0))
    with pytest.raises(SettingsError, match="no trade to draw"):
        day_chart(markers, "spot:BTCUSDT")


def test_another_ending_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"chart\.jpg: a chart is written as \.html, \.png, \.svg"):
        write_chart(object(), tmp_path / "chart.jpg")


@pytest.mark.parametrize(("ending", "begins"), [(".html", b"<!DOCTYPE html>"), (".png", b"\x89PNG"), (".svg", b"<svg")])
def test_the_command_writes_each_format(tmp_path: Path, ending: str, begins: bytes) -> None:
    instrument = Instrument(Market.SPOT, "BTCUSDT")
    BackfillCacheManager(instrument_directory(tmp_path, instrument), instrument).append(
        DAY, day_trades(), starts_at(DAY, 1000)
    )
    out = tmp_path / f"chart{ending}"
    arguments = ["chart", "spot:BTCUSDT", "--cache-dir", str(tmp_path), "--day", DAY.isoformat(), "--out", str(out)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert str(out) in result.stdout
    assert "ids 1400 to 1499 are missing" in result.stderr
    assert out.read_bytes().startswith(begins)
    if ending == ".html":
        assert b"<script src=" not in out.read_bytes(), "it must work without a network"
