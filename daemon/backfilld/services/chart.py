"""The chart of one day: price, VWAP, volume profile with its point of control, cumulative delta, and what is missing.

Owns the picture. Takes a frame of trades and returns an Altair chart; the caller reads the trades and writes the file.
Needs the extra ``[chart]``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from backfilld.errors import SettingsError

POINTS = 720
"""Price points of a whole day, one per two minutes: more than a screen's width shows, few enough for a light file."""

PROFILE_BINS = 80
"""Price bins of the volume profile: about one per six pixels of the chart's height."""

FORMATS = (".html", ".png", ".svg")

_WIDTH, _PROFILE_WIDTH, _HEIGHT, _DELTA_HEIGHT = 900, 200, 480, 150
_PRICE, _VWAP, _POC, _BUY, _SELL, _HOLE = "#4c78a8", "#f58518", "#e45756", "#54a24b", "#e45756", "#999999"


@dataclass(frozen=True, slots=True)
class ChartTables:
    """What the chart draws. ``points``: time, close, vwap, delta. ``profile``: low, high, none (0, where each bar
    begins), volume, is_poc. ``holes``: start and stop, the times of the trades around missing ids, and how many ids are
    missing."""

    points: pl.DataFrame
    profile: pl.DataFrame
    holes: pl.DataFrame


def chart_tables(trades: pl.DataFrame) -> ChartTables:
    """The tables behind the chart of a trade frame, which is not empty and ascends by id. Markers (p = 0) count only
    for holes."""
    real, holes = trades.filter(pl.col("p") > 0), _holes(trades)
    # A point without values in each hole: a line that went on across it would be an invention.
    breaks = holes.select(time=pl.col("start") + (pl.col("stop") - pl.col("start")) / 2)
    points = pl.concat([_points(real), breaks], how="diagonal").sort("time")
    return ChartTables(points, _profile(real), holes)


def _points(real: pl.DataFrame) -> pl.DataFrame:
    signed = pl.when("m").then(-pl.col("q")).otherwise(pl.col("q"))
    span_ms = (real["T"][-1] - real["T"][0]) if real.height else 0
    every_ms = max(1000, span_ms // POINTS)
    running = real.select(
        "T",
        close="p",
        vwap=(pl.col("p") * pl.col("q")).cum_sum() / pl.col("q").cum_sum(),
        delta=signed.cum_sum(),
    )
    last = running.group_by(bin=pl.col("T") // every_ms, maintain_order=True).last()
    return last.sort("bin").select(pl.col("T").cast(pl.Datetime("ms")).alias("time"), "close", "vwap", "delta")


def _profile(real: pl.DataFrame) -> pl.DataFrame:
    low, high = real["p"].min(), real["p"].max()
    size = ((high - low) / PROFILE_BINS or 1.0) if low is not None and high is not None else 1.0  # type: ignore[operator]
    index = ((pl.col("p") - low) / size).floor().clip(upper_bound=PROFILE_BINS - 1)
    bins = real.group_by(index=index).agg(volume=pl.col("q").sum()).sort("index")
    edges = bins.select(low=pl.col("index") * size + low, high=(pl.col("index") + 1) * size + low, volume="volume")
    return edges.with_columns(none=0.0, is_poc=pl.col("volume") == pl.col("volume").max())


def _holes(trades: pl.DataFrame) -> pl.DataFrame:
    missing = trades.select(
        start=pl.col("T").shift(1).cast(pl.Datetime("ms")),
        stop=pl.col("T").cast(pl.Datetime("ms")),
        missing=pl.col("a").diff() - 1,
    )
    return missing.filter(pl.col("missing") > 0)


def day_chart(trades: pl.DataFrame, title: str) -> Any:
    """An Altair chart of a trade frame that ascends by id. Raises SettingsError without trades, or without the extra
    ``[chart]``."""
    try:
        import altair as alt  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise SettingsError('charts need the extra [chart]: pip install "backfilld[chart]"') from error
    if not (trades["p"] > 0).any():
        raise SettingsError(f"{title}: there is no trade to draw")
    tables = chart_tables(trades)
    top = alt.hconcat(_price(alt, tables), _volume_by_price(alt, tables), spacing=5).resolve_scale(y="shared")
    subtitle = ["blue: price · dashed: VWAP · red bar: point of control · grey: missing ids"]
    return alt.vconcat(top, _delta(alt, tables)).properties(
        title=alt.TitleParams(title, subtitle=subtitle, anchor="start")
    )


def _time(alt: Any) -> Any:
    return alt.X("time:T", title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(format="%H:%M"))


def _price(alt: Any, tables: ChartTables) -> Any:
    """Price and VWAP by time, on a ground that is shaded where ids are missing."""
    time, utc, price = _time(alt), alt.Scale(type="utc"), alt.Scale(zero=False)
    points = alt.Chart(tables.points)
    line = points.mark_line(color=_PRICE, strokeWidth=1.2).encode(time, alt.Y("close:Q", title="price", scale=price))
    vwap = points.mark_line(color=_VWAP, strokeDash=[5, 3]).encode(time, alt.Y("vwap:Q", scale=price))
    holes = alt.Chart(tables.holes).mark_rect(color=_HOLE, opacity=0.35)
    shaded = holes.encode(alt.X("start:T", scale=utc), alt.X2("stop:T"), tooltip=["start:T", "stop:T", "missing:Q"])
    return alt.layer(shaded, line, vwap).properties(width=_WIDTH, height=_HEIGHT)


def _volume_by_price(alt: Any, tables: ChartTables) -> Any:
    price = alt.Scale(zero=False)
    bars = alt.Chart(tables.profile).mark_rect(opacity=0.7)
    return bars.encode(
        alt.Y("low:Q", title=None, scale=price, axis=alt.Axis(labels=False, ticks=False)),
        alt.Y2("high:Q"),
        alt.X("none:Q", title="volume by price"),
        alt.X2("volume:Q"),
        color=alt.condition("datum.is_poc", alt.value(_POC), alt.value(_PRICE)),
        tooltip=["low:Q", "high:Q", "volume:Q"],
    ).properties(width=_PROFILE_WIDTH, height=_HEIGHT)


def _delta(alt: Any, tables: ChartTables) -> Any:
    area = alt.Chart(tables.points).mark_area(line={"color": _BUY}, color=_BUY, opacity=0.3)
    flow = area.encode(_time(alt), alt.Y("delta:Q", title="cumulative delta"))
    return flow.properties(width=_WIDTH, height=_DELTA_HEIGHT)


def check_format(path: Path) -> None:
    """Raise SettingsError unless a chart can be written under this name."""
    if path.suffix not in FORMATS:
        raise SettingsError(f"{path}: a chart is written as {', '.join(FORMATS)}; the ending of the name chooses")


def write_chart(chart: Any, path: Path) -> None:
    """Write a chart as HTML that needs no network, as PNG or as SVG, by the ending of ``path``. Raises SettingsError
    for another ending."""
    check_format(path)
    # Inline: the page carries its script, so that it opens without a network.
    chart.save(path, inline=path.suffix == ".html", scale_factor=2)
