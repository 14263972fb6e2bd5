"""How a request is made for a base URL: what goes out is what httpx would have sent."""

import httpx
import pytest

from backfilld.adapters.routes import Route

TARGET = "/api/v3/aggTrades?symbol=%E5%B8%81&fromId=7&limit=1000"


@pytest.mark.parametrize(
    "base",
    [
        "https://api.binance.com",
        "http://127.0.0.1:8080",
        "https://host:8443/binance",
        "http://[::1]:80",
        "http://user@h",
    ],
)
def test_our_own_requests_are_those_that_httpx_makes(base: str) -> None:
    route = Route(base, dict)
    ours, theirs = route.get(TARGET), route.get(TARGET, {})
    assert isinstance(ours.stream, httpx.AsyncByteStream)
    assert ours.method == theirs.method
    assert ours.headers.raw == theirs.headers.raw
    for part in ("raw_scheme", "raw_host", "port", "raw_path"):
        assert getattr(ours.url, part) == getattr(theirs.url, part), part


def test_headers_of_another_program_are_added() -> None:
    request = Route("http://h", dict).get('/x?"', {"x-mbx-time-unit": "MICROSECOND"})
    assert request.headers["x-mbx-time-unit"] == "MICROSECOND"
    assert request.headers["accept-encoding"] == "gzip"
    assert request.url.raw_path == b"/x?%22"
