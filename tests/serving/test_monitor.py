"""The endpoint's own routes over a socket: statuses, headers, and what changes is sent."""

import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import structlog
import trio
from trio.testing import MockClock

from backfilld.core.sync.spec import Reload
from backfilld.core.sync.standing import Standing, Statistics
from backfilld.serving.endpoint import run_endpoint
from backfilld.serving.monitor.events import Changes, events
from backfilld.serving.monitor.routes import POLICY
from tests.fakes import BTC, SOL
from tests.serving.serving import Served, serving, world_with


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as up:
        yield up


async def test_the_page_comes_with_its_policy(served: Served) -> None:
    status, headers, body = await served.get("/")
    assert (status, headers["content-security-policy"]) == (200, POLICY)
    assert "unsafe" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert b"<h2" in body


@pytest.mark.parametrize("name", ["page.js", "page.css", "uplot.js", "uplot.css", "icon.svg"])
async def test_its_files_come_with_their_types(served: Served, name: str) -> None:
    status, headers, body = await served.get(f"/static/{name}")
    wanted = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[name.partition(".")[2]]
    assert (status, headers["content-type"].partition(";")[0]) == (200, wanted)
    assert body


async def test_an_instrument_that_is_not_kept_is_refused_without_being_repeated(served: Served) -> None:
    for path in ("/?instrument=spot:NONEUSDT", "/events?instrument=%3Cscript%3E", "/?instrument="):
        status, _, body = await served.get(path)
        assert status == 400
        assert b"script" not in body


async def test_ready_is_503_with_reasons_until_all_is_complete(served: Served) -> None:
    status, _, body = await served.get("/readyz")
    assert (status, json.loads(body)) == (503, {"ready": False, "reasons": ["spot:BTCUSDT: not complete yet"]})
    for wrong in ("soon", "nan", "inf", "-1", ""):
        assert (await served.get(f"/readyz?max_lag={wrong}"))[0] == 400


async def test_ready_is_503_as_soon_as_what_is_stored_is_old(served: Served) -> None:
    standing = Standing(is_complete=True, complete_at=trio.current_time() - 70)
    served.world.pipeline.statistics.value = Statistics(standings={BTC: standing})
    status, _, body = await served.get("/readyz")
    assert (status, json.loads(body)["reasons"]) == (503, ["spot:BTCUSDT: 70 s behind, more than 60 s"])
    assert (await served.get("/readyz?max_lag=80"))[0] == 200
    fresh = Standing(is_complete=True, complete_at=trio.current_time())
    served.world.pipeline.statistics.value = Statistics(standings={BTC: fresh})
    assert (await served.get("/readyz"))[0] == 200
    # What was once stored is not older because the last round was not complete.
    served.world.pipeline.statistics.value = Statistics(standings={BTC: standing})
    assert (await served.get("/readyz"))[0] == 200


async def test_one_instrument_that_lags_makes_no_other_old(served: Served) -> None:
    """As where the futures are out of reach, and spot is not."""
    pipeline, now = served.world.pipeline, trio.current_time()
    pipeline.reload.value = Reload(replace(pipeline.spec, instruments=(BTC, SOL)))
    lost, kept = Standing(complete_at=now - 300), Standing(is_complete=True, complete_at=now)
    pipeline.statistics.value = Statistics(standings={BTC: kept, SOL: lost})
    reasons = json.loads((await served.get("/readyz"))[2])["reasons"]
    assert reasons == [f"{SOL}: 300 s since it was complete, more than 60 s"]


async def test_alive_is_answered(served: Served) -> None:
    status, _, body = await served.get("/healthz")
    assert (status, json.loads(body)) == (200, {"alive": True})


async def test_metrics_come_as_text_and_as_openmetrics(served: Served) -> None:
    _, headers, body = await served.get("/metrics")
    assert headers["content-type"].startswith("text/plain")
    assert b"backfilld_build_info" in body
    _, headers, body = await served.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


async def test_a_page_is_sent_everything_and_then_what_changed() -> None:
    world = world_with()
    stream = events(Changes(world.watch), BTC)
    assert (await anext(stream)).startswith(b"retry:")
    first = json.loads((await anext(stream)).removeprefix(b"data: "))
    assert {"verdict", "now", "row-spot-BTCUSDT", "holes-rows"} <= first["parts"].keys()
    assert not [name for name in first["parts"] if name.endswith("-drawn")]
    assert world.pipeline.live is None
    with trio.fail_after(5):
        second = json.loads((await anext(stream)).removeprefix(b"data: "))
    assert set(second["parts"]) == {"now"}
    await stream.aclose()  # type: ignore[attr-defined]


async def test_answers_are_counted_by_their_route(served: Served) -> None:
    for path in ("/", "/static/page.js", "/static/uplot.js", "/readyz", "/nowhere"):
        await served.get(path)
    text = (await served.get("/metrics"))[2].decode()
    for route, status, count in (("/", 200, 1), ("/static/", 200, 2), ("/readyz", 503, 1), ("other", 404, 1)):
        line = f'backfilld_api_requests_total{{route="{route}",source="own",status="{status}"}} {count}.0'
        assert line in text.splitlines(), line


async def test_a_port_that_is_taken_is_a_sentence_and_tried_again(
    autojump_clock: MockClock,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, structlog.testing.capture_logs() as logs:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        world = world_with(api_listen=address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_endpoint, world)
            await trio.sleep(25)
            world.pipeline.stop.set()
    rule = "it must be an address that is free: Address already in use"
    assert [line["error"] for line in logs] == [f"api_listen = {address}: {rule} (from an argument)"] * 3
