"""The archive of the embedded exchange, downloaded and taken into the cache: exact, or short by what is named."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from backfilld.adapters.archive_pace import Tempo
from backfilld.adapters.binance_archive import BinanceArchive, open_archive
from backfilld.core.day.start import DayStart
from backfilld.core.model import IdRange, Instrument
from backfilld.core.retry import Backoff
from backfilld.errors import ArchiveError, ExchangeError, TransientError, UnexpectedAnswer
from backfilld.ports import Published
from backfilld.store.archive_import.archive_take import Taken, take_archive
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from binance_simulator import ArchiveDefect, ExchangeOptions
from tests.binance_simulator.archive_reader import INSTRUMENTS as SERVED
from tests.binance_simulator.archive_reader import rows_of_day, served_days
from tests.fakes import starts_at

INSTRUMENTS = tuple(Instrument.parse(str(served)) for served in SERVED)
SPOT = INSTRUMENTS[0]
FIRST, DAY = date(2025, 12, 31), date(2026, 1, 1)
TEMPO = Tempo(backoff=Backoff(deadline_s=0, attempts=3, first_s=0.001))
NAMED = {
    ArchiveDefect.HOLES: "holes",
    ArchiveDefect.ZERO_QUANTITIES: "suspect",
    ArchiveDefect.DOUBLED_ROWS: "doubled",
    ArchiveDefect.INTERLEAVED_RUNS: "disordered",
}


@asynccontextmanager
async def published_days(
    directory: Path, defects: Sequence[ArchiveDefect], instrument: Instrument = SPOT
) -> AsyncIterator[tuple[BinanceArchive, pl.DataFrame]]:
    """The archive with these defects in every file, and the rows that the second day really has."""
    options = ExchangeOptions(archive_defects={"*": defects})
    async with served_days(FIRST, 2, options) as (exchange, _), open_archive(exchange.url, directory, TEMPO) as archive:
        yield archive, rows_of_day(exchange, str(instrument), DAY)


def taken_into(
    directory: Path, published: Published | None, tape: pl.DataFrame, instrument: Instrument = SPOT
) -> Taken:
    """The day as it is known from its neighbours: where it begins and ends."""
    assert published is not None
    ids = IdRange(tape["a"][0], tape["a"][-1])
    manager = BackfillCacheManager(instrument_directory(directory, instrument))
    starts = starts_at(DAY, ids.first_id, ids.last_id + 1)
    return take_archive(manager, Path(published.path), DAY, published.sha256, starts, within=ids)


def rows_stored(directory: Path, instrument: Instrument = SPOT) -> pl.DataFrame:
    trades = BackfillCacheManager(instrument_directory(directory, instrument)).load_cached_trades(DAY)
    assert trades is not None
    return trades


@pytest.mark.parametrize("instrument", INSTRUMENTS)
@pytest.mark.parametrize(
    "defects",
    [
        (),
        (ArchiveDefect.NO_HEADER,),
        (ArchiveDefect.WITH_HEADER, ArchiveDefect.WRONG_CASE),
        (ArchiveDefect.MILLIS,),
        (ArchiveDefect.MICROS, ArchiveDefect.TWO_CSVS),
        (ArchiveDefect.DOUBLED_ROWS,),
        (ArchiveDefect.INTERLEAVED_RUNS,),
        (ArchiveDefect.REUSED_ID,),
        (ArchiveDefect.INTERLEAVED_RUNS, ArchiveDefect.DOUBLED_ROWS, ArchiveDefect.TWO_CSVS, ArchiveDefect.REUSED_ID),
    ],
)
async def test_what_loses_no_row_is_sealed_and_exact(
    tmp_path: Path, instrument: Instrument, defects: tuple[ArchiveDefect, ...]
) -> None:
    async with published_days(tmp_path, defects, instrument) as (archive, tape):
        published = await archive.fetch(instrument, DAY)
        assert published is not None
        assert await archive.size(instrument, DAY) == published.bytes
    taken = taken_into(tmp_path, published, tape, instrument)
    assert taken.record.sealed
    assert_frame_equal(rows_stored(tmp_path, instrument), tape)
    assert set(taken.findings.defects) >= {NAMED[defect] for defect in defects if defect in NAMED}
    assert bool(taken.findings.outside) is (ArchiveDefect.REUSED_ID in defects)


@pytest.mark.parametrize("defect", [ArchiveDefect.HOLES, ArchiveDefect.ZERO_QUANTITIES, ArchiveDefect.TRUNCATED_DAY])
async def test_what_loses_rows_is_not_sealed_and_what_is_missing_is_reported(
    tmp_path: Path, defect: ArchiveDefect
) -> None:
    """Once REST has brought those rows, the day is exact."""
    async with published_days(tmp_path, [defect]) as (archive, tape):
        taken = taken_into(tmp_path, await archive.fetch(SPOT, DAY), tape)
    assert not taken.record.sealed
    stored = rows_stored(tmp_path)
    missing = tape.join(stored, on="a", how="anti")
    if defect in NAMED:
        assert taken.findings.defects[NAMED[defect]]
        lost = [trade_id for hole in taken.record.holes for trade_id in range(hole.first_id, hole.last_id + 1)]
        edges = pl.col("a").is_between(taken.record.first_id, taken.record.last_id)
        assert lost == missing.filter(edges)["a"].to_list()
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT))
    ends = {DayStart(DAY, tape["a"][0]), DayStart(DAY + timedelta(days=1), tape["a"][-1] + 1)}
    assert manager.append(DAY, missing, ends).record.sealed
    assert_frame_equal(rows_stored(tmp_path), tape)


@pytest.mark.parametrize(
    ("defect", "error", "kind"),
    [
        (ArchiveDefect.WRONG_CHECKSUM, ArchiveError, "checksum"),
        (ArchiveDefect.CUT_TRANSFER, TransientError, None),
        (ArchiveDefect.HTML_200, UnexpectedAnswer, None),
    ],
)
async def test_what_cannot_be_downloaded_is_named(
    tmp_path: Path, defect: ArchiveDefect, error: type[ExchangeError], kind: str | None
) -> None:
    async with published_days(tmp_path, [defect]) as (archive, _):
        with pytest.raises(error) as raised:
            await archive.fetch(SPOT, DAY)
    assert getattr(raised.value, "kind", None) == kind
    assert list(tmp_path.iterdir()) == []


async def test_a_day_that_is_missing_is_not_published_yet(tmp_path: Path) -> None:
    async with published_days(tmp_path, [ArchiveDefect.MISSING]) as (archive, _):
        assert await archive.fetch(SPOT, DAY) is None
        assert await archive.size(SPOT, DAY) is None


async def test_a_zip_that_was_cut_before_it_was_published_is_refused(tmp_path: Path) -> None:
    """Its checksum is right."""
    async with published_days(tmp_path, [ArchiveDefect.CUT_ZIP]) as (archive, tape):
        published = await archive.fetch(SPOT, DAY)
    with pytest.raises(ArchiveError) as raised:
        taken_into(tmp_path, published, tape)
    assert raised.value.kind == "cut"


async def test_a_file_published_anew_mends_the_day(tmp_path: Path) -> None:
    """Its rows take the place of those of the first file, and the certificate names both."""
    async with published_days(tmp_path, [ArchiveDefect.REPUBLISHED]) as (archive, tape):
        first = taken_into(tmp_path, await archive.fetch(SPOT, DAY), tape)
        assert not rows_stored(tmp_path).equals(tape)
        second = taken_into(tmp_path, await archive.fetch(SPOT, DAY), tape)
    assert_frame_equal(rows_stored(tmp_path), tape)
    assert first.record.conflicts == 0
    assert second.record.conflicts > 0
    assert len({each.source.sha256 for each in second.record.sources}) == 2
