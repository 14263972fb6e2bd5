"""Each defect of the archive shows what it claims, and nothing of it on REST."""

import hashlib
from datetime import date
from typing import Any

import httpx
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.binance_simulator.archive_reader import (
    HEADER,
    INSTRUMENTS,
    archived,
    file_path,
    rows_in,
    rows_of_day,
    served_days,
    texts_in,
)

from binance_simulator import ArchiveDefect, Exchange, ExchangeOptions

SPOT, UM, _ = INSTRUMENTS
FIRST, DAY = date(2025, 12, 31), date(2026, 1, 1)
NAME = "BTCUSDT-aggTrades-2026-01-01"


def with_defects(*defects: ArchiveDefect) -> ExchangeOptions:
    return ExchangeOptions(archive_defects={"*": defects})


async def spoiled_and_right(*defects: ArchiveDefect) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The second of two days as the archive has it, its sum checked, and as the tape has it."""
    async with served_days(FIRST, 2, with_defects(*defects)) as (exchange, client):
        await assert_sum_is_right(client)
        return await archived(client, SPOT, DAY), rows_of_day(exchange, SPOT, DAY)


async def assert_sum_is_right(client: httpx.AsyncClient) -> None:
    checksum = (await client.get(file_path(SPOT, DAY) + ".CHECKSUM")).text
    content = (await client.get(file_path(SPOT, DAY))).content
    assert checksum == f"{hashlib.sha256(content).hexdigest()}  {NAME}.zip"


async def on_rest(exchange: Exchange, client: httpx.AsyncClient) -> list[dict[str, Any]]:
    first_id = rows_of_day(exchange, SPOT, DAY)["a"][0]
    rows: list[dict[str, Any]] = (await client.get(f"/api/v3/aggTrades?symbol=BTCUSDT&fromId={first_id}")).json()
    return rows


async def receive(client: httpx.AsyncClient, path: str, pieces: list[bytes]) -> None:
    """Keep what has arrived, also when it ends too early."""
    async with client.stream("GET", path) as answer:
        async for piece in answer.aiter_raw():
            pieces.append(piece)  # noqa: PERF401 - a list made at once would be lost


async def test_a_truncated_day_stops_early() -> None:
    found, right = await spoiled_and_right(ArchiveDefect.TRUNCATED_DAY)
    assert_frame_equal(found, right.head(120))


async def test_holes_leave_ids_out_inside_the_day() -> None:
    found, right = await spoiled_and_right(ArchiveDefect.HOLES)
    missing = right.join(found, on="a", how="anti")
    assert (missing["a"] - right["a"][0]).to_list() == [75, 76, 77, 78, 150, 151, 152, 153]
    assert_frame_equal(found, right.join(found.select("a"), on="a", how="semi"))


async def test_zero_quantities_are_right_on_rest() -> None:
    async with served_days(FIRST, 2, with_defects(ArchiveDefect.ZERO_QUANTITIES)) as (exchange, client):
        found, right = await archived(client, SPOT, DAY), rows_of_day(exchange, SPOT, DAY)
        rest = await on_rest(exchange, client)
    assert_frame_equal(found.drop("q"), right.drop("q"))
    changed = (found["q"] != right["q"]).arg_true().to_list()
    assert 5 <= len(changed) <= 6
    assert set(found["q"].gather(changed)) == {0.0}
    assert [float(row["q"]) for row in rest] == right["q"].to_list()


async def test_changed_values_differ_under_the_same_ids() -> None:
    found, right = await spoiled_and_right(ArchiveDefect.CHANGED_VALUES)
    assert_frame_equal(found.drop("p"), right.drop("p"))
    changed = (found["p"] != right["p"]).arg_true().to_list()
    assert 4 <= len(changed) <= 6
    dearer = found["p"].gather(changed) - right["p"].gather(changed)
    assert dearer.round(6).unique().to_list() == [0.01]


async def test_doubled_rows_stand_twice() -> None:
    found, right = await spoiled_and_right(ArchiveDefect.DOUBLED_ROWS)
    assert found.height == right.height + 4
    assert_frame_equal(found.slice(100, 4), found.slice(104, 4))
    assert_frame_equal(found.unique().sort("a"), right)


async def test_interleaved_runs_lose_no_row() -> None:
    found, right = await spoiled_and_right(ArchiveDefect.INTERLEAVED_RUNS)
    assert_frame_equal(found[::2], right.head(150))
    assert_frame_equal(found[1::2], right.tail(150))


async def test_a_reused_id_stands_on_both_sides_of_midnight() -> None:
    async with served_days(FIRST, 2, with_defects(ArchiveDefect.REUSED_ID)) as (exchange, client):
        before, found = await archived(client, SPOT, FIRST), await archived(client, SPOT, DAY)
        right = rows_of_day(exchange, SPOT, DAY)
        assert_frame_equal(before, rows_of_day(exchange, SPOT, FIRST))
    assert_frame_equal(found.slice(1), right)
    assert found["a"][0] == before["a"][-1]
    assert found["T"][0] == right["T"][0]
    assert found["p"][0] != before["p"][-1]


async def test_effects_on_rows_add_up() -> None:
    found, right = await spoiled_and_right(ArchiveDefect.DOUBLED_ROWS, ArchiveDefect.TRUNCATED_DAY)
    assert_frame_equal(found.unique().sort("a"), right.head(120))
    assert found.height == 122


@pytest.mark.parametrize("defect", [ArchiveDefect.NO_HEADER, ArchiveDefect.WITH_HEADER])
@pytest.mark.parametrize("instrument", [SPOT, UM], ids=str)
async def test_the_header_can_be_against_the_habit(instrument: Any, defect: ArchiveDefect) -> None:
    async with served_days(DAY, 1, with_defects(defect)) as (exchange, client):
        content = (await client.get(file_path(instrument, DAY))).content
        assert_frame_equal(rows_in(content), rows_of_day(exchange, instrument, DAY))
    (text,) = texts_in(content).values()
    assert text.startswith(HEADER) is (defect is ArchiveDefect.WITH_HEADER)


async def test_booleans_can_be_in_the_other_case() -> None:
    async with served_days(DAY, 1, with_defects(ArchiveDefect.WRONG_CASE)) as (_, client):
        for instrument, words in ((SPOT, {"true", "false"}), (UM, {"True", "False"})):
            (text,) = texts_in((await client.get(file_path(instrument, DAY))).content).values()
            lines = [line for line in text.splitlines() if line != HEADER]
            assert {line.split(",")[6] for line in lines} == words


@pytest.mark.parametrize(
    ("defect", "instrument", "day", "digits"),
    [
        (ArchiveDefect.MILLIS, SPOT, DAY, 13),
        (ArchiveDefect.MICROS, SPOT, date(2024, 12, 31), 16),
        (ArchiveDefect.MICROS, UM, DAY, 16),
    ],
)
async def test_times_can_be_against_the_date(defect: ArchiveDefect, instrument: Any, day: date, digits: int) -> None:
    async with served_days(day, 1, with_defects(defect)) as (exchange, client):
        content = (await client.get(file_path(instrument, day))).content
        assert_frame_equal(rows_in(content), rows_of_day(exchange, instrument, day))
    (text,) = texts_in(content).values()
    assert {len(line.split(",")[5]) for line in text.splitlines() if line != HEADER} == {digits}


async def test_two_members_hold_the_day_together() -> None:
    async with served_days(DAY, 1, with_defects(ArchiveDefect.TWO_CSVS)) as (exchange, client):
        for instrument in INSTRUMENTS:
            content = (await client.get(file_path(instrument, DAY))).content
            assert [len(text.splitlines()) >= 150 for text in texts_in(content).values()] == [True, True]
            assert_frame_equal(rows_in(content), rows_of_day(exchange, instrument, DAY))


async def test_a_wrong_checksum_is_well_formed_but_not_the_files() -> None:
    async with served_days(DAY, 1, with_defects(ArchiveDefect.WRONG_CHECKSUM)) as (exchange, client):
        sha256, _, name = (await client.get(file_path(SPOT, DAY) + ".CHECKSUM")).text.partition("  ")
        content = (await client.get(file_path(SPOT, DAY))).content
        assert_frame_equal(rows_in(content), rows_of_day(exchange, SPOT, DAY))
    assert (len(bytes.fromhex(sha256)), name) == (32, f"{NAME}.zip")
    assert sha256 != hashlib.sha256(content).hexdigest()


async def test_a_cut_zip_has_the_sum_of_what_is_left() -> None:
    async with served_days(DAY, 1, with_defects(ArchiveDefect.CUT_ZIP)) as (_, client):
        await assert_sum_is_right(client)
        cut = (await client.get(file_path(SPOT, DAY))).content
    async with served_days(DAY, 1) as (_, client):
        whole = (await client.get(file_path(SPOT, DAY))).content
    assert cut == whole[: len(whole) * 2 // 3]


async def test_a_cut_transfer_ends_before_the_announced_bytes() -> None:
    async with served_days(DAY, 1, with_defects(ArchiveDefect.CUT_TRANSFER)) as (_, client):
        assert (await client.get(file_path(SPOT, DAY) + ".CHECKSUM")).status_code == 200
        announced = int((await client.head(file_path(SPOT, DAY))).headers["content-length"])
        for _ in range(2):
            pieces: list[bytes] = []
            with pytest.raises(httpx.RemoteProtocolError):
                await receive(client, file_path(SPOT, DAY), pieces)
            assert 0 < sum(map(len, pieces)) < announced


@pytest.mark.parametrize("defects", [[], [ArchiveDefect.TRUNCATED_DAY]])
async def test_a_republished_file_changes_after_the_first_download(defects: list[ArchiveDefect]) -> None:
    async with served_days(FIRST, 2, with_defects(ArchiveDefect.REPUBLISHED, *defects)) as (exchange, client):
        path, right = file_path(SPOT, DAY), rows_of_day(exchange, SPOT, DAY)
        sums = [(await client.get(path + ".CHECKSUM")).text for _ in range(2)]
        head = await client.head(path)
        first = await client.get(path)
        sums.append((await client.get(path + ".CHECKSUM")).text)
        second, third = await client.get(path), await client.get(path)
        other_day = await archived(client, SPOT, FIRST)
    assert sums[0] == sums[1] == f"{hashlib.sha256(first.content).hexdigest()}  {NAME}.zip"
    assert sums[2] == f"{hashlib.sha256(second.content).hexdigest()}  {NAME}.zip"
    assert not rows_in(first.content).equals(right)
    assert_frame_equal(rows_in(second.content), right)
    assert second.content == third.content
    assert head.headers["etag"] == first.headers["etag"] != second.headers["etag"]
    assert first.headers["last-modified"] != second.headers["last-modified"]
    assert other_day.height > 0


@pytest.mark.parametrize("suffix", ["", ".CHECKSUM"])
async def test_a_missing_day_and_a_captive_page(suffix: str) -> None:
    """The most exact key decides, also with an empty list."""
    options = ExchangeOptions(
        archive_defects={
            "*": [ArchiveDefect.MISSING],
            "spot:BTCUSDT": [ArchiveDefect.HTML_200],
            "spot:BTCUSDT/2026-01-01": [],
        }
    )
    async with served_days(FIRST, 2, options) as (_, client):
        answers = [
            await client.get(file_path(instrument, day) + suffix)
            for instrument, day in ((UM, DAY), (SPOT, FIRST), (SPOT, DAY))
        ]
    assert [(answer.status_code, answer.headers["content-type"]) for answer in answers[:2]] == [
        (404, "application/xml"),
        (200, "text/html"),
    ]
    assert answers[1].text.startswith("<html>")
    assert answers[2].headers["content-type"] not in {"text/html", "application/xml"}


async def test_ids_that_the_exchange_does_not_have_are_passed_over() -> None:
    """On REST, where a full page stays full, in the archive, and in what the simulator tells of its tape."""
    async with served_days(FIRST, 2) as (exchange, client):
        whole = exchange.visible(SPOT)
        first, url = whole["a"][0], "/api/v3/aggTrades?symbol=BTCUSDT"
        absent = [(first + 10, first + 14), (first + 300, first + 301), (first + 599, first + 599)]
        exchange.options = ExchangeOptions(absent_ids={"spot:BTCUSDT": absent})
        present = [i for i in whole["a"].to_list() if not any(low <= i <= high for low, high in absent)]

        async def ids(query: str) -> list[int]:
            return [row["a"] for row in (await client.get(url + query)).json()]

        assert await ids(f"&fromId={first + 8}&limit=4") == [first + 8, first + 9, first + 15, first + 16]
        assert await ids(f"&fromId={first + 12}&limit=1") == [first + 15]
        assert await ids(f"&fromId={first + 20}&limit=5") == list(range(first + 20, first + 25))
        assert await ids("&limit=1000") == present
        assert await ids("&limit=2") == [first + 597, first + 598]
        assert await ids(f"&fromId={first + 599}") == []
        assert await ids(f"&startTime={whole['T'][0]}&limit=1000") == present
        assert exchange.visible(SPOT)["a"].to_list() == present
        both = pl.concat([await archived(client, SPOT, FIRST), await archived(client, SPOT, DAY)])
        assert both["a"].to_list() == present
        other = await client.get(f"/fapi/v1/aggTrades?symbol=BTCUSDT&fromId={first + 400}&limit=3")
        assert [row["a"] for row in other.json()] == [first + 400, first + 401, first + 402]
