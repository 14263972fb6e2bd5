"""Each hostile answer as a client meets it, read without any protection that a client may have."""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import trio
from polars.testing import assert_frame_equal
from tests.binance_simulator.archive_reader import INSTRUMENTS, file_path, served_days
from tests.binance_simulator.conftest import START_MS

from binance_simulator import (
    HOSTILE_DEFECTS,
    HOSTILE_FAULTS,
    ArchiveDefect,
    Exchange,
    ExchangeOptions,
    Fault,
    FaultPlan,
    Tape,
    open_exchange,
)
from binance_simulator.hostile import bomb
from binance_simulator.oddities import restarted, with_inversion, with_jumps

URL = "/api/v3/aggTrades?symbol=BTCUSDT&fromId=100000&limit=100"
DAY = date(2026, 1, 2)


async def raw_answer(exchange: Exchange, most_bytes: int, path: str = URL) -> bytes:
    """The first bytes that the server sends, headers included."""
    port = int(exchange.url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        received = b""
        with trio.fail_after(20):
            while len(received) < most_bytes and (data := await stream.receive_some(65_536)):
                received += data
    return received


async def met(exchange: Exchange, fault: Fault, times: int = 12) -> list[bytes]:
    """Several answers with the fault: what is drawn differs between them."""
    exchange.options = replace(exchange.options, faults=FaultPlan(share=1, kinds=(fault,)))
    return [await raw_answer(exchange, 2_000_000) for _ in range(times)]


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (Fault.EMPTY_PAGE, 200, b"\r\n\r\n[]"),
        (Fault.LYING_ID, 200, b'[{"a":9223372036854775807,'),
        (Fault.INVALID_SYMBOL, 400, b'"code":-1121'),
        (Fault.STATUS_302, 302, b"location: http://127.0.0.1:9/"),
        (Fault.STATUS_404_HTML, 404, b"<html>"),
        (Fault.STATUS_400_TEXT, 400, b"Bad Request"),
        (Fault.USED_WEIGHT, 200, b"x-mbx-used-weight-1m: 999999999"),
        (Fault.FOREIGN_WEIGHTS, 200, b"x-mbx-used-weight-"),
        (Fault.WRONG_DATE, 200, b"date: Fri, 31 Dec 9999 23:59:59 GMT"),
        (Fault.CHARSET, 200, b"charset=undefined"),
        (Fault.RETRY_AFTER, 429, b"retry-after: " + b"9" * 400),
        (Fault.CHARSET_BAN, 418, b"retry-after: 3600"),
        (Fault.GZIP_BOMB, 200, b"content-encoding: gzip, gzip"),
        (Fault.NESTED_BODY, 200, b"[" * 100_000),
        (Fault.HUGE_NUMBERS, 200, b"9" * 5000),
        (Fault.CONTROL_TEXT, 400, b"\\nWATCHDOG=trigger"),
        (Fault.ABSURD_LIMITS, 200, b'"limit":1' + b"0" * 400),
    ],
)
async def test_every_fault_can_be_met(exchange: Exchange, fault: Fault, status: int, text: bytes) -> None:
    answers = await met(exchange, fault, 40)
    assert {int(answer.split(b" ", 2)[1]) for answer in answers} == {status}
    assert any(text in answer for answer in answers)
    assert {record.fault for record in exchange.requests} == {fault}


def test_every_hostile_fault_is_tested_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert not [fault for fault in HOSTILE_FAULTS if f"Fault.{fault.name}" not in source]
    assert not [defect for defect in HOSTILE_DEFECTS if f"ArchiveDefect.{defect.name}" not in source]


async def test_half_of_a_page_is_right_rows(exchange: Exchange, client: httpx.AsyncClient) -> None:
    exchange.options = replace(exchange.options, faults=FaultPlan(by_number={1: Fault.SHORT_PAGE}))
    assert [row["a"] for row in (await client.get(URL)).json()] == list(range(100_000, 100_050))


async def test_a_body_without_an_end_goes_on_until_the_client_leaves(exchange: Exchange) -> None:
    exchange.options = replace(exchange.options, faults=FaultPlan(share=1, kinds=(Fault.ENDLESS_BODY,)))
    received = await raw_answer(exchange, 3_000_000)
    assert len(received) >= 3_000_000
    assert b"transfer-encoding: chunked" in received.lower()
    exchange.options = replace(exchange.options, faults=FaultPlan())
    assert (await raw_answer(exchange, 100)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("codings", [1, 2, 3])
def test_a_bomb_unpacks_to_a_gigabyte(codings: int) -> None:
    packed = bomb(codings)
    for _ in range(codings - 1):
        packed = zlib.decompress(packed, 31)
    unpacker, total = zlib.decompressobj(31), 0
    while packed:
        total += len(unpacker.decompress(packed, 2**24))
        packed = unpacker.unconsumed_tail
    assert (total, unpacker.eof) == (2**30, True)
    assert len(bomb(codings)) < 2**21


async def test_a_capped_page_is_the_beginning_of_the_whole_one(exchange: Exchange, client: httpx.AsyncClient) -> None:
    whole = (await client.get(URL)).json()
    exchange.options = replace(exchange.options, page_cap=30)
    assert (await client.get(URL)).json() == whole[:30]


async def test_replicas_lag_at_random_or_by_connection(exchange: Exchange, client: httpx.AsyncClient) -> None:
    newest = "/api/v3/aggTrades?symbol=BTCUSDT&limit=1"
    exchange.options = replace(exchange.options, replica_lags_s=(0.0, 1800.0))
    by_chance = {(await client.get(newest)).json()[0]["a"] for _ in range(30)}
    assert len(by_chance) == 2
    exchange.options = replace(exchange.options, sticky_replicas=True)
    assert len({(await client.get(newest)).json()[0]["a"] for _ in range(30)}) == 1
    of_others = set()
    for _ in range(20):
        async with httpx.AsyncClient(base_url=exchange.url, timeout=60) as other:
            of_others.add((await other.get(newest)).json()[0]["a"])
    assert of_others == by_chance


async def test_jumps_leave_the_trades_and_widen_the_ids(make_frame: Callable[..., pl.DataFrame]) -> None:
    frame = make_frame(list(range(10, 110)), list(range(100)))
    jumped = with_jumps(frame, jumps=7, longest=1_000_000, seed=3)
    assert_frame_equal(jumped.drop("a"), frame.drop("a"))
    steps = jumped["a"].diff().drop_nulls()
    assert (jumped["a"][0], (steps > 1).sum(), steps.min()) == (10, 7, 1)
    assert Tape.from_frame(jumped).ids[-1] > 109


async def test_ids_that_begin_again_are_answered_from_the_new_ones(make_frame: Callable[..., pl.DataFrame]) -> None:
    """By id only the new ones; by time both, in the order of time."""
    frame = restarted(make_frame(list(range(500, 510)), [START_MS + n for n in range(10)]), START_MS + 6)
    tape = Tape.from_frame(frame, restarts=True)
    async with (
        open_exchange({"spot:BTCUSDT": tape}, clock_ms=lambda: START_MS + 60_000) as exchange,
        httpx.AsyncClient(base_url=f"{exchange.url}/api/v3/", timeout=60) as client,
    ):

        async def ids(**query: Any) -> list[int]:
            rows = (await client.get("aggTrades", params={"symbol": "BTCUSDT"} | query)).json()
            return [row["a"] for row in rows]

        assert await ids(fromId=0) == [0, 1, 2, 3]
        assert await ids(fromId=505) == []
        assert await ids(startTime=START_MS) == [500, 501, 502, 503, 504, 505, 0, 1, 2, 3]
        assert await ids(limit=1) == [3]


def test_an_inversion_swaps_the_trades_beside_midnight(make_frame: Callable[..., pl.DataFrame]) -> None:
    frame = make_frame(list(range(6)), [START_MS + n for n in (-3, -2, -1, 4, 5, 6)])
    inverted = with_inversion(frame, START_MS, rows=2)
    assert (inverted["T"] - START_MS).to_list() == [-3, -2, 0, -1, -1, 6]
    assert inverted["a"].to_list() == frame["a"].to_list()


@pytest.mark.parametrize("defect", [ArchiveDefect.BZIP2, ArchiveDefect.LZMA, ArchiveDefect.MANY_MEMBERS])
async def test_foreign_methods_and_crowds_are_zips(defect: ArchiveDefect) -> None:
    async with served_days(DAY, 1, ExchangeOptions(archive_defects={"*": [defect]})) as (_, client):
        content = (await client.get(file_path(INSTRUMENTS[0], DAY))).content
    with zipfile.ZipFile(io.BytesIO(content)) as container:
        methods = {entry.compress_type for entry in container.infolist()}
        if defect is ArchiveDefect.MANY_MEMBERS:
            assert len(container.namelist()) == 20_001
            return
        assert methods == {zipfile.ZIP_BZIP2 if defect is ArchiveDefect.BZIP2 else zipfile.ZIP_LZMA}
        with pytest.raises(Exception):  # noqa: B017 - whichever error the method has for damaged data
            container.read(container.namelist()[0])


@pytest.mark.parametrize("defect", [ArchiveDefect.ZIP_BOMB, ArchiveDefect.LONG_LINE, ArchiveDefect.OVERLAPPING])
async def test_bombs_are_small_and_unpack_without_an_end(defect: ArchiveDefect) -> None:
    async with served_days(DAY, 1, ExchangeOptions(archive_defects={"*": [defect]})) as (_, client):
        content = (await client.get(file_path(INSTRUMENTS[0], DAY))).content
    assert len(content) < 20_000_000
    with zipfile.ZipFile(io.BytesIO(content)) as container:
        assert sum(entry.file_size for entry in container.infolist()) >= 2**30 or defect is ArchiveDefect.OVERLAPPING
        with container.open(container.namelist()[0]) as member:
            start = member.read(200_000)
        assert (b"\n" in start) == (defect is not ArchiveDefect.LONG_LINE)
        assert (len(container.infolist()) == 30_000) == (defect is ArchiveDefect.OVERLAPPING)


async def test_checksums_and_sizes_that_lie() -> None:
    path = file_path(INSTRUMENTS[0], DAY)
    async with served_days(DAY, 1) as (exchange, client):
        options = exchange.options
        exchange.options = replace(options, archive_defects={"*": [ArchiveDefect.BLANK_CHECKSUM]})
        assert len((await client.get(f"{path}.CHECKSUM")).content) > 20_000
        exchange.options = replace(options, archive_defects={"*": [ArchiveDefect.WRONG_SIZE]})
        announced = int((await client.head(path)).headers["content-length"])
        assert announced < len((await client.get(path)).content)
        for defect, end in ((ArchiveDefect.ENDLESS_CHECKSUM, ".CHECKSUM"), (ArchiveDefect.ENDLESS_FILE, "")):
            exchange.options = replace(options, archive_defects={"*": [defect]})
            assert len(await raw_answer(exchange, 3_000_000, path + end)) >= 3_000_000


@pytest.mark.parametrize(
    "names",
    [Fault, ArchiveDefect, [field.name for field in fields(ExchangeOptions)]],
    ids=["faults", "defects", "options"],
)
def test_the_reference_names_all_that_can_be_set(names: Iterable[str]) -> None:
    reference = Path(__file__).parents[2] / "docs" / "reference-embedded-exchange.md"
    rows = reference.read_text(encoding="utf-8").splitlines()
    assert not [name for name in names if not any(row.startswith(f"| `{name}` | ") for row in rows)]
