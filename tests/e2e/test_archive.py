"""Past days from the archive, as real processes: joined by id with REST, sealed, chained, and never asked for twice."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import trio

from backfilld.core.day.certificate import Certificate, Suspicion
from backfilld.core.frame import empty_trades
from backfilld.core.model import MS_PER_DAY, Instrument, day_start_ms, day_stop_ms
from binance_simulator import ArchiveDefect, Exchange, ExchangeOptions, Tape
from tests.e2e.world import BTC, TODAY, Daemon, at_hour, exchange_at, kill, trade_requests
from tests.effort import THOROUGH

YESTERDAY = TODAY - timedelta(days=1)
ROWS = 1_500
PROMPT = ExchangeOptions(archive_delay_s=0)
"""An archive that publishes a day as soon as it is over."""


def past(days: int) -> list[date]:
    """So many days before TODAY, ascending."""
    return [TODAY - timedelta(days=n) for n in range(days, 0, -1)]


def tape_of(days: int, *, rows: int = ROWS, seed: int = 1) -> Tape:
    """``rows`` trades a day, from two days before the first of them up to four in the afternoon of TODAY."""
    first_day = TODAY - timedelta(days=days + 2)
    return Tape.generate_days(first_day=first_day, stop_ms=at_hour(16), trades_per_day=rows, seed=seed)


def daemon_of(exchange: Exchange, directory: Path, days: int, *instruments: Instrument, **settings: str) -> Daemon:
    """The command line with past days and the exchange's archive."""
    wanted = " ".join(map(str, instruments or exchange.tapes))
    known = {"ARCHIVE_URL": exchange.url, "DAYS": str(days), "INSTRUMENTS": wanted}
    return Daemon(exchange, directory / "cache", known | settings)


def tape_on(exchange: Exchange, day: date, instrument: Instrument = BTC) -> pl.DataFrame:
    """What the exchange has of a day."""
    is_of_day = pl.col("T").is_between(day_start_ms(day), day_stop_ms(day), closed="left")
    return exchange.visible(str(instrument)).filter(is_of_day)


def faults_of(daemon: Daemon, days: Sequence[date], instrument: Instrument = BTC) -> Iterator[str]:
    """What is wrong with days that must be sealed, chained and exact."""
    manager = daemon.manager(instrument)
    last: Certificate | None = None
    for day in days:
        if not manager.get_cache_path(day).exists():
            yield f"{instrument} {day}: missing"
            continue
        facts, stored = manager.facts(day), daemon.stored(day, instrument)
        if not facts.sealed:
            yield f"{instrument} {day}: not sealed, opened {facts.opened}, closed {facts.closed}, holes {facts.holes}"
        if not stored.equals(tape_on(daemon.exchange, day, instrument)):
            yield f"{instrument} {day}: other rows than the exchange's"
        if facts.sealed and (facts.next_first_id or 0) <= facts.last_id:
            yield f"{instrument} {day}: its chain is broken"
        if last is not None and (last.next_first_id, last.last_id) != (
            facts.first_id,
            facts.previous_last_id,
        ):
            yield f"{instrument} {day}: not chained to the day before"
        last = facts


def downloads(exchange: Exchange) -> Counter[str]:
    """How often each zip was asked for."""
    return Counter(
        each.path.rpartition("/")[2]
        for each in exchange.archive_requests
        if each.method == "GET" and each.path.endswith(".zip")
    )


def certificates(daemon: Daemon, instrument: Instrument, days: Sequence[date]) -> dict[date, Certificate]:
    """What the day files that there are say of themselves."""
    manager = daemon.manager(instrument)
    return {day: manager.facts(day) for day in days if manager.get_cache_path(day).exists()}


@pytest.mark.time_of_day("which days are past")
async def test_thirty_past_days_cost_weight_for_today_and_one_seam_only(tmp_path: Path) -> None:
    """Every past day is sealed and chained, its rows the exchange's; a second run asks for nothing of them."""
    async with exchange_at(16, {BTC: tape_of(30)}, PROMPT) as exchange:
        daemon = daemon_of(exchange, tmp_path, 30)
        await daemon.once()
        assert list(faults_of(daemon, past(30))) == []
        today = daemon.stored()
        assert today.equals(daemon.tape_of_today())
        assert downloads(exchange) == dict.fromkeys((f"BTCUSDT-aggTrades-{day}.zip" for day in past(30)), 1)
        of_the_past = [
            each for each in trade_requests(exchange) if each.first_id is not None and each.first_id < today["a"][0]
        ]
        assert [each.rows for each in of_the_past] == [1], "more than the neighbour of the window"
        # One of them only where the newest trade is more than a minute old: whether another sequence goes on below.
        assert len(exchange.requests) <= 8
        assert sum(each.weight for each in exchange.requests) <= 20 + 7 * 4

        exchange.requests.clear()
        exchange.archive_requests.clear()
        await daemon.once()
        assert list(exchange.archive_requests) == []
        assert len(exchange.requests) <= 3


async def test_eight_archive_days_are_written_once_and_not_read_again_for_the_second_plan(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: tape_of(8)}, PROMPT) as exchange:
        daemon = daemon_of(exchange, tmp_path, 8, SAVE_SECONDS="300")
        ended = await daemon.once()
        assert list(faults_of(daemon, past(8))) == []
        written = Counter(each["day"] for each in ended.events if each["event"] in {"archive_taken", "day_saved"})
        times = {day: written[str(day)] for day in past(8)}
        assert times == dict.fromkeys(past(8), 1)
        assert not [each for each in ended.events if each["event"] in {"day_loaded", "days_loaded"}]


@pytest.mark.time_of_day("which days are published by now")
@pytest.mark.parametrize(("hour", "delay_s"), [(16, 0), (5, 28_800)], ids=["published", "not yet"])
async def test_futures_with_dated_contracts_and_symbols_of_any_script(
    tmp_path: Path, hour: float, delay_s: float
) -> None:
    """Days beyond their lookback can only come from the archive; yesterday may have to come from REST."""
    names = ("um:BTCUSDT_261225", "um:测试USDT", "cm:BTCUSD_PERP")
    instruments = [Instrument.parse(name) for name in (names if delay_s == 0 else names[:2])]
    tapes = {each: tape_of(4, seed=seed) for seed, each in enumerate(instruments)}
    async with exchange_at(hour, tapes, replace(PROMPT, archive_delay_s=delay_s)) as exchange:
        daemon = daemon_of(exchange, tmp_path, 4)
        await daemon.once()
        assert [fault for each in instruments for fault in faults_of(daemon, past(4), each)] == []
        assert {each.status for each in exchange.requests} == {200}, "something was asked for that REST does not tell"


CLEAN = sorted(
    set(ArchiveDefect) - {ArchiveDefect.CHANGED_VALUES, ArchiveDefect.REPUBLISHED, ArchiveDefect.CUT_TRANSFER}
)
"""Defects that show, and do not take long to. Other values under the same ids are only seen beside REST's."""
IN_THE_ROWS = [
    ArchiveDefect.TRUNCATED_DAY, ArchiveDefect.HOLES, ArchiveDefect.ZERO_QUANTITIES, ArchiveDefect.DOUBLED_ROWS,
    ArchiveDefect.INTERLEAVED_RUNS, ArchiveDefect.REUSED_ID, ArchiveDefect.TWO_CSVS, ArchiveDefect.MICROS,
]  # fmt: skip


@pytest.mark.parametrize(
    "defects",
    [*([each] for each in CLEAN), IN_THE_ROWS],
    ids=lambda each: "+".join(each) if len(each) == 1 else "all",
)
async def test_whatever_is_wrong_with_the_archive_the_days_are_exact(
    tmp_path: Path, defects: list[ArchiveDefect]
) -> None:
    options = replace(PROMPT, archive_defects={"*": defects})
    async with exchange_at(16, {BTC: tape_of(3)}, options) as exchange:
        daemon = daemon_of(exchange, tmp_path, 3)
        await daemon.once()
        assert list(faults_of(daemon, past(3))) == []
        exchange.requests.clear()
        exchange.archive_requests.clear()
        await daemon.once()
        assert list(exchange.archive_requests) == []
        assert len(exchange.requests) <= 3


async def test_one_file_that_never_comes_whole_comes_from_rest_and_the_others_from_the_archive(tmp_path: Path) -> None:
    defects = {f"{BTC}/{past(4)[1]}": [ArchiveDefect.CUT_TRANSFER]}
    async with exchange_at(16, {BTC: tape_of(4)}, replace(PROMPT, archive_defects=defects)) as exchange:
        daemon = daemon_of(exchange, tmp_path, 4)
        await daemon.once()
        assert list(faults_of(daemon, past(4))) == []
        found = certificates(daemon, BTC, past(4)).items()
        sources = {day: {each.source.name for each in facts.sources} for day, facts in found}
        assert sources.pop(past(4)[1]) == {"rest"}
        assert all("archive" in each for each in sources.values())


@pytest.mark.time_of_day("the second look is hours after the first, by the exchange")
async def test_what_the_exchange_has_not_is_reported_and_certified_after_the_second_look(tmp_path: Path) -> None:
    """In the middle of a day, at a midnight, and about the beginning of the window."""
    middle, midnight, start = (Instrument.parse(f"spot:{name}USDT") for name in ("MIDDLE", "MIDNIGHT", "START"))
    days, tape = past(3), tape_of(3)
    first_ids = [tape.visible(at_hour(0)).filter(pl.col("T") >= day_start_ms(day))["a"][0] for day in days]
    absent = {
        str(middle): [(first_ids[1] + 100, first_ids[1] + 102), (first_ids[1] + 300, first_ids[1] + 300)],
        str(midnight): [(first_ids[1] - 2, first_ids[1] + 1)],
        str(start): [(first_ids[0] - 2, first_ids[0] + 1)],
    }
    tapes = dict.fromkeys((middle, midnight, start), tape)
    async with exchange_at(16, tapes, replace(PROMPT, absent_ids=absent)) as exchange:
        daemon = daemon_of(exchange, tmp_path, 3)
        for look in ("first", "too early"):
            exchange.requests.clear()
            found = await daemon.run("run", "--once")
            assert found.code == 1, look
            for name, ranges in absent.items():
                for first_id, last_id in ranges:
                    assert f"{name}: ids {first_id} to {last_id} are missing" in found.stderr
            for instrument in tapes:
                facts = certificates(daemon, instrument, days).values()
                suspected = {(each.ids.first_id, each.ids.last_id) for one in facts for each in one.suspected}
                assert suspected == set(absent[str(instrument)])
                assert [each.absent for each in facts] == [()] * 3
        # Where the window begins is proven by two questions more, as long as its first ids are only suspected.
        assert len(exchange.requests) <= 3 * len(tapes) + 2, "asked again too early"

        for instrument in tapes:
            grow_older(daemon, instrument, days)
        await daemon.once()
        for instrument in tapes:
            assert list(faults_of(daemon, days, instrument)) == []
            certified = [ids for each in certificates(daemon, instrument, days).values() for ids in each.absent]
            assert {(ids.first_id, ids.last_id) for ids in certified} == set(absent[str(instrument)])
        exchange.requests.clear()
        await daemon.once()
        assert len(exchange.requests) <= 3 * len(tapes)


def grow_older(daemon: Daemon, instrument: Instrument, days: Sequence[date]) -> None:
    """Let what is suspected have been suspected a day ago."""
    for day, facts in certificates(daemon, instrument, days).items():
        old = [Suspicion(each.ids, each.asked_ms - MS_PER_DAY) for each in facts.suspected]
        daemon.manager(instrument).append(day, empty_trades(), suspected=old)


async def test_an_archive_out_of_reach_delays_rest_by_seconds(tmp_path: Path) -> None:
    async with exchange_at(16, {BTC: tape_of(3)}, PROMPT) as exchange:
        daemon = daemon_of(exchange, tmp_path, 3, ARCHIVE_URL="http://127.0.0.1:9")
        began = trio.current_time()
        await daemon.once()
        assert trio.current_time() - began < 8, "startup, backfill and at most five seconds more"
        assert list(faults_of(daemon, past(3))) == []


async def test_killed_five_times_no_sealed_day_and_no_whole_file_is_fetched_again(tmp_path: Path) -> None:
    """Only the file in hand may be begun anew."""
    dice, kills = random.Random(5), 5
    sealed_at: list[tuple[int, list[date]]] = []
    async with exchange_at(16, {BTC: tape_of(30)}, replace(PROMPT, archive_latency_s=0.06)) as exchange:
        daemon = daemon_of(exchange, tmp_path, 30)
        for _ in range(kills):
            process = daemon.start("run", "--once")
            before = len(downloads(exchange))
            with trio.fail_after(30):
                while len(downloads(exchange)) < before + dice.randint(2, 5):
                    await trio.sleep(0.01)
            await trio.sleep(dice.random() / 10)
            await kill(process)
            sealed = [day for day, facts in certificates(daemon, BTC, past(30)).items() if facts.sealed]
            sealed_at.append((len(exchange.archive_requests), sealed))
        await daemon.once()
        assert list(faults_of(daemon, past(30))) == []
        for marks, sealed in sealed_at:
            later = [each.path for each in list(exchange.archive_requests)[marks:]]
            assert [day for day in sealed if any(str(day) in path for path in later)] == []
        assert sum(times - 1 for times in downloads(exchange).values()) <= kills
        assert sum(len(sealed) for _, sealed in sealed_at) > 0


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_wrong_is_ever_sealed(tmp_path: Path, seed: int) -> None:
    """Days with any defects at once, ids that the exchange has not, and REST that is as it is.

    Of a file without an end, half a gigabyte comes before it is refused: one such day is enough, and one seed.
    """
    dice = random.Random(seed)
    instruments = [Instrument.parse(f"spot:X{number}USDT") for number in range(4)]
    tapes = {each: tape_of(4, rows=dice.choice([40, 700, 2_500]), seed=dice.randrange(99)) for each in instruments}
    short = sorted(set(CLEAN) - {ArchiveDefect.ENDLESS_FILE})
    defects = {f"{each}/{day}": dice.sample(short, dice.randint(0, 5)) for each in instruments for day in past(4)}
    endless = dice.choice(sorted(defects))
    if seed == 0 or THOROUGH:
        defects[endless].append(ArchiveDefect.ENDLESS_FILE)
    first_id = tapes[instruments[0]].ids[0]
    holes = [first_id + dice.randrange(80, 200) for _ in range(3)]
    absent = {str(instruments[0]): [(each, each + dice.randrange(3)) for each in holes]}
    options = replace(PROMPT, archive_defects=defects, absent_ids=absent)
    async with exchange_at(16, tapes, options) as exchange:
        daemon = daemon_of(exchange, tmp_path, 4)
        sealed = 0
        for _ in range(3):
            await daemon.run("run", "--once")
            for instrument in instruments:
                for day, facts in certificates(daemon, instrument, past(4)).items():
                    if facts.sealed:
                        sealed += 1
                        assert daemon.stored(day, instrument).equals(tape_on(exchange, day, instrument)), (
                            f"{instrument} {day} is sealed with other rows: {defects[f'{instrument}/{day}']}"
                        )
                grow_older(daemon, instrument, past(4))
        assert sealed > 0
        assert [fault for each in instruments[1:] for fault in faults_of(daemon, past(4), each)] == []
