"""The governed client: nothing is sent without a permit, whoever asks; what comes back is reported."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from backfilld.adapters.binance_rest import BinanceRest
from backfilld.adapters.governed import governed
from backfilld.core.backfill.questions import Page, Tail
from backfilld.core.markets import RULES, Pool, markets_of
from backfilld.core.model import IdRange, Market
from backfilld.core.weight.budget import Budget
from backfilld.core.weight.limits import Limit
from backfilld.core.weight.server_clock import ServerClock
from backfilld.core.weight.weights import WeightTable
from backfilld.errors import RateLimited, TransientError
from backfilld.ports import ExchangeClient, Forwarded, NoPermit, Reply, Usage
from backfilld.supervisor_governor import GovernorParts, governor_parts, run_governed
from tests.fakes import BTC, DAY_MS, SOL, FakeExchange, Misbehaviour, Tape, lose, refuse

PAGE = Page(IdRange(0, 9))
START_MS = DAY_MS + 43_200_000


@dataclass
class Scene:
    """A governed client of an exchange."""

    client: ExchangeClient
    exchange: FakeExchange
    room: GovernorParts


@asynccontextmanager
async def governing(exchange: FakeExchange, limit: int = 6000) -> AsyncIterator[Scene]:
    """A governor at work, its clock right."""
    clock = ServerClock(START_MS, START_MS, 0.0)
    room = governor_parts(
        {
            pool: Budget(
                [Limit(limit, 1, "MINUTE")], 1.0, clock, weights=WeightTable(RULES[markets_of(pool)[0]].weights)
            )
            for pool in Pool
        }
    )
    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_governed, room, 5, done.wait)
        async with governed(exchange.open_client, room.handle)() as client:
            yield Scene(client, exchange, room)
        done.set()


def exchange_of(*misbehaves: Misbehaviour) -> FakeExchange:
    return FakeExchange({BTC: Tape.even(3000), SOL: Tape.even(5)}, misbehaves=list(misbehaves))


async def test_a_question_costs_what_it_says_and_is_counted(autojump_clock: MockClock) -> None:
    async with governing(exchange_of()) as scene:
        reply = await scene.client.trades(BTC, PAGE)
        assert (reply.cost.requests, reply.cost.weight) == (1, 4)
        assert (reply.cost.sent_ms, reply.cost.received_ms) == (0, 50)
        await wait_all_tasks_blocked()
        assert scene.room.statistics.value[Pool.SPOT].own == 4


async def test_nothing_is_sent_beyond_the_budget(autojump_clock: MockClock) -> None:
    async with governing(exchange_of(), limit=8) as scene:
        for _ in range(2):
            await scene.client.trades(BTC, PAGE)
        assert trio.current_time() < 1
        await scene.client.trades(BTC, PAGE)
        assert trio.current_time() > 59


async def test_a_request_of_another_program_is_passed_on_under_a_permit(autojump_clock: MockClock) -> None:
    async with governing(exchange_of()) as scene:
        reply = await scene.client.forward(Market.UM, "/fapi/v1/depth?symbol=X", 2, patience_s=8)
        assert isinstance(reply.result, Forwarded)
        assert reply.result.body == b"um /fapi/v1/depth?symbol=X"
        assert reply.cost.weight == 2
        await wait_all_tasks_blocked()
        seen = scene.room.statistics.value[Pool.FUTURES]
        assert (seen.clients, seen.own, seen.used) == (2, 0, 2)


async def test_without_weight_in_time_another_program_learns_when_to_come_back(autojump_clock: MockClock) -> None:
    async with governing(exchange_of(), limit=8) as scene:
        for _ in range(2):
            await scene.client.trades(BTC, PAGE)
        reply = await scene.client.forward(Market.SPOT, "/api/v3/depth", 2, patience_s=8)
        assert isinstance(reply.result, RateLimited)
        assert reply.result.retry_after_s == pytest.approx(60, abs=1)
        assert reply.cost.requests == 0


async def test_a_ban_that_another_programs_request_meets_pauses_everybody(autojump_clock: MockClock) -> None:
    exchange = exchange_of()
    ban = RateLimited("418", retry_after_s=300, banned=True)

    async def banned(market: Market, target: str, headers: Mapping[str, str]) -> Reply[Forwarded]:
        return Reply(Usage(), Forwarded(418, {"retry-after": "300"}, b"{}", ban))

    exchange.forward = banned  # type: ignore[method-assign]
    async with governing(exchange) as scene:
        reply = await scene.client.forward(Market.SPOT, "/api/v3/depth", 2, patience_s=8)
        assert isinstance(reply.result, Forwarded)
        assert reply.result.status == 418
        await scene.client.trades(BTC, PAGE)
        assert trio.current_time() > 300
        assert exchange.described == [("BTCUSDT",)]


async def test_after_a_refusal_the_limits_are_asked_for_first_and_once(autojump_clock: MockClock) -> None:
    """The exchange has halved its limit: one 429, and all that wait keep to the new one."""
    exchange = exchange_of(Misbehaviour(refuse(RateLimited("429", retry_after_s=5))))
    async with governing(exchange, limit=100) as scene:
        assert isinstance((await scene.client.trades(BTC, PAGE)).result, RateLimited)
        exchange.limits = (Limit(70, 1, "MINUTE"),)
        async with trio.open_nursery() as nursery:
            for first_id in range(4):
                nursery.start_soon(scene.client.trades, BTC, Tail(first_id))
        assert exchange.described == [("BTCUSDT",)]
        assert scene.room.budgets[Pool.SPOT].limits == (Limit(70, 1, "MINUTE"),)


async def test_limits_that_could_not_be_read_are_asked_for_again(autojump_clock: MockClock) -> None:
    lost = Misbehaviour(lose(TransientError("timeout")), on=lambda _, query: query is None)
    exchange = exchange_of(Misbehaviour(refuse(RateLimited("429", retry_after_s=5))), lost)
    async with governing(exchange) as scene:
        for _ in range(3):
            await scene.client.trades(BTC, PAGE)
        assert exchange.described == [("BTCUSDT",)] * 2


async def test_once_the_governor_has_ended_nothing_is_sent(autojump_clock: MockClock) -> None:
    exchange = exchange_of()
    async with governing(exchange) as scene:
        client = scene.client
        await client.trades(BTC, PAGE)
    with pytest.raises(NoPermit):
        await client.trades(BTC, PAGE)
    assert len(exchange.asked) == 1


async def test_cancelled_while_it_waits_a_client_gives_its_place_back(autojump_clock: MockClock) -> None:
    async with governing(exchange_of(), limit=8) as scene:
        for _ in range(2):
            await scene.client.trades(BTC, PAGE)
        with trio.move_on_after(1):
            await scene.client.trades(BTC, PAGE)
        await wait_all_tasks_blocked()
        await scene.client.trades(BTC, PAGE)
        assert len(scene.exchange.asked) == 3


@pytest.mark.parametrize("target", ["api/v3/depth", "", "/a b", "/a\r\nX: y", "/a#b", "/" + "a" * 9000])
async def test_what_is_not_a_path_is_never_sent(target: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        await BinanceRest({}, 1.0).forward(Market.SPOT, target, {})
