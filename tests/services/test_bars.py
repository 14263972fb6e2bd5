"""Bars and profiles: field by field the exchange's klines, laws of sums, and every way to name an instant."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import backfilld
from backfilld import BackfillCacheManager, Instrument, SettingsError, bars, profile, scan
from backfilld.core.frame import SCHEMA
from backfilld.core.model import day_start_ms, day_stop_ms
from backfilld.services import candles as services_candles
from backfilld.store.layout import instrument_directory
from binance_simulator import Tape, open_exchange
from tests.fakes import starts_at
from tests.store.frames import DAY
from tests.surfaces.commands import backfilld as command

BTC = Instrument.parse("spot:BTCUSDT")
NEXT = DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def tape() -> Tape:
    """A sparse day and the beginning of the next: many minutes have no trade."""
    return Tape.generate(start_ms=day_start_ms(DAY), stop_ms=day_stop_ms(NEXT), trades=3_000, seed=5)


@pytest.fixture
def cache(tape: Tape, tmp_path: Path) -> Path:
    """Both days of the tape, sealed."""
    manager = BackfillCacheManager(instrument_directory(tmp_path, BTC), BTC)
    frame = tape.frame.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    for day in (DAY, NEXT):
        rows = frame.filter(pl.col("T").is_between(day_start_ms(day), day_stop_ms(day), closed="left"))
        manager.append(day, rows, starts_at(day, rows["a"][0], rows["a"][-1] + 1))
    return tmp_path


async def klines_of(tape: Tape, every: str) -> list[list[object]]:
    """What the exchange itself answers, page by page."""
    import httpx  # noqa: PLC0415

    rows: list[list[object]] = []
    async with (
        open_exchange({str(BTC): tape}, clock_ms=lambda: day_stop_ms(NEXT)) as exchange,
        httpx.AsyncClient(base_url=exchange.url, timeout=60) as client,
    ):
        start_ms = day_start_ms(DAY)
        while True:
            query = f"symbol=BTCUSDT&interval={every}&startTime={start_ms}&endTime={day_stop_ms(NEXT) - 1}&limit=1000"
            page = (await client.get(f"/api/v3/klines?{query}")).json()
            rows += page
            if len(page) < 1000:
                return rows
            start_ms = page[-1][0] + 1


@pytest.mark.parametrize("every", ["1m", "5m", "1h", "1d"])
async def test_bars_equal_the_klines_of_the_exchange_field_by_field(tape: Tape, cache: Path, every: str) -> None:
    theirs = await klines_of(tape, every)
    ours = bars(BTC, DAY, NEXT + timedelta(days=1), every=every, cache_dir=cache).collect()
    # Behind the last trade the exchange repeats its close until now; we know of nothing there.
    theirs = theirs[: ours.height]
    fields = zip(ours.iter_rows(named=True), theirs, strict=True)
    for bar, (time, open_, high, low, close, volume, _, quote, trades, buy, buy_quote, _) in fields:
        assert bar["time"] == datetime.fromtimestamp(time / 1000, UTC)  # type: ignore[operator]
        shown = [bar[name] for name in ("open", "high", "low", "close", "volume", "quote_volume")]
        assert shown == [float(each) for each in (open_, high, low, close, volume, quote)]  # type: ignore[arg-type]
        assert bar["trades"] == trades
        assert (bar["taker_buy_volume"], bar["taker_buy_quote_volume"]) == (float(buy), float(buy_quote))  # type: ignore[arg-type]


ODD_TRADES = {
    "quantities of one decimal beyond 2^26": ([0.0000123, 0.0000124], [987_654_321.1, 123_456_789.7]),
    "quantities in whole coins whose sum is beyond 64 bits": ([0.00001234, 0.00001235], [98_765_432_101.0, 5e12]),
    "prices of eight decimals": ([0.12345678, 0.00000001], [31_234_567.87654321, 0.1]),
    "prices of a currency in millions": ([1_512_345_678.0, 1_512_345_679.0], [0.12345678, 1.0]),
    "products beyond 64 bits": ([85_123.45, 85_123.46], [31_000_000.5, 0.1]),
    "as BTCUSDT": ([85_123.45, 85_123.46], [0.00001, 123.45678]),
}


@pytest.mark.parametrize("every", ["1m", "1d"])
@pytest.mark.parametrize("name", ODD_TRADES)
def test_sums_are_exact_whatever_the_size_and_wherever_a_piece_ends(
    name: str, every: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same sums in Python's own integers; with a marker, and a time that goes back."""
    monkeypatch.setattr(services_candles, "PIECE_ROWS", 7)
    prices, quantities = ODD_TRADES[name]
    rows = 40
    minute_of = [(n // 9) + (n == 17) for n in range(rows)]
    frame = pl.DataFrame(
        {
            "T": [day_start_ms(DAY) + each * 60_000 for each in minute_of],
            "a": range(500, 500 + rows),
            "p": [0.0 if n == 20 else prices[n % 2] for n in range(rows)],
            "q": [0.0 if n == 20 else quantities[n % 3 % 2] for n in range(rows)],
            "f": [-1 if n == 20 else 900 + 2 * n for n in range(rows)],
            "l": [-1 if n == 20 else 901 + 2 * n for n in range(rows)],
            "m": [n % 5 == 0 for n in range(rows)],
            "M": [True] * rows,
        },
        schema=SCHEMA,
    )
    manager = BackfillCacheManager(instrument_directory(tmp_path, BTC), BTC)
    manager.append(DAY, frame, starts_at(DAY, 500, 500 + rows))
    found = bars(BTC, DAY, NEXT, every=every, cache_dir=tmp_path).collect()
    groups: dict[int, list[dict[str, Any]]] = {}
    for row, minute in zip(frame.iter_rows(named=True), minute_of, strict=True):
        if row["f"] >= 0:
            groups.setdefault(minute if every == "1m" else 0, []).append(row)
    assert found.height == len(groups)
    for bar, (_, members) in zip(found.iter_rows(named=True), sorted(groups.items()), strict=True):
        bought = [each for each in members if not each["m"]]
        assert (bar["open"], bar["close"]) == (members[0]["p"], members[-1]["p"])
        assert (bar["low"], bar["high"]) == (min(each["p"] for each in members), max(each["p"] for each in members))
        assert bar["trades"] == 2 * len(members)
        sums = (bar["volume"], bar["quote_volume"], bar["taker_buy_volume"], bar["taker_buy_quote_volume"])
        assert sums == (*exact_sums(members), *exact_sums(bought))


def exact_sums(members: list[dict[str, Any]]) -> tuple[float, float]:
    """Volume and quote volume, cut to eight decimals, as the nearest floats."""
    volume = sum((Decimal(repr(each["q"])) for each in members), Decimal())
    quote = sum((Decimal(repr(each["p"])) * Decimal(repr(each["q"])) for each in members), Decimal())
    return float(volume), float(quote.quantize(Decimal("1e-8"), ROUND_DOWN))


def test_bars_without_filling_are_those_with_trades(cache: Path) -> None:
    every = bars(BTC, DAY, NEXT, every="1m", cache_dir=cache).collect()
    traded = bars(BTC, DAY, NEXT, every="1m", fill=False, cache_dir=cache).collect()
    assert traded.equals(every.filter(pl.col("trades") > 0))
    assert {later - earlier for earlier, later in pairwise(every["time"])} == {timedelta(minutes=1)}
    assert every.filter(pl.col("trades") == 0)["vwap"].null_count() == every.height - traded.height > 0


def test_months_and_weeks_begin_where_the_calendar_says(cache: Path) -> None:
    stop = NEXT + timedelta(days=1)
    month = bars(BTC, DAY, stop, every="1M", cache_dir=cache).collect()
    week = bars(BTC, DAY, stop, every="1w", cache_dir=cache).collect()
    assert month["time"].to_list() == [datetime(DAY.year, DAY.month, 1, tzinfo=UTC)]
    assert [each.weekday() for each in week["time"]] == [0]


def test_a_profile_has_all_the_volume_and_a_value_area_around_the_point_of_control(cache: Path) -> None:
    found = profile(BTC, DAY, NEXT, bin_size=10, value_area=0.7, cache_dir=cache).collect()
    volume = float(scan(BTC, DAY, NEXT, cache_dir=cache).collect()["q"].sum())
    assert found["volume"].sum() == pytest.approx(volume)
    assert found.filter("is_poc")["volume"].to_list() == [found["volume"].max()]
    inside = found.filter("in_value_area")
    assert inside["volume"].sum() >= 0.7 * volume
    assert inside.filter("is_poc").height == 1
    assert (inside["price"].diff().drop_nulls() >= 10).all()
    assert (found["taker_buy_volume"] + found["taker_sell_volume"] - found["volume"]).abs().max() < 1e-9  # type: ignore[operator]


@pytest.mark.parametrize("every", ["0m", "1x", "1 m", "", "m", "-1m", "1M1"])
def test_an_interval_that_cannot_be_is_a_sentence(cache: Path, every: str) -> None:
    with pytest.raises(SettingsError, match="write an interval such as"):
        bars(BTC, DAY, NEXT, every=every, cache_dir=cache)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (DAY, NEXT),
        (DAY.isoformat(), NEXT.isoformat()),
        (datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC), f"{NEXT}T00:00:00Z"),
        (f"{DAY}T02:00:00+02:00", NEXT),
    ],
    ids=["dates", "text", "datetime and text", "another zone"],
)
def test_instants_are_dates_datetimes_and_text_alike(
    cache: Path, start: date | datetime | str, stop: date | datetime | str
) -> None:
    assert scan(BTC, start, stop, cache_dir=cache).collect().equals(scan(BTC, DAY, NEXT, cache_dir=cache).collect())


def test_text_that_names_no_instant_is_a_sentence(cache: Path) -> None:
    for text in ("yesterday", "22.11.2026", "2026-11-31"):
        with pytest.raises(SettingsError, match="is not a moment: write 2026-11-22"):
            scan(BTC, text, NEXT, cache_dir=cache)
    with pytest.raises(SettingsError, match="has no time zone"):
        scan(BTC, "2026-11-22T10:00", NEXT, cache_dir=cache)


@pytest.mark.parametrize("every", [60, None, timedelta(minutes=5), 1.5])
def test_a_length_that_is_not_text_is_refused_in_a_sentence(every: Any, cache: Path) -> None:
    with pytest.raises(SettingsError, match=r"every = .*: write an interval such as 1s, 1m"):
        bars(BTC, DAY, NEXT, every=every, cache_dir=cache)


@pytest.mark.parametrize("every", ["1m", "1d", "1M"])
def test_a_span_without_any_trade_has_no_bar(every: str, cache: Path) -> None:
    with pytest.warns(backfilld.IncompleteSpan):
        empty = bars(BTC, "2020-01-01", "2020-01-02", every=every, cache_dir=cache, incomplete="warn")
    assert empty.collect().is_empty()


def test_times_are_a_column_of_datetimes(cache: Path) -> None:
    trades = scan(BTC, DAY, NEXT, cache_dir=cache, times=True).collect()
    assert trades.schema["time"] == pl.Datetime("ms", "UTC")
    assert trades["time"].dt.epoch("ms").equals(trades["T"], check_names=False)


def test_the_version_is_that_of_the_package() -> None:
    assert backfilld.__version__.count(".") == 2


# -- fetching


async def test_a_fetch_from_asyncio_gives_the_trades_and_prints_nothing(tmp_path: Path) -> None:
    """In a program of its own: nothing on stdout but what the program itself prints."""
    tape = Tape.generate(start_ms=day_start_ms(DAY), stop_ms=day_stop_ms(DAY), trades=1_500, seed=5)
    program = """
import asyncio, sys, backfilld
url, cache = sys.argv[1:3]
settings = backfilld.Settings(spot_url=url, archive_url=url, cache_dir=cache)
ticks = []
async def main():
    fetching = asyncio.create_task(
        backfilld.fetch_async("spot:BTCUSDT", *sys.argv[3:], settings=settings, times=True))
    while not fetching.done():
        ticks.append(1)
        await asyncio.sleep(0.005)
    return await fetching
trades = asyncio.run(main())
again = backfilld.fetch("spot:BTCUSDT", *sys.argv[3:], settings=settings, times=True)
print(trades.height, len(ticks) > 3, again.equals(trades))
"""
    async with open_exchange({str(BTC): tape}, clock_ms=lambda: day_stop_ms(NEXT)) as exchange:
        import trio  # noqa: PLC0415

        done = await trio.run_process(
            [sys.executable, "-c", program, exchange.url, str(tmp_path / "cache"), str(DAY), str(NEXT)],
            cwd=tmp_path, capture_stdout=True, capture_stderr=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == f"{tape.frame.height} True True\n"


# -- export


@pytest.mark.parametrize("every", ["1m", "1w", None])
@pytest.mark.parametrize("form", ["csv", "parquet", "feather"])
def test_an_export_is_what_the_library_gives(cache: Path, tmp_path: Path, form: str, every: str | None) -> None:
    out = tmp_path / f"out.{form}"
    options = ("--from", str(DAY), "--to", str(NEXT), "--format", form, "--out", str(out), "--cache-dir", str(cache))
    done = command("export", "spot:BTCUSDT", *options, *(("--every", every) if every else ()), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    stop = NEXT + timedelta(days=1)
    if every is None:
        expected = scan(BTC, DAY, stop, cache_dir=cache, times=True).collect()
    else:
        expected = bars(BTC, DAY, stop, every=every, fill=False, cache_dir=cache).collect()
    read = {"parquet": pl.read_parquet, "feather": pl.read_ipc, "csv": pl.read_csv}[form]
    frame = read(out)
    assert frame.columns == expected.columns
    assert frame.drop("time").equals(expected.drop("time"))
    assert done.stdout.startswith(f"{out}: {expected.height:,} ")


def test_an_export_of_what_is_incomplete_is_1_and_writes_no_file(cache: Path, tmp_path: Path) -> None:
    before = DAY - timedelta(days=2)
    out = tmp_path / "out.csv"
    options = ("--from", str(before), "--to", str(NEXT), "--out", str(out), "--cache-dir", str(cache))
    done = command("export", "spot:BTCUSDT", *options, cwd=tmp_path)
    assert (done.returncode, out.exists()) == (1, False)
    assert f"spot:BTCUSDT {before}: no file" in done.stderr
    assert f"; backfilld fill --from {before} --to {NEXT} --instrument spot:BTCUSDT --cache-dir " in done.stderr


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Names are imported when they are first used."""
    code = "import sys, backfilld; print(sorted({'polars', 'trio', 'structlog', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
