"""``backfilld verify --against archive`` and ``--repair`` as processes, on the embedded exchange and its archive."""

import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from backfilld.core.day.certificate import REST, Source
from backfilld.core.model import Instrument, Market, day_start_ms, day_stop_ms
from backfilld.store.lock import locked
from binance_simulator import ArchiveDefect, Exchange, ExchangeOptions, Tape
from tests.e2e.world import BTC, TODAY, Daemon, Ended, at_hour, exchange_at, trade_requests
from tests.fakes import starts_at

ROWS = 3_000
FUTURES = Instrument(Market.UM, "BTCUSDT")
DAYS = [TODAY - timedelta(days=n) for n in (4, 3, 2, 1)]


@dataclass(frozen=True)
class World:
    """An exchange with its archive, and a cache that holds DAYS of ``instrument``, sealed."""

    exchange: Exchange
    daemon: Daemon
    instrument: Instrument

    async def verify(self, *options: str, code: int | None = None) -> Ended:
        """Run it; the requests so far are forgotten before."""
        self.exchange.requests.clear()
        self.exchange.archive_requests.clear()
        ended = await self.daemon.run("verify", *options)
        assert code is None or ended.code == code, ended.stdout + ended.stderr
        return ended

    def exact(self, days: Sequence[date] = ()) -> bool:
        """Whether the days (all, if none are named) are sealed and hold what the exchange has."""
        return all(
            self.daemon.manager(self.instrument).facts(day).sealed
            and self.daemon.stored(day, self.instrument).equals(self.tape(day))
            for day in days or DAYS
        )

    def tape(self, day: date) -> pl.DataFrame:
        """What the exchange has of a day."""
        of_day = pl.col("T").is_between(day_start_ms(day), day_stop_ms(day), closed="left")
        return self.exchange.visible(str(self.instrument)).filter(of_day)

    def day_file(self, day: date) -> Path:
        """The file of a day."""
        return self.daemon.manager(self.instrument).get_cache_path(day)

    def downloads(self) -> list[str]:
        """The zips that were asked for since the last command."""
        return [
            each.path.rpartition("/")[2]
            for each in self.exchange.archive_requests
            if each.method == "GET" and each.path.endswith(".zip")
        ]

    def pages(self) -> int:
        """The requests for trades since the last command."""
        return len(trade_requests(self.exchange))

    def spoil(self, day: date, ids: Sequence[int], how: pl.Expr) -> None:
        """Change rows of a certified day, and certify them as the exchange's: only the archive and the exchange know
        better."""
        wrong = self.daemon.stored(day, self.instrument).filter(pl.col("a").is_in(list(ids))).with_columns(how)
        self.drop(day, ids)
        manager = self.daemon.manager(self.instrument)
        rows = self.tape(day)["a"]
        manager.append(day, wrong, starts_at(day, int(rows[0]), int(rows[-1]) + 1), source=REST)

    def drop(self, day: date, ids: Sequence[int], day_starts: Sequence[int] | None = None) -> None:
        """Write a certified day anew without these ids, as a backfill that got no further would have left it; its ends
        are proven by ``day_starts``, by those that it had if none are given."""
        manager = self.daemon.manager(self.instrument)
        facts = manager.facts(day)
        (source,) = {each.source.sha256 for each in facts.sources}
        kept = self.daemon.stored(day, self.instrument).filter(~pl.col("a").is_in(list(ids)))
        manager.delete(day)
        starts = {facts.first_id, facts.last_id + 1} if day_starts is None else day_starts
        manager.append(day, kept, starts_at(day, *starts), source=Source("archive", source))


@asynccontextmanager
async def filled(
    directory: Path, *, instrument: Instrument = BTC, defects: dict[str, list[ArchiveDefect]] | None = None
) -> AsyncIterator[World]:
    """The world, filled by the command line, or with a copy of what that has stored for an earlier test."""
    tape = Tape.generate_days(first_day=DAYS[0] - timedelta(days=2), stop_ms=at_hour(12), trades_per_day=ROWS, seed=3)
    options = ExchangeOptions(archive_delay_s=0, archive_defects=defects or {})
    async with exchange_at(12, {instrument: tape}, options) as exchange:
        known = {"ARCHIVE_URL": exchange.url, "INSTRUMENTS": str(instrument)}
        world = World(exchange, Daemon(exchange, directory / "cache", known), instrument)
        earlier = directory.parent / f"{instrument.market}-{sorted((defects or {}).items())}".replace("/", "-")
        if earlier.exists():
            shutil.copytree(earlier, world.daemon.cache_dir)
        else:
            ended = await world.daemon.run("fill", "--from", str(DAYS[0]), "--to", str(DAYS[-1]))
            assert ended.code == 0, ended
            shutil.copytree(world.daemon.cache_dir, earlier)
        yield world


def found(ended: Ended) -> dict[tuple[str, str], int]:
    """How many findings there are, by day and kind."""
    findings = json.loads(ended.stdout)["findings"]
    keys = [(each["day"], each["kind"]) for each in findings]
    return {key: keys.count(key) for key in keys}


def archive_of(ended: Ended, day: date) -> dict[str, Any]:
    """How a day compared with the archive."""
    (report,) = [each for each in json.loads(ended.stdout)["archive"] if each["day"] == str(day)]
    return dict(report)


# -- against the archive


async def test_days_of_the_archive_are_equal_by_their_checksum_alone(tmp_path: Path) -> None:
    """Nothing is downloaded, no request goes to the exchange, and no file is changed."""
    async with filled(tmp_path) as world:
        before = {day: world.day_file(day).read_bytes() for day in DAYS}
        with locked(world.daemon.cache_dir):
            ended = await world.verify("--against", "archive", code=0)
        assert "days against the archive: 4 equal" in ended.stdout
        assert [each.path[-9:] for each in world.exchange.archive_requests] == [".CHECKSUM"] * len(DAYS)
        assert list(world.exchange.requests) == []
        assert {day: world.day_file(day).read_bytes() for day in DAYS} == before


async def test_rows_of_rest_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    """A day that the archive lacked came from REST; published later, it is downloaded and found equal."""
    defects = {f"{BTC}/{DAYS[1]}": [ArchiveDefect.MISSING]}
    async with filled(tmp_path, defects=defects) as world:
        ended = await world.verify("--against", "archive", "--json", code=0)
        assert archive_of(ended, DAYS[1])["verdict"] == "unpublished"
        assert f"BTCUSDT-aggTrades-{DAYS[1]}.zip" not in world.downloads()
        world.exchange.options = replace(world.exchange.options, archive_defects={})
        ended = await world.verify("--against", "archive", "--json", code=0)
        report = archive_of(ended, DAYS[1])
        assert (report["verdict"], report["differs"], report["missing"]) == ("compared", 0, 0)
        # REST has named the first id of the day behind it, so that one is of the archive alone.
        assert sorted(world.downloads()) == [f"BTCUSDT-aggTrades-{DAYS[1]}.zip"]


@pytest.mark.parametrize("defect", [ArchiveDefect.CUT_ZIP, ArchiveDefect.HTML_200, ArchiveDefect.WRONG_CHECKSUM])
async def test_a_published_file_of_no_use_is_said_and_is_nothing_against_us(
    tmp_path: Path, defect: ArchiveDefect
) -> None:
    async with filled(tmp_path) as world:
        world.exchange.options = replace(world.exchange.options, archive_defects={f"{BTC}/{DAYS[2]}": [defect]})
        ended = await world.verify("--against", "archive", "--json", code=0)
        report = archive_of(ended, DAYS[2])
        assert report["verdict"] == "unusable"
        assert report["reason"]


async def test_days_that_the_archive_lacks_or_that_are_broken_there_are_not_findings(tmp_path: Path) -> None:
    """Holes, rows without a quantity, doubled and disordered rows are the archive's own trouble."""
    async with filled(tmp_path) as world:
        own = [
            ArchiveDefect.HOLES,
            ArchiveDefect.ZERO_QUANTITIES,
            ArchiveDefect.DOUBLED_ROWS,
            ArchiveDefect.INTERLEAVED_RUNS,
            ArchiveDefect.REUSED_ID,
        ]
        world.exchange.options = replace(world.exchange.options, archive_defects={f"{BTC}/{DAYS[2]}": own})
        ended = await world.verify("--against", "archive", "--json", code=0)
        report = archive_of(ended, DAYS[2])
        assert (report["verdict"], report["republished"], report["differs"], report["missing"]) == (
            "compared",
            True,
            0,
            0,
        )


async def test_an_archive_out_of_reach_is_try_later(tmp_path: Path) -> None:
    async with filled(tmp_path) as world:
        world.daemon.settings["ARCHIVE_URL"] = "http://127.0.0.1:9"
        ended = await world.verify("--against", "archive", code=75)
        assert ended.stderr.count("\n") == 1


# -- repair


async def test_a_republished_day_is_found_moved_aside_and_filled_from_the_new_file(tmp_path: Path) -> None:
    """One row in fifty came wrong from the file that was published first; the exchange is not asked for any row."""
    defects = {f"{BTC}/{DAYS[1]}": [ArchiveDefect.REPUBLISHED]}
    async with filled(tmp_path, defects=defects) as world:
        assert not world.exact([DAYS[1]])
        ended = await world.verify("--against", "archive", "--json", code=1)
        assert found(ended) == {(str(DAYS[1]), "differs"): ROWS // 50}
        assert archive_of(ended, DAYS[1])["republished"] is True

        ended = await world.verify("--against", "archive", "--repair", code=0)
        assert "moved aside as backfill_" in ended.stdout
        assert world.exact()
        assert world.pages() <= 3
        (aside,) = world.day_file(DAYS[1]).parent.glob("*.bad-*")
        assert pl.read_parquet(aside.read_bytes()).height == ROWS
        await world.verify("--against", "archive", code=0)


async def test_where_the_archive_is_wrong_for_good_the_exchange_has_the_last_word(tmp_path: Path) -> None:
    """The rows that the archive has otherwise are asked for once, noted as a conflict, and no finding any more."""
    defects = {f"{BTC}/{DAYS[1]}": [ArchiveDefect.MISSING]}
    async with filled(tmp_path, defects=defects) as world:
        spoiled = {f"{BTC}/{DAYS[1]}": [ArchiveDefect.CHANGED_VALUES]}
        world.exchange.options = replace(world.exchange.options, archive_defects=spoiled)
        ended = await world.verify("--against", "archive", "--json", code=1)
        assert found(ended) == {(str(DAYS[1]), "differs"): ROWS // 50}
        await world.verify("--against", "archive", "--repair", code=0)
        assert world.exact()
        ended = await world.verify("--against", "archive", "--json", code=0)
        assert archive_of(ended, DAYS[1])["settled"] == ROWS // 50
        assert world.pages() == 0


async def test_rows_spoiled_and_certified_are_found_by_the_archive_and_fetched(tmp_path: Path) -> None:
    """Three wrong prices in two days that came from the exchange: it is asked for both days again, whole."""
    async with filled(tmp_path) as world:
        ids = [int(world.tape(DAYS[1])["a"][n]) for n in (0, 1500)]
        last_id = int(world.tape(DAYS[2])["a"][-1])
        world.spoil(DAYS[1], ids, pl.col("p") + 1)
        world.spoil(DAYS[2], [last_id], pl.col("q") * 2)
        await world.verify(code=0)
        ended = await world.verify("--against", "archive", "--json", code=1)
        assert found(ended) == {(str(DAYS[1]), "differs"): 2, (str(DAYS[2]), "differs"): 1}
        await world.verify("--against", "archive", "--repair", code=0)
        assert world.exact()
        assert world.pages() <= 2 * (ROWS // 1000 + 3)


async def test_bad_files_are_moved_aside_and_only_they_are_fetched(tmp_path: Path) -> None:
    """A byte flipped, a file cut, a file of another day: the days are whole again, the bad files beside them."""
    async with filled(tmp_path) as world:
        flipped = bytearray(world.day_file(DAYS[0]).read_bytes())
        flipped[len(flipped) // 2] ^= 1
        world.day_file(DAYS[0]).write_bytes(flipped)
        cut = world.day_file(DAYS[2]).read_bytes()[:-100]
        world.day_file(DAYS[2]).write_bytes(cut)
        world.day_file(DAYS[3]).write_bytes(world.day_file(DAYS[1]).read_bytes())
        stays = world.day_file(DAYS[1]).stat().st_ino
        ended = await world.verify("--repair", code=0)
        assert ended.stdout.count("moved aside as backfill_") == 3
        assert world.exact()
        aside = sorted(path.read_bytes() for path in world.day_file(DAYS[0]).parent.glob("*.bad-*"))
        assert len(aside) == 3
        assert cut in aside
        assert world.day_file(DAYS[1]).stat().st_ino == stays
        assert sorted(world.downloads()) == [f"BTCUSDT-aggTrades-{day}.zip" for day in (DAYS[0], DAYS[2], DAYS[3])]
        assert world.pages() <= 6


async def test_days_that_are_merely_incomplete_are_filled_and_nothing_is_moved(tmp_path: Path) -> None:
    """Two holes and a cut end cost a page each, and the end of the window the second of two questions that agree."""
    async with filled(tmp_path) as world:
        ids = world.tape(DAYS[1])["a"]
        world.drop(DAYS[1], [*ids[100:200], *ids[2500:2510]])
        last_day = world.tape(DAYS[2])["a"]
        world.drop(DAYS[2], [*last_day[-5:]], [int(last_day[0])])
        ended = await world.verify("--json", code=1)
        assert found(ended) == {
            (str(DAYS[1]), "hole"): 2,
            (str(DAYS[1]), "incomplete"): 1,
            (str(DAYS[2]), "incomplete"): 1,
        }
        ended = await world.verify("--repair", code=0)
        assert "moved aside" not in ended.stdout
        assert world.exact()
        assert world.pages() <= 2 + 1 + 1
        assert world.downloads() == []


async def test_days_that_do_not_join_are_joined(tmp_path: Path) -> None:
    """Each day is sealed by itself, and 40 trades between them are in neither."""
    async with filled(tmp_path) as world:
        ids = world.tape(DAYS[2])["a"]
        world.drop(DAYS[2], list(ids[:40]), [int(ids[40]), int(ids[-1]) + 1])
        ended = await world.verify("--json", code=1)
        assert found(ended) == {(str(DAYS[2]), "chain"): 1}
        await world.verify("--repair", code=0)
        assert world.exact()
        assert world.pages() <= 1 + 3


async def test_beyond_the_futures_lookback_the_version_of_the_archive_is_taken(tmp_path: Path) -> None:
    """The exchange answers nothing of four days ago: what is wrong or missing there comes from the published file."""
    async with filled(tmp_path, instrument=FUTURES) as world:
        ids = world.tape(DAYS[0])["a"]
        world.spoil(DAYS[0], [int(ids[10]), int(ids[11])], pl.col("p") + 1)
        await world.verify("--against", "archive", "--repair", code=0)
        assert world.exact()
        world.drop(DAYS[0], list(ids[300:311]))
        ended = await world.verify("--repair", code=0)
        assert "11 rows of it added" in ended.stdout
        assert world.exact()


async def test_a_cache_in_use_is_not_repaired(tmp_path: Path) -> None:
    async with filled(tmp_path) as world:
        world.day_file(DAYS[0]).write_bytes(b"cut")
        with locked(world.daemon.cache_dir):
            ended = await world.verify("--repair", code=75)
        assert "is held by another backfilld" in ended.stderr
        assert world.day_file(DAYS[0]).read_bytes() == b"cut"


async def test_what_cannot_be_fetched_ends_with_1_and_is_named(tmp_path: Path) -> None:
    """A hole that neither the exchange nor the archive can fill is left, with the reason; JSON stays one document."""
    async with filled(tmp_path) as world:
        ids = world.tape(DAYS[1])["a"]
        world.drop(DAYS[1], list(ids[100:102]))
        absent = {str(BTC): [(int(ids[100]), int(ids[101]))]}
        world.exchange.options = replace(world.exchange.options, absent_ids=absent)
        ended = await world.verify("--repair", "--json", code=1)
        assert (str(DAYS[1]), "hole") in found(ended)
        assert f"{BTC}: " in ended.stderr
