"""Taking over flat files of an earlier program: what is accepted, what is refused, and that nothing is lost."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from backfilld import BackfillCacheManager, StoreError
from backfilld.core.day.certificate import ADOPTED, REST, Sourced
from backfilld.core.frame import SCHEMA
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.store.layout import day_file_name, instrument_directory
from backfilld.store.upkeep.adoption import NotTaken, adopt_file, join_days, read_legacy
from backfilld.store.upkeep.inspection import chain_findings, inspect_day
from tests.store.frames import DAY, SPOT, as_binance, day_frame

NEXT = DAY + timedelta(days=1)


def flat(directory: Path, trades: pl.DataFrame, day: date = DAY) -> Path:
    """A file as polars writes it by default, with the guide's codec."""
    directory.mkdir(exist_ok=True)
    path = directory / day_file_name(day)
    trades.write_parquet(path, compression="snappy")
    return path


def stored(manager: BackfillCacheManager, day: date = DAY) -> pl.DataFrame:
    trades = manager.load_cached_trades(day)
    assert trades is not None
    return trades


# -- what is accepted

SHAPES: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "as documented": lambda trades: trades,
    "as the exchange sends it": lambda trades: pl.DataFrame(as_binance(trades)),
    "everything as text": lambda trades: trades.with_columns(pl.all().cast(pl.String)),
    "text of another case": lambda trades: trades.with_columns(m=pl.col("m").cast(pl.String).str.to_titlecase()),
    "times as timestamps": lambda trades: trades.with_columns(T=pl.from_epoch("T", "ms").dt.cast_time_unit("us")),
    "smaller integers": lambda trades: trades.with_columns(pl.col("a", "f", "l").cast(pl.UInt32)),
    "other columns as well": lambda trades: trades.with_columns(E=pl.lit("aggTrade"), nq=pl.lit(1.0)),
    "in another order": lambda trades: trades.select(sorted(SCHEMA, reverse=True)),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_shape_gives_the_same_trades(tmp_path: Path, shape: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    trades = day_frame(range(1000, 1100))
    assert_frame_equal(read_legacy(flat(tmp_path, shape(trades))), trades)


@pytest.mark.parametrize("m", [None, pl.lit(None), pl.lit(None, pl.Boolean)])
def test_best_match_is_true_where_it_is_missing(tmp_path: Path, m: pl.Expr | None) -> None:
    trades = day_frame(range(1000, 1010)).drop("M")
    found = read_legacy(flat(tmp_path, trades if m is None else trades.with_columns(M=m)))
    assert found["M"].all()


# -- what is refused


def _at(row: int, name: str, value: object) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(name).alias(name)


REFUSED: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "it has no column a, p": lambda trades: trades.drop("a", "p"),
    "it has no rows": lambda trades: trades.clear(),
    "its column a is of the type Float64": lambda trades: trades.with_columns(pl.col("a").cast(pl.Float64)),
    "its column p is of the type Float32": lambda trades: trades.with_columns(pl.col("p").cast(pl.Float32)),
    "its column m is of the type Int64": lambda trades: trades.with_columns(pl.col("m").cast(pl.Int64)),
    "row 4 has no q that can be read: None": lambda trades: trades.with_columns(_at(3, "q", None)),
    "row 4 has no p that can be read: '1,5'": lambda trades: trades.with_columns(
        pl.col("p").cast(pl.String)
    ).with_columns(_at(3, "p", "1,5")),
    "row 1 has a T that is not a time in ms, id 1000": lambda trades: trades.with_columns(pl.col("T") * 1000),
    "row 2 has a price that is not a positive number, id 1001": lambda trades: trades.with_columns(_at(1, "p", 0.0)),
    "row 3 has a quantity that is not a number of 0 or more": lambda trades: trades.with_columns(
        _at(2, "q", float("nan"))
    ),
    "row 9 has trade ids f and l that are not a range": lambda trades: trades.with_columns(_at(8, "f", 10**12)),
}


@pytest.mark.parametrize(("said", "spoil"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_trades_is_refused_with_the_row_and_the_rule(
    tmp_path: Path, said: str, spoil: Callable[[pl.DataFrame], pl.DataFrame]
) -> None:
    with pytest.raises(NotTaken, match=said):
        read_legacy(flat(tmp_path, spoil(day_frame(range(1000, 1010)))))


@pytest.mark.parametrize("content", [b"", b"T,a,p,q\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / day_file_name(DAY)
    path.write_bytes(content)
    with pytest.raises(NotTaken, match="it cannot be read"):
        read_legacy(path)


def test_columns_that_are_not_flat_or_come_twice_are_refused(tmp_path: Path) -> None:
    """At the one polars panics, of the other Arrow chooses none."""
    table = day_frame(range(1000, 1010)).to_arrow()
    path = tmp_path / day_file_name(DAY)
    wide = pa.array([Decimal(1)] * 10, pa.decimal256(50, 8))
    pq.write_table(table.set_column(table.column_names.index("p"), "p", wide), path)
    with pytest.raises(NotTaken, match="its column p is of the type decimal256"):
        read_legacy(path)
    pq.write_table(table.append_column("a", table.column("a")), path)
    with pytest.raises(NotTaken, match="it has the column a twice"):
        read_legacy(path)


def test_ids_that_no_exchange_gives_are_refused_and_what_is_stored_stays(
    tmp_path: Path, manager: BackfillCacheManager
) -> None:
    """A file with them would not be believed by its next reader, with all rows that were there before."""
    manager.append(DAY, day_frame(range(1000, 1010)))
    before = manager.get_cache_path(DAY).read_bytes()
    strange = day_frame(range(1010, 1020)).with_columns(a=pl.col("a") + 2**60)
    with pytest.raises(NotTaken, match="row 1 has an aggregate trade id that is not from 0 to"):
        adopt_file(manager, flat(tmp_path / "flat", strange), DAY)
    with pytest.raises(StoreError, match="ids or times that the exchange cannot have given"):
        manager.save_trades_to_cache(strange, DAY)
    assert manager.get_cache_path(DAY).read_bytes() == before


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / day_file_name(DAY)
    os.mkfifo(path)
    with pytest.raises(NotTaken, match="it is not a regular file"):
        read_legacy(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(NotTaken, match="it is not a regular file"):
        read_legacy(path)
    path.rmdir()
    path.symlink_to(path)
    with pytest.raises(NotTaken, match="it cannot be read"):
        read_legacy(path)


def test_a_day_file_of_the_caches_own_is_refused(manager: BackfillCacheManager) -> None:
    """It says whose it is: it must not become another instrument's."""
    manager.append(DAY, day_frame(range(1000, 1010)))
    with pytest.raises(NotTaken, match="backfilld wrote it"):
        read_legacy(manager.get_cache_path(DAY))


def test_trades_of_another_instrument_are_refused_and_nothing_is_written(
    tmp_path: Path, manager: BackfillCacheManager
) -> None:
    """What the cache holds tells: other trades under the same ids, or ids that do not fit between the days."""
    manager.append(DAY, day_frame(range(1000, 1100)))
    before = manager.get_cache_path(DAY).read_bytes()
    other = flat(tmp_path / "flat", day_frame(range(1050, 1200)).with_columns(p=pl.lit(7.0)))
    with pytest.raises(NotTaken, match="50 of 50 ids that the cache holds of 2025-11-07 have other trades in it"):
        adopt_file(manager, other, DAY)
    low = flat(tmp_path / "flat", day_frame(range(10, 20), NEXT).with_columns(pl.col("T") + 60_000), NEXT)
    with pytest.raises(NotTaken, match="its ids of 2025-11-08, 10 to 19, are not above those that the cache holds"):
        adopt_file(manager, low, NEXT)
    assert manager.days() == [DAY]
    assert manager.get_cache_path(DAY).read_bytes() == before


# -- merging

ids = st.sets(st.integers(1000, 1040))


@settings(max_examples=50, deadline=None)
@given(ids, ids.filter(bool), st.randoms(use_true_random=False), st.lists(st.integers(0, 30), max_size=5))
def test_adopting_adds_what_is_missing_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, cached: set[int], old: set[int], random: object, doubled: list[int]
) -> None:
    """Unsorted, with duplicates, over whatever is stored: the union, each id once; the original as it was."""
    directory = tmp_path_factory.mktemp("adopt")
    manager = BackfillCacheManager(instrument_directory(directory / "cache", SPOT))
    if cached:
        manager.append(DAY, day_frame(sorted(cached)))
    rows = sorted(old) + [sorted(old)[n % len(old)] for n in doubled]
    random.shuffle(rows)  # type: ignore[attr-defined]
    path = flat(directory / "flat", day_frame(rows))
    before = path.read_bytes()
    done = adopt_file(manager, path, DAY)
    assert_frame_equal(stored(manager), day_frame(sorted(cached | old)))
    assert (done.rows, done.doubled, done.added) == (len(rows), len(doubled), len(old - cached))
    assert (done.strays, done.conflicts) == ({}, 0)
    sources = {each.source.name for each in manager.facts(DAY).sources}
    assert sources == ({"rest"} if cached else set()) | ({"adopted"} if old - cached else set())
    assert path.read_bytes() == before


def test_rows_of_other_days_go_to_their_days(tmp_path: Path, manager: BackfillCacheManager) -> None:
    """The earlier program wrote past midnight; a marker without a time goes with the trade before it."""
    marker = day_frame([1030]).with_columns(
        T=pl.lit(0, pl.Int64), p=pl.lit(0.0), q=pl.lit(0.0), f=pl.lit(-1, pl.Int64), l=pl.lit(-1, pl.Int64)
    )
    today, tomorrow = day_frame(range(1000, 1020)), day_frame(range(1020, 1030), NEXT)
    path = flat(tmp_path / "flat", pl.concat([marker, tomorrow, today]))
    done = adopt_file(manager, path, DAY)
    assert (done.strays, done.days, done.added) == ({NEXT: 11}, (DAY, NEXT), 31)
    assert_frame_equal(stored(manager), today)
    assert_frame_equal(stored(manager, NEXT), pl.concat([tomorrow, marker]))


def test_conflicts_are_counted_and_named_in_the_certificate(tmp_path: Path, manager: BackfillCacheManager) -> None:
    """One against a row that is stored, one within the file: the first stays, and the ids are kept."""
    manager.append(DAY, day_frame(range(1000, 1010)))
    other = day_frame([1005, 1015]).with_columns(q=pl.lit(9.0))
    path = flat(tmp_path / "flat", pl.concat([day_frame([*range(1003, 1005), *range(1006, 1020)]), other]))
    done = adopt_file(manager, path, DAY)
    assert done.conflicts == 2
    assert manager.facts(DAY).conflicting == (IdRange(1005, 1005), IdRange(1015, 1015))
    assert_frame_equal(stored(manager), day_frame(range(1000, 1020)))
    assert manager.facts(DAY).sources == (Sourced(REST, IdRange(1000, 1009)), Sourced(ADOPTED, IdRange(1010, 1019)))


def test_adopted_days_that_adjoin_prove_each_other(tmp_path: Path, manager: BackfillCacheManager) -> None:
    """Three days in a row: the middle one is sealed, and the whole passes verification."""
    days = [DAY, NEXT, NEXT + timedelta(days=1)]
    for number, day in enumerate(days):
        first = 1000 + 100 * number
        adopt_file(manager, flat(tmp_path / "flat", day_frame(range(first, first + 100), day), day), day)
    assert join_days(manager, set(days)) == [NEXT]
    assert [manager.facts(day).sealed for day in days] == [False, True, False]
    found = [inspect_day(manager.get_cache_path(day), day, SPOT) for day in days]
    assert all(each is not None and not each.findings for each in found)
    assert [each.kind for each in chain_findings(each for each in found if each)] == ["incomplete"], "the first is open"


def test_the_first_and_the_last_millisecond_of_a_day(tmp_path: Path, manager: BackfillCacheManager) -> None:
    midnight = int(datetime(2025, 11, 8, tzinfo=UTC).timestamp() * 1000)
    trades = day_frame([1000, 1001]).with_columns(T=pl.Series([midnight - 1, midnight]))
    done = adopt_file(manager, flat(tmp_path / "flat", trades), DAY)
    assert done.days == (DAY, NEXT)
    assert stored(manager)["T"].to_list() == [midnight // MS_PER_DAY * MS_PER_DAY - 1]
