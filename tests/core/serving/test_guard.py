"""Whom the endpoint answers: what a browser on this machine could be made to ask is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.serving.addresses import hosts_answered
from backfilld.core.serving.guard import MOST_URL_BYTES, Head, denial, is_signed

HOSTS = hosts_answered(["trades.lan"])


def asked(path: str = "/", query: str = "", method: str = "GET", **headers: str) -> str | None:
    given = {"host": "localhost:8190"} | {name.replace("_", "-"): value for name, value in headers.items()}
    found = denial(Head(method, path, query, list(given.items())), HOSTS)
    return None if found is None else found.reason


def test_an_ordinary_request_is_answered() -> None:
    assert asked() is None
    assert asked(method="HEAD") is None
    assert asked(host="TRADES.LAN") is None
    assert asked(origin="http://localhost:8190", sec_fetch_site="same-origin") is None
    assert asked(x_mbx_apikey="of the sdk, which sends it with public calls too") is None


@pytest.mark.parametrize(
    ("reason", "given"),
    [
        ("host", {"host": "evil.example"}),
        ("host", {"host": "localhost.evil.example:8190"}),
        ("host", {"host": "trades.lan."}),
        ("host", {"host": ":8190"}),
        ("origin", {"origin": "null"}),
        ("origin", {"origin": "http://evil.example"}),
        ("origin", {"origin": "http://localhost:1"}),
        ("origin", {"origin": "file://localhost:8190"}),
        ("origin", {"sec_fetch_site": "cross-site"}),
        ("method", {"method": "POST"}),
        ("method", {"method": "get"}),
        ("body", {"content_length": "1"}),
        ("body", {"transfer_encoding": "chunked"}),
        ("url", {"query": "x" * (MOST_URL_BYTES + 1)}),
        ("headers", {"x": "y" * 16_384}),
    ],
)
def test_the_reason_of_a_refusal(reason: str, given: dict[str, str]) -> None:
    assert asked(**given) == reason


def test_two_hosts_are_none() -> None:
    head = Head("GET", "/", "", [("host", "localhost"), ("host", "localhost")])
    found = denial(head, HOSTS)
    assert found is not None
    assert found.reason == "host"


@pytest.mark.parametrize(("name", "other"), [("origin", "http://localhost"), ("sec-fetch-site", "none")])
def test_two_origins_are_nobody_s(name: str, other: str) -> None:
    head = Head("GET", "/", "", [("host", "localhost"), (name, "https://evil.example"), (name, other)])
    found = denial(head, HOSTS)
    assert found is not None
    assert found.reason == "origin"


@given(st.text(max_size=20), st.sampled_from(["signature", "SIGNATURE", "Signature", "%73ignature", "listenKey"]))
def test_a_signature_anywhere_in_the_query_is_seen(before: str, name: str) -> None:
    plain = "".join(each for each in before if each.isalnum())
    assert is_signed("/api/v3/klines", f"{plain}=1&{name}=x")


@pytest.mark.parametrize(
    "path", ["/sapi/v1/x", "/papi/v1/x", "/wapi/v3/x", "/api/v3/order/test", "/API/v3/../v3/order"]
)
def test_paths_of_an_account_are_seen(path: str) -> None:
    assert is_signed(path, "") == ("/../" not in path)
