"""Real answers of the exchange, where they lie beside the repository: decoded to the values in the file."""

import json
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from backfilld.adapters.answer import Answer, headers_in
from backfilld.adapters.binance_answers import decode_info, decode_trades
from backfilld.adapters.binance_refusals import usage_of
from backfilld.core.backfill.answers import check_page
from backfilld.core.backfill.questions import Newest, Page, Tail
from backfilld.core.merge import typed
from backfilld.core.model import IdRange
from backfilld.core.weight.limits import Limit
from backfilld.errors import RateLimited, RequestRejected
from backfilld.ports import MarketInfo
from tests.adapters.conftest import OpenPair
from tests.adapters.raw_server import HTML, response, sent

DATA = Path(__file__).parents[3] / "shared" / "data"
PAGES = [
    "um/CLUSDT-um-2026-05-01.rest.json",
    "rest/spot_BTCUSDT_fromId202790190_limit1000.json",
    "rest/um_LTCUSDT_default_limit500.json",
    "rest/um_BTCUSDT_limit5.json",
    "rest/cm_BTCUSD_PERP_limit5.json",
    "rest/spot_BTCUSDT_2021-10-22_limit10.json",
]


def recorded(name: str) -> Any:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"the recorded answer {name} is not beside this repository")
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", PAGES)
def test_a_recorded_page_is_decoded_to_the_values_in_it_and_accepted(name: str) -> None:
    content = recorded(name)
    rows = content if isinstance(content, list) else content.get("body", content.get("rows"))
    decoded = decode_trades(json.dumps(rows).encode())
    assert_frame_equal(decoded, typed(rows))  # type: ignore[arg-type]
    assert decoded["p"].to_list() == [float(row["p"]) for row in rows]  # type: ignore[index]
    assert decoded["a"].to_list() == [row["a"] for row in rows]  # type: ignore[index]
    first_id, last_id = rows[0]["a"], rows[-1]["a"]
    for query in (Page(IdRange(first_id, last_id)), Tail(first_id), Newest(0, rows=len(rows))):
        check_page(decoded, query)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("market", "limits"),
    [
        ("spot", (Limit(6000, 1, "MINUTE"), Limit(61000, 5, "MINUTE", by_weight=False))),
        ("um", (Limit(2400, 1, "MINUTE"),)),
        ("cm", (Limit(2400, 1, "MINUTE"),)),
    ],
)
def test_the_recorded_limits_are_understood(market: str, limits: tuple[Limit, ...]) -> None:
    """Of weight and of requests; those of orders are not ours."""
    content = recorded(f"rest/{market}_exchangeInfo_rateLimits.json")
    info = decode_info(json.dumps(content | {"symbols": []}).encode(), [])
    assert isinstance(info, MarketInfo)
    assert info.limits == limits


async def test_recorded_error_bodies_are_sorted_by_who_can_act(scripted: OpenPair) -> None:
    """429 and 418 wait, 5xx and 403 are tried again, other refusals are final."""
    for entry in recorded("rest/errors_observed.json")["errors"]:
        status = entry["status"]
        answer = (
            response(status, json.dumps(entry["body"]))
            if "body" in entry
            else response(status, entry["body_excerpt"], HTML)
        )
        async with scripted(sent(answer)) as (client, _):
            result = (await client.market_info(next(iter(["um"])), [])).read()  # type: ignore[arg-type]
        expected = {429: RateLimited, 418: RateLimited, 503: RateLimited, 403: RateLimited}
        assert type(result) is expected.get(status, RequestRejected), entry


@pytest.mark.parametrize(
    ("name", "used"),
    [("rest/headers_and_body_spot_aggTrades_2020-01.json", 9), ("rest/headers_spot_klines_200_2022-01-11.json", 22)],
)
def test_recorded_headers_tell_the_used_weight(name: str, used: int) -> None:
    headers = recorded(name)["headers"]
    pairs = [(key.encode(), str(value).encode()) for key, value in headers.items()]
    answer = Answer("https://api.binance.com", "/api/v3/aggTrades", 200, headers_in(pairs))
    assert usage_of(answer).used == {"1m": used}
    assert usage_of(answer).server_ms == (1_641_935_090_000 if "Date" in headers else None)
