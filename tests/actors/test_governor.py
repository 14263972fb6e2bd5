"""The governor: its inbox in the test's hands, its budget real, time virtual."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_util import AsyncValue

from backfilld.actors.governor import SHOWN_EVERY_S, GovernorStatistics, run_governor
from backfilld.actors.messages import StopRequested
from backfilld.actors.permits import (
    AcquireWeight,
    GovernorMessage,
    PauseUntil,
    PermitSlot,
    ReportUsage,
    ReturnPermit,
    SetLimits,
)
from backfilld.core.markets import Pool
from backfilld.core.model import Instrument, Market
from backfilld.core.weight.budget import Budget
from backfilld.core.weight.fair_queue import Rank
from backfilld.core.weight.limits import Limit
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.server_clock import ServerClock
from backfilld.core.weight.usage import Ticket
from backfilld.core.weight.weights import WeightTable
from backfilld.errors import RateLimited
from backfilld.ports import Usage
from tests.fakes import BTC, ETH

SERVER_MS = 1_762_473_610_000
"""Ten seconds past a minute: the server's time at virtual 0."""
WEIGHT = 20
SLACK_S = 0.08
"""The guard after an edge, and the drift that a minute may hold."""


@dataclass
class Desk:
    """A governor at work: what can be said to it, and what it shows."""

    send: trio.MemorySendChannel[GovernorMessage]
    budgets: dict[Pool, Budget]
    shown: AsyncValue[GovernorStatistics] = field(default_factory=lambda: AsyncValue({}))

    def ask(self, weight: int = WEIGHT, market: Market = Market.SPOT, **about: Any) -> PermitSlot:
        """Ask for leave; the budgets here know endpoints that are named by their weight."""
        slot = PermitSlot()
        self.send.send_nowait(AcquireWeight(market, str(weight), slot, **about))
        return slot

    def pause(self, until_ms: float | None, *, reason: Reason = Reason.LIMITED) -> None:
        self.send.send_nowait(PauseUntil(Market.SPOT, until_ms, reason))

    def report(self, ticket: Ticket | None, usage: Usage, received_ms: float) -> None:
        assert ticket is not None
        self.send.send_nowait(ReportUsage(Market.SPOT, ticket, usage, received_ms))


def clock_of(server_ms: float = SERVER_MS) -> ServerClock:
    return ServerClock(server_ms, server_ms, trio.current_time() * 1000)


def _budget(limit: int, share: float) -> Budget:
    weights = WeightTable({str(weight): weight for weight in range(200)})
    return Budget([Limit(limit, 1, "MINUTE")], share, clock_of(), weights=weights)


@asynccontextmanager
async def governing(
    *,
    limit: int = 100,
    share: float = 1.0,
    pools: int = 1,
    max_in_flight: int = 1000,
) -> AsyncIterator[Desk]:
    """A governor of the first ``pools``: spot, futures. Its inbox is closed at the end; that it ends then is
    checked."""
    send, inbox = trio.open_memory_channel[GovernorMessage](math.inf)
    budgets = {pool: _budget(limit, share) for pool in list(Pool)[:pools]}
    desk = Desk(send, budgets)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_governor, inbox, budgets, max_in_flight, desk.shown)
        yield desk
        send.close()


async def granted(slots: list[PermitSlot]) -> list[bool]:
    await wait_all_tasks_blocked()
    return [slot.answered.is_set() and slot.ticket is not None for slot in slots]


async def ticket_of(slot: PermitSlot) -> Ticket | None:
    await slot.answered.wait()
    return slot.ticket


async def test_permits_are_given_at_once_while_there_is_room_and_in_the_order_of_asking(
    autojump_clock: MockClock,
) -> None:
    async with governing() as desk:
        slots = [desk.ask() for _ in range(4)] + [desk.ask(30), desk.ask(WEIGHT)]
        assert await granted(slots) == [True] * 4 + [False, False], "a cheap request overtook a dear one"
        assert trio.current_time() == 0
        assert [slot.ticket and slot.ticket.weight for slot in slots[:4]] == [WEIGHT] * 4


async def test_who_finds_no_room_waits_for_the_servers_next_minute(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        first = desk.ask(100)
        second, third = desk.ask(), desk.ask()
        await first.answered.wait()
        desk.report(first.ticket, Usage({"1m": 100}), 0.0)
        await second.answered.wait()
        assert 50 < trio.current_time() < 50 + SLACK_S
        assert await granted([second, third]) == [True, True]


async def test_who_waited_longest_is_first_in_the_next_minute(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        desk.report(await ticket_of(desk.ask(100)), Usage({"1m": 100}), 0.0)
        slots = [desk.ask(40) for _ in range(3)]
        await slots[0].answered.wait()
        assert await granted(slots) == [True, True, False]
        for slot in slots[:2]:
            desk.report(slot.ticket, Usage({"1m": 80}), trio.current_time() * 1000)
        await slots[2].answered.wait()
        assert 110 < trio.current_time() < 110 + SLACK_S


async def test_what_the_exchange_counts_of_others_is_counted(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        first = desk.ask()
        await first.answered.wait()
        desk.report(first.ticket, Usage({"1m": 90}), 0.0)
        second = desk.ask()
        assert await granted([second]) == [False]
        await second.answered.wait()
        assert trio.current_time() > 50


async def test_an_answer_tells_the_time_of_the_next_minute(autojump_clock: MockClock) -> None:
    """The server says that only two seconds of its minute are left."""
    async with governing() as desk:
        desk.budgets[Pool.SPOT].clock = ServerClock.assumed(0.0, SERVER_MS, error_ms=60_000)
        first = desk.ask(100)
        await first.answered.wait()
        desk.report(first.ticket, Usage({"1m": 100}, server_ms=SERVER_MS + 48_000, precision_ms=1), 0.0)
        second = desk.ask()
        await second.answered.wait()
        assert 2 < trio.current_time() < 2 + SLACK_S


async def test_a_pause_with_a_time_holds_everyone_until_then(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        desk.pause(7_000)
        slots = [desk.ask(), desk.ask(), desk.ask()]
        await slots[0].answered.wait()
        assert trio.current_time() == pytest.approx(7, abs=1e-6)
        assert await granted(slots) == [True, False, False], "the first one after a pause goes alone"
        desk.report(slots[0].ticket, Usage(), 7_000)
        assert await granted(slots) == [True, True, True]


async def test_after_a_pause_one_goes_alone_until_one_has_been_accepted(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        desk.pause(7_000)
        slots = [desk.ask() for _ in range(4)]
        refused = await ticket_of(slots[0])
        assert refused is not None
        desk.send.send_nowait(PauseUntil(Market.SPOT, 9_000, Reason.LIMITED))
        desk.send.send_nowait(ReportUsage(Market.SPOT, refused, Usage(), 7_100, accepted=False))
        lost = await ticket_of(slots[1])
        assert lost is not None
        assert trio.current_time() == pytest.approx(9, abs=1e-6)
        desk.send.send_nowait(ReportUsage(Market.SPOT, lost, Usage(), 9_100, accepted=False))
        assert await granted(slots) == [True, True, True, False]


async def test_who_will_not_wait_for_a_pause_learns_of_it_at_once(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        desk.pause(120_000, reason=Reason.BANNED)
        hasty, patient = desk.ask(patience_s=60.0), desk.ask(patience_s=180.0)
        assert await granted([hasty, patient]) == [False, False]
        assert hasty.answered.is_set()
        assert isinstance(hasty.refusal, RateLimited)
        assert hasty.refusal.banned
        assert "banned us for another 120 s" in str(hasty.refusal)


async def test_ranks_go_first_and_instruments_take_turns(autojump_clock: MockClock) -> None:
    async with governing(limit=20) as desk:
        taken = desk.ask(20)
        await granted([taken])
        order: list[str] = []

        async def wait(name: str, rank: Rank, claimant: Instrument) -> None:
            slot = desk.ask(20, rank=rank, claimant=claimant)
            await slot.answered.wait()
            order.append(name)
            desk.report(slot.ticket, Usage(), trio.current_time() * 1000)

        async with trio.open_nursery() as nursery:
            for name, rank, claimant in (
                ("older", Rank.OLDER, BTC),
                ("busy 1", Rank.TODAY, BTC),
                ("busy 2", Rank.TODAY, BTC),
                ("quiet", Rank.TODAY, ETH),
                ("top-up", Rank.TOP_UP, BTC),
            ):
                nursery.start_soon(wait, name, rank, claimant)
                await wait_all_tasks_blocked()
            desk.report(taken.ticket, Usage(), 0)
        assert order == ["top-up", "busy 1", "quiet", "busy 2", "older"]


async def test_a_larger_weight_that_headers_teach_is_charged_from_then_on(autojump_clock: MockClock) -> None:
    async with governing(limit=1000) as desk:
        for n in range(1, 10):
            slot = desk.ask(4)
            desk.report(await ticket_of(slot), Usage({"1m": 8 * n}), 0)
            await wait_all_tasks_blocked()
        slot = desk.ask(4)
        ticket = await ticket_of(slot)
        assert ticket is not None
        assert ticket.weight == 8
        assert desk.shown.value[Pool.SPOT].learned == {"4": 8}


async def test_a_ban_is_never_shortened_by_a_later_pause(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        desk.pause(120_000, reason=Reason.BANNED)
        desk.pause(None)
        slot = desk.ask()
        await slot.answered.wait()
        assert trio.current_time() == pytest.approx(120, abs=1e-6)


async def test_a_pause_without_a_time_holds_everyone_until_the_next_minute(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        desk.pause(None)
        slot = desk.ask()
        await slot.answered.wait()
        assert 50 < trio.current_time() < 50 + SLACK_S


@pytest.mark.parametrize("until_ms", [1234.567, 33_333.333333, 0.1 + 0.2, 59_999.999999999])
async def test_a_pause_to_any_instant_ends_there_late_in_the_life_of_a_daemon(
    until_ms: float, autojump_clock: MockClock
) -> None:
    """A wait that is rounded to nothing would turn the loop on the spot, where virtual time stands still."""
    await trio.sleep_until(1_000_000.1)
    start_ms = trio.current_time() * 1000
    async with governing() as desk:
        desk.pause(start_ms + until_ms)
        await desk.ask().answered.wait()
        assert trio.current_time() * 1000 == pytest.approx(start_ms + until_ms, abs=1e-3)


async def test_pools_have_budgets_of_their_own(autojump_clock: MockClock) -> None:
    async with governing(pools=2) as desk:
        spot, waiting, um = desk.ask(100), desk.ask(), desk.ask(100, Market.UM)
        assert await granted([spot, waiting, um]) == [True, False, True]


async def test_markets_that_share_a_budget_spend_it_together_and_take_turns(autojump_clock: MockClock) -> None:
    """As USD-M and COIN-M do since 2026: apart they would spend twice the limit, which ends in a ban."""
    async with governing(pools=2) as desk:
        um, cm = desk.ask(60, Market.UM), desk.ask(60, Market.CM)
        assert await granted([um, cm]) == [True, False]
        later = desk.ask(10, Market.UM)
        assert await granted([cm, later]) == [False, False], "a later request of the other market must not overtake"
        assert um.ticket is not None
        desk.send.send_nowait(ReturnPermit(Market.UM, um.ticket))
        assert await granted([cm, later]) == [True, True]


async def test_who_went_away_gets_nothing_and_holds_nobody_up(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        first = desk.ask(90)
        abandoned, patient = desk.ask(50), desk.ask(10)
        assert await granted([first, abandoned, patient]) == [True, False, False]
        abandoned.abandoned = True
        desk.send.send_nowait(SetLimits(Market.SPOT, (Limit(100, 1, "MINUTE"),)))
        assert await granted([abandoned, patient]) == [False, True]
        assert abandoned.ticket is None


async def test_a_permit_that_was_not_used_makes_room_for_the_next(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        first, second = desk.ask(100), desk.ask(100)
        assert await granted([first, second]) == [True, False]
        assert first.ticket is not None
        desk.send.send_nowait(ReturnPermit(Market.SPOT, first.ticket))
        assert await granted([second]) == [True]
        assert trio.current_time() == 0


async def test_limits_from_the_exchange_take_effect_at_once(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        slots = [desk.ask(100), desk.ask(100)]
        assert await granted(slots) == [True, False]
        desk.send.send_nowait(SetLimits(Market.SPOT, (Limit(200, 1, "MINUTE"),)))
        assert await granted(slots) == [True, True]


async def test_a_stop_releases_all_who_wait_with_empty_hands(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        held, waiting = desk.ask(100), [desk.ask(), desk.ask()]
        assert await granted([held, *waiting]) == [True, False, False]
        desk.send.send_nowait(StopRequested())
        await wait_all_tasks_blocked()
        late = desk.ask()
        await wait_all_tasks_blocked()
        assert all(slot.answered.is_set() and slot.ticket is None for slot in [*waiting, late])
        assert trio.current_time() == 0


async def test_levels_show_what_is_used_of_what_is_allowed(autojump_clock: MockClock) -> None:
    async with governing(share=0.8) as desk:
        await desk.ask(30).answered.wait()
        await trio.sleep(SHOWN_EVERY_S)
        await wait_all_tasks_blocked()
        level = desk.shown.value[Pool.SPOT]
        assert (level.used, level.allowed, level.limit, level.interval, level.paused_ms) == (30, 80, 100, "1m", 0)
        desk.pause(5_000)
        await wait_all_tasks_blocked()
        assert desk.shown.value[Pool.SPOT].paused_ms == 5_000 - SHOWN_EVERY_S * 1000
        desk.send.send_nowait(SetLimits(Market.SPOT, ()))
        await wait_all_tasks_blocked()
        assert desk.shown.value[Pool.SPOT].limit == 6000, "none named means that the documented ones stay"


async def test_levels_are_published_four_times_a_second_and_a_pause_at_once(autojump_clock: MockClock) -> None:
    """A request more or less is of no consequence while others are on their way; what a restart must know is."""
    async with governing(limit=10_000) as desk:
        long = desk.ask(1)
        published = 0
        async with trio.open_nursery() as watching:

            async def count() -> None:
                nonlocal published
                async for _ in desk.shown.eventual_values():
                    published += 1

            watching.start_soon(count)
            for _ in range(100):
                slot = desk.ask(1)
                desk.report(await ticket_of(slot), Usage(), trio.current_time() * 1000)
                await trio.sleep(0.01)
            assert 4 <= published <= 7, "in a second"
            before = published
            desk.pause(5_000)
            await wait_all_tasks_blocked()
            assert published == before + 1
            watching.cancel_scope.cancel()
        desk.report(long.ticket, Usage(), trio.current_time() * 1000)
        await wait_all_tasks_blocked()
        assert desk.shown.value[Pool.SPOT].answers == {"1": {"accepted": 101}}, "what is over is shown at once"


async def test_it_ends_when_its_inbox_does_though_someone_waits(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        desk.ask(100)
        desk.ask()
        await wait_all_tasks_blocked()
    assert trio.current_time() == 0


async def test_nothing_to_govern_does_not_fail(autojump_clock: MockClock) -> None:
    async with governing(pools=0) as desk:
        desk.send.send_nowait(StopRequested())
        await wait_all_tasks_blocked()
        assert desk.shown.value == {}


async def test_no_more_than_so_many_requests_are_on_their_way(autojump_clock: MockClock) -> None:
    async with governing(pools=2, max_in_flight=2) as desk:
        spot, um = list(Market)[:2]
        first, second, third, fourth = (desk.ask(1, each) for each in (spot, um, spot, um))
        assert await granted([first, second, third, fourth]) == [True, True, False, False]
        desk.report(first.ticket, Usage(), 0)
        assert await granted([third, fourth]) == [True, False]
        assert second.ticket is not None
        desk.send.send_nowait(ReturnPermit(um, second.ticket))
        assert await granted([fourth]) == [True]


# -- other programs


async def test_clients_use_up_their_share_and_then_the_backfill_goes_on(autojump_clock: MockClock) -> None:
    """Half of 100 is theirs; a client that must wait for the next minute holds nobody up."""
    async with governing() as desk:
        slots = [desk.ask(25, rank=Rank.CLIENT) for _ in range(3)]
        older = desk.ask(30, rank=Rank.OLDER)
        assert await granted([*slots, older]) == [True, True, False, True]
        await trio.sleep(SHOWN_EVERY_S)
        await wait_all_tasks_blocked()
        level = desk.shown.value[Pool.SPOT]
        assert (level.clients, level.own, level.used) == (50, 30, 80)
        for slot in (*slots[:2], older):
            desk.report(slot.ticket, Usage(), 0)
        await slots[2].answered.wait()
        assert 50 < trio.current_time() < 50 + SLACK_S


async def test_clients_go_before_the_backfill_and_after_top_ups(autojump_clock: MockClock) -> None:
    async with governing(limit=60, max_in_flight=100) as desk:
        taken = desk.ask(60)
        await granted([taken])
        order: list[Rank] = []

        async def wait(rank: Rank) -> None:
            await desk.ask(30, rank=rank).answered.wait()
            order.append(rank)

        async with trio.open_nursery() as nursery:
            for rank in (Rank.OLDER, Rank.TODAY, Rank.CLIENT, Rank.TOP_UP, Rank.HEAL):
                nursery.start_soon(wait, rank)
                await wait_all_tasks_blocked()
            assert taken.ticket is not None
            desk.send.send_nowait(ReturnPermit(Market.SPOT, taken.ticket))
            await wait_all_tasks_blocked()
            assert set(order) == {Rank.HEAL, Rank.TOP_UP}
            desk.send.send_nowait(SetLimits(Market.SPOT, (Limit(90, 1, "MINUTE"),)))
            await wait_all_tasks_blocked()
            assert order[2:] == [Rank.CLIENT]
            nursery.cancel_scope.cancel()


async def test_a_client_learns_at_once_when_weight_will_not_be_there_in_time(autojump_clock: MockClock) -> None:
    async with governing() as desk:
        desk.report(await ticket_of(desk.ask(100)), Usage({"1m": 100}), 0.0)
        hasty, patient = (desk.ask(20, rank=Rank.CLIENT, until_s=until_s) for until_s in (8.0, 55.0))
        assert await granted([hasty, patient]) == [False, False]
        assert isinstance(hasty.refusal, RateLimited)
        assert hasty.refusal.retry_after_s == pytest.approx(50, abs=SLACK_S)
        assert not patient.answered.is_set()


async def test_requests_of_clients_on_their_way_do_not_take_the_place_of_ours(autojump_clock: MockClock) -> None:
    async with governing(max_in_flight=1) as desk:
        slots = [desk.ask(1, rank=rank) for rank in (Rank.CLIENT, Rank.CLIENT, Rank.TODAY)]
        assert await granted(slots) == [True, False, True]


async def test_the_most_urgent_request_of_all_pools_goes_first(autojump_clock: MockClock) -> None:
    """While fewer may be on their way than could be paid for."""
    async with governing(pools=2, max_in_flight=1) as desk:
        first = desk.ask(1)
        slots = [desk.ask(1, Market.SPOT, rank=Rank.OLDER), desk.ask(1, Market.UM, rank=Rank.HEAL)]
        assert await granted([first, *slots]) == [True, False, False]
        desk.report(first.ticket, Usage(), 0)
        assert await granted(slots) == [False, True]
