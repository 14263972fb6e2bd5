"""The archive: what it publishes, in which shape and when, and that it costs nothing."""

import csv
import hashlib
import io
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
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

from binance_simulator import ExchangeOptions, Fault, FaultPlan, Pool, Tape, open_exchange
from binance_simulator.archive_listing import ListingQuery, listing_page
from binance_simulator.model import Instrument, Market, day_stop_ms

SPOT = INSTRUMENTS[0]
NEW_YEAR = date(2025, 1, 1)
RECORDED = Path(__file__).parents[3] / "shared" / "data" / "spot" / "BTCUSDT-aggTrades-2026-01-01.first5000.csv"
NAMESPACE = {"s3": "http://s3.amazonaws.com/doc/2006-03-01/"}
FORMS = {
    "id": r"\d+",
    "decimal of eight digits": r"\d+\.\d{8}",
    "milliseconds": r"\d{13}",
    "microseconds": r"\d{16}",
    "boolean": r"true|false",
    "Boolean": r"True|False",
}


def shapes(text: str) -> set[tuple[str, ...]]:
    """The forms of the columns; more than one element if rows differ."""

    def form(value: str) -> str:
        return next((name for name, pattern in reversed(FORMS.items()) if re.fullmatch(pattern, value)), value)

    return {tuple(form(value) for value in line) for line in csv.reader(io.StringIO(text))}


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=str)
@pytest.mark.parametrize("day", [date(2022, 8, 10), date(2022, 8, 11), date(2024, 12, 31), NEW_YEAR], ids=str)
async def test_a_day_is_the_tapes_rows_in_the_markets_form(instrument: Instrument, day: date) -> None:
    async with served_days(day - timedelta(days=1), 3) as (exchange, client):
        (text,) = texts_in((await client.get(file_path(instrument, day))).content).values()
        assert_frame_equal(await archived(client, instrument, day), rows_of_day(exchange, instrument, day))
    lines = text.splitlines()
    assert text.endswith("\n")
    if instrument.market is Market.SPOT:
        assert {len(line.split(",")) for line in lines} == {8}
        assert {len(line.split(",")[5]) for line in lines} == {16 if day >= NEW_YEAR else 13}
        assert {line.split(",")[6] for line in lines} == {"True", "False"}
        assert {line.split(",")[7] for line in lines} == {"True"}
    else:
        assert (lines[0] == HEADER) is (day >= date(2022, 8, 11))
        assert {len(line.split(",")) for line in lines} == {7}
        values = [line.split(",") for line in lines if line != HEADER]
        assert len(values) == 300
        assert {len(line[5]) for line in values} == {13}
        assert {line[6] for line in values} == {"true", "false"}


async def test_microseconds_have_a_rest_and_stay_in_order() -> None:
    async with served_days(NEW_YEAR, 1) as (_, client):
        (text,) = texts_in((await client.get(file_path(SPOT, NEW_YEAR))).content).values()
    times_us = [int(line[5]) for line in csv.reader(io.StringIO(text))]
    assert times_us == sorted(times_us)
    assert len({time_us % 1000 for time_us in times_us}) > 50


async def test_a_days_form_is_that_of_the_recorded_day() -> None:
    """But for marker rows, of which the recorded day has none."""
    if not RECORDED.exists():
        pytest.skip("the recorded archive day is not here: it belongs to the exchange, not to this repository")
    day = date(2026, 1, 1)
    async with served_days(day, 1) as (_, client):
        ((name, text),) = texts_in((await client.get(file_path(SPOT, day))).content).items()
    assert name == "BTCUSDT-aggTrades-2026-01-01.csv"
    without_markers = "".join(line for line in text.splitlines(keepends=True) if ",-1,-1," not in line)
    assert shapes(without_markers) == shapes(RECORDED.read_text())


async def test_the_files_say_what_they_are() -> None:
    """One member of the same stem, the sum in the archive's form, published at eight the next morning."""
    async with served_days(NEW_YEAR, 2) as (_, client):
        answer = await client.get(file_path(SPOT, NEW_YEAR))
        checksum = await client.get(file_path(SPOT, NEW_YEAR) + ".CHECKSUM")
    assert list(texts_in(answer.content)) == ["BTCUSDT-aggTrades-2025-01-01.csv"]
    expected = f"{hashlib.sha256(answer.content).hexdigest()}  BTCUSDT-aggTrades-2025-01-01.zip"
    assert checksum.content == expected.encode()
    assert len(checksum.content) == 98
    for each in (answer, checksum):
        assert parsedate_to_datetime(each.headers["last-modified"]) == datetime(2025, 1, 2, 8, tzinfo=UTC)
        assert each.headers["content-length"] == str(len(each.content))
        assert re.fullmatch(r'"[0-9a-f]{32}"', each.headers["etag"])
        assert "content-encoding" not in each.headers


async def test_head_tells_the_same_without_a_body() -> None:
    async with served_days(NEW_YEAR, 1) as (exchange, client):
        for path in (file_path(SPOT, NEW_YEAR), file_path(SPOT, NEW_YEAR) + ".CHECKSUM", "/data/none"):
            got, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.headers) == (got.status_code, got.headers)
            assert head.content == b""
        assert [record.bytes > 0 for record in exchange.archive_requests] == [True, False] * 3


async def test_equal_tapes_give_equal_files() -> None:
    contents = []
    for _ in range(2):
        async with served_days(NEW_YEAR, 1) as (_, client):
            contents.append((await client.get(file_path(SPOT, NEW_YEAR))).content)
    assert contents[0] == contents[1]


async def test_a_day_appears_when_it_is_over_and_the_delay_has_passed(clock: Any) -> None:
    day = date(2026, 1, 1)
    tape = Tape.generate_days(first_day=day, stop_ms=day_stop_ms(day), trades_per_day=50, live_rate_per_s=0.001)
    options = ExchangeOptions(archive_delay_s=3600)
    async with (
        open_exchange({SPOT: tape}, options, clock_ms=clock) as exchange,
        httpx.AsyncClient(base_url=exchange.url, timeout=60) as client,
    ):
        for clock.now_ms, expected in ((day_stop_ms(day) + 3_599_999, 404), (day_stop_ms(day) + 3_600_000, 200)):
            for suffix in ("", ".CHECKSUM"):
                assert (await client.get(file_path(SPOT, day) + suffix)).status_code == expected
        clock.now_ms = day_stop_ms(day) + 25 * 3_600_000
        grown = await archived(client, SPOT, date(2026, 1, 2))
        assert grown["T"].is_between(day_stop_ms(day), day_stop_ms(day) + 86_399_999).all()
        assert grown["a"][0] == tape.ids[50]


@pytest.mark.parametrize(
    "path",
    [
        file_path(SPOT, date(2024, 12, 31)),
        file_path(Instrument(Market.SPOT, "ETHUSDT"), NEW_YEAR),
        file_path(SPOT, NEW_YEAR).replace("2025-01-01", "2025-13-01"),
        file_path(SPOT, NEW_YEAR).replace("daily", "monthly"),
        file_path(SPOT, NEW_YEAR) + ".sha256",
        "/data/spot",
    ],
)
async def test_what_is_not_there_is_refused_as_s3_refuses_it(path: str) -> None:
    async with served_days(NEW_YEAR, 1) as (_, client):
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/xml")
    error = ET.fromstring(answer.content)
    assert (error.findtext("Code"), error.findtext("Key")) == ("NoSuchKey", path[1:])


async def test_a_symbol_of_any_script_is_found_percent_encoded(clock: Any) -> None:
    instrument, day = Instrument(Market.UM, "币安人生USDT"), date(2026, 1, 1)
    tape = Tape.generate_days(first_day=day, stop_ms=day_stop_ms(day), trades_per_day=50)
    clock.now_ms = day_stop_ms(day) + 86_400_000
    async with (
        open_exchange({instrument: tape}, clock_ms=clock) as exchange,
        httpx.AsyncClient(base_url=exchange.url, timeout=60) as client,
    ):
        answer = await client.get(file_path(instrument, day))
        assert b"%E5%B8%81" in answer.request.url.raw_path
        assert_frame_equal(rows_in(answer.content), tape.frame)
        checksum = await client.get(file_path(instrument, day) + ".CHECKSUM")
        assert checksum.text.endswith("  币安人生USDT-aggTrades-2026-01-01.zip")


async def test_a_row_out_of_time_stands_in_the_day_of_its_time(make_frame: Any, clock: Any) -> None:
    """Rows keep the order of their ids; the day is cut by T alone."""
    midnight_ms = day_stop_ms(NEW_YEAR)
    times_ms = [midnight_ms - 5, midnight_ms - 9, midnight_ms + 7, midnight_ms - 3, midnight_ms]
    clock.now_ms = midnight_ms + 3 * 86_400_000
    tapes = {SPOT: Tape.from_frame(make_frame([1, 2, 3, 4, 5], times_ms))}
    async with (
        open_exchange(tapes, clock_ms=clock) as exchange,
        httpx.AsyncClient(base_url=exchange.url, timeout=60) as client,
    ):
        assert (await archived(client, SPOT, NEW_YEAR))["a"].to_list() == [1, 2, 4]
        assert (await archived(client, SPOT, date(2025, 1, 2)))["a"].to_list() == [3, 5]


async def test_the_archive_costs_no_weight_and_has_its_own_log() -> None:
    async with served_days(NEW_YEAR, 1) as (exchange, client):
        length = len((await client.get(file_path(SPOT, NEW_YEAR))).content)
        await client.get("/data/none")
        await client.get("/?prefix=data/&delimiter=/")
        assert not exchange.requests
        assert not any(meter.windows for meter in exchange.weights.values())
        requests = (await client.get("/simulator/archive-requests")).json()
        assert requests[0] == {
            "number": 1,
            "arrived_ms": exchange.now_ms(),
            "method": "GET",
            "path": file_path(SPOT, NEW_YEAR),
            "status": 200,
            "bytes": length,
        }
        assert [(entry["number"], entry["path"], entry["status"]) for entry in requests[1:]] == [
            (2, "/data/none", 404),
            (3, "/?prefix=data/&delimiter=/", 200),
        ]
        assert len(exchange.archive_requests) == 3


async def test_a_kept_file_does_not_outlive_the_options_it_was_made_of() -> None:
    async with served_days(NEW_YEAR, 1) as (exchange, client):
        for absent in exchange.visible(SPOT)["a"].head(2):
            exchange.options = ExchangeOptions(absent_ids={"spot:BTCUSDT": [(absent, absent)]})
            found = await archived(client, SPOT, NEW_YEAR)
            assert_frame_equal(found, exchange.visible(SPOT))
            assert absent not in found["a"]


async def test_a_ban_does_not_concern_the_archive() -> None:
    async with served_days(NEW_YEAR, 1) as (exchange, client):
        exchange.ban(Pool.SPOT, 60)
        assert (await client.get(file_path(SPOT, NEW_YEAR))).status_code == 200


async def test_faults_meet_requests_by_their_number() -> None:
    async with served_days(NEW_YEAR, 1) as (exchange, client):
        path = file_path(SPOT, NEW_YEAR)
        await client.get(path)
        plan = FaultPlan(by_number={1: Fault.STATUS_503_HTML, 2: Fault.RESET, 3: Fault.CUT_BODY})
        exchange.options = replace(exchange.options, archive_faults=plan)
        assert (await client.get(path)).status_code == 503
        with pytest.raises(httpx.TransportError):
            await client.get(path)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)
        assert (await client.get(path)).status_code == 200
        assert [record.status for record in exchange.archive_requests] == [200, 503, 0, 200, 200]


async def test_its_options_can_be_set_over_http() -> None:
    changes = {
        "archive_delay_s": 60,
        "archive_latency_s": 0.001,
        "archive_defects": {"spot:BTCUSDT/2025-01-01": ["truncated_day", "wrong_checksum"]},
        "archive_faults": {"by_number": {"2": "status_500"}},
        "absent_ids": {"spot:BTCUSDT": [[3_800_397_500, 3_800_397_509]]},
    }
    async with served_days(NEW_YEAR, 1) as (exchange, client):
        answer = await client.post("/simulator/options", json=changes)
        assert answer.status_code == 200, answer.text
        assert answer.json() == (await client.get("/simulator/options")).json()
        assert (await archived(client, SPOT, NEW_YEAR)).height == (300 - 10) * 2 // 5
        assert (await client.get(file_path(SPOT, NEW_YEAR))).status_code == 500
        wrong: list[dict[str, Any]] = [
            {"archive_defects": {"spot:BTCUSDT/2025-01-01": ["unheard_of"]}},
            {"archive_defects": {"spot:BTCUSDT/yesterday": ["missing"]}},
            {"archive_defects": {"BTCUSDT": ["missing"]}},
            {"absent_ids": {"spot:BTCUSDT": [[9, 8]]}},
        ]
        before = exchange.options
        for each in wrong:
            assert (await client.post("/simulator/options", json=each)).status_code == 400
        assert exchange.options is before


async def listed(client: httpx.AsyncClient, **query: Any) -> ET.Element:
    answer = await client.get("/", params={key.replace("_", "-"): value for key, value in query.items()})
    assert answer.headers["content-type"] == "application/xml"
    return ET.fromstring(answer.content)


async def test_the_listing_names_each_published_file_with_its_size() -> None:
    async with served_days(NEW_YEAR, 3, ExchangeOptions(archive_delay_s=86_400)) as (_, client):
        found = await listed(client, prefix="data/spot/daily/aggTrades/BTCUSDT/", delimiter="/")
        days = [date(2025, 1, 1), date(2025, 1, 2)]
        keys = [entry.text for entry in found.findall("s3:Contents/s3:Key", NAMESPACE)]
        assert keys == [file_path(SPOT, day)[1:] + suffix for day in days for suffix in ("", ".CHECKSUM")]
        for entry in found.findall("s3:Contents", NAMESPACE):
            answer = await client.get("/" + (entry.findtext("s3:Key", "", NAMESPACE)))
            assert entry.findtext("s3:Size", "", NAMESPACE) == str(len(answer.content))
            assert entry.findtext("s3:ETag", "", NAMESPACE) == answer.headers["etag"]
        assert found.findtext("s3:Contents/s3:LastModified", "", NAMESPACE) == "2025-01-03T00:00:00.000Z"
        folders = await listed(client, prefix="data/futures/", delimiter="/")
        prefixes = [entry.text for entry in folders.findall("s3:CommonPrefixes/s3:Prefix", NAMESPACE)]
        assert prefixes == ["data/futures/cm/", "data/futures/um/"]
        under_its_name = await client.get("/data.binance.vision?prefix=data/&delimiter=/&max-keys=many")
        assert under_its_name.status_code == 400


async def test_the_listing_is_paged_by_its_marker() -> None:
    async with served_days(NEW_YEAR, 3) as (_, client):
        keys: list[str] = []
        for _ in range(4):
            page = await listed(client, prefix="data/spot/", max_keys=4, marker=keys[-1] if keys else "")
            keys += [entry.text or "" for entry in page.findall("s3:Contents/s3:Key", NAMESPACE)]
            if page.findtext("s3:IsTruncated", "", NAMESPACE) == "false":
                break
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys) == 6


@given(
    keys=st.sets(st.text("ab/é", min_size=1, max_size=5)),
    prefix=st.text("ab/", max_size=2),
    delimiter=st.sampled_from(["", "/"]),
    most=st.integers(1, 3),
)
def test_pages_join_to_all_keys_and_prefixes(keys: set[str], prefix: str, delimiter: str, most: int) -> None:
    query, found = ListingQuery(prefix, delimiter, "", most), list[str]()
    while True:
        page = listing_page(keys, query)
        assert len(page.keys) + len(page.common_prefixes) <= most
        found += [*page.keys, *page.common_prefixes]
        if not page.is_truncated:
            break
        query = replace(query, marker=page.next_marker or page.keys[-1])
    whole = listing_page(keys, replace(query, marker="", max_keys=1000))
    assert sorted(found) == sorted([*whole.keys, *whole.common_prefixes])
    assert {key for key in keys if key.startswith(prefix)} == {
        key for key in keys if key in whole.keys or any(key.startswith(each) for each in whole.common_prefixes)
    }
