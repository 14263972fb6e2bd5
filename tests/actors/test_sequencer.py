"""The sequencer, its connections and healers in the test's hands: what goes out, what is asked, and when."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_util import AsyncValue

from backfilld.actors.live_announcements import LiveClock
from backfilld.actors.live_messages import (
    ConnectionName,
    HoleGivenUp,
    PublisherMessage,
    Resubscribe,
    SequencerMessage,
    StreamEnded,
    StreamHeard,
    StreamOpened,
    TradesSequenced,
)
from backfilld.actors.messages import (
    FetchJob,
    Job,
    JobAnswered,
    JobFailed,
    MergerMessage,
    PageFetched,
    PagesStreamed,
    SchedulerMessage,
    SpecChanged,
    Spent,
    StopRequested,
    SyncAction,
    SyncEvent,
)
from backfilld.actors.sequencer import MOST_DEATHS, run_sequencer
from backfilld.actors.sequencer_ports import SequencerPorts
from backfilld.core.backfill.questions import NOTHING, Tail
from backfilld.core.day.certificate import STREAM
from backfilld.core.live.attachment import LONGEST_PAUSE_S
from backfilld.core.live.patience import Times
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.live.sequence import STEP_MS
from backfilld.core.live.trades import frame_of, neighbour_of
from backfilld.core.model import IdRange, Instrument, Market
from backfilld.core.sync.events import Arrived, IsFollowed, Offer, PassedOver
from backfilld.core.sync.spec import LiveSpec, RunSpec
from backfilld.errors import RateLimited, TransientError, UnexpectedAnswer
from backfilld.ports import StreamBatch
from tests.core.live.test_sequence import trade
from tests.fakes import BTC, ETH, drained

NOW_MS = trade(100_000).T
URLS = dict.fromkeys(Market, ("ws://first", "ws://second"))


def spec_of(*instruments: Instrument) -> RunSpec:
    return RunSpec(instruments, 5, live=LiveSpec(URLS, Times(poll_s=30, silence_s=60, patience_s=30)))


@dataclass
class Desk:
    """The sequencer with every channel in the test's hands."""

    nursery: trio.Nursery
    pages_room: float = math.inf
    started: list[tuple[ConnectionName, str, Sequence[Instrument]]] = field(default_factory=list)
    commands: list[trio.MemoryReceiveChannel[Resubscribe]] = field(default_factory=list)
    shown: AsyncValue[LiveStatistics] = field(default_factory=lambda: AsyncValue(LiveStatistics()))

    def __post_init__(self) -> None:
        self.inbox, inbox = trio.open_memory_channel[SequencerMessage](math.inf)
        jobs, self.jobs = trio.open_memory_channel[Job](math.inf)
        pages, self.pages = trio.open_memory_channel[MergerMessage](self.pages_room)
        events, self.events = trio.open_memory_channel[SchedulerMessage](math.inf)
        publisher, self.published = trio.open_memory_channel[PublisherMessage](math.inf)
        self.ports = SequencerPorts(inbox, jobs, pages, events, publisher)

    def start(self, *instruments: Instrument) -> None:
        clock = LiveClock(lambda: NOW_MS, lambda market, wall_ms: wall_ms + 500.0 * (market is Market.SPOT))
        self.nursery.start_soon(
            run_sequencer, self.ports, spec_of(*instruments), self._listen, clock, lambda: 0.5, self.shown
        )

    def _listen(
        self, name: ConnectionName, url: str, instruments: Sequence[Instrument]
    ) -> trio.MemorySendChannel[Resubscribe]:
        self.started.append((name, url, instruments))
        send, receive = trio.open_memory_channel[Resubscribe](math.inf)
        self.commands.append(receive)
        return send

    async def tell(self, *messages: SequencerMessage) -> None:
        for message in messages:
            await self.inbox.send(message)
        await wait_all_tasks_blocked()

    async def attached(self, next_id: int = 10) -> ConnectionName:
        """BTC attached, from that id on."""
        self.start(BTC)
        await trio.sleep(1)
        name = self.started[-1][0]
        await self.tell(StreamOpened(name))
        await trio.sleep(6)
        await self.tell(SyncAction(BTC, Offer(next_id)))
        return name

    async def hear(self, name: ConnectionName, *trade_ids: int) -> None:
        await self.tell(StreamHeard(name, StreamBatch({BTC: [trade(each) for each in trade_ids]})))

    async def answer(self, *trade_ids: int) -> FetchJob:
        """Answer the question that is open."""
        job = self.jobs.receive_nowait()
        assert isinstance(job, FetchJob)
        page = [PageFetched(BTC, frame_of([trade(each) for each in trade_ids]))] if trade_ids else []
        await self.tell(*page, JobAnswered(job, NOTHING, Spent()))
        return job

    def out(self) -> list[int]:
        """The ids that went to the subscribers since this was last asked."""
        got = drained(self.published)
        return [each.a for message in got if isinstance(message, TradesSequenced) for each in message.trades]


@pytest.fixture
def desk(nursery: trio.Nursery, autojump_clock: MockClock) -> Desk:
    return Desk(nursery)


async def test_trades_go_to_subscribers_at_once_and_gathered_to_the_merger_and_then_the_scheduler(
    autojump_clock: MockClock, desk: Desk
) -> None:
    name = await desk.attached()
    await desk.hear(name, 10)
    await desk.hear(name, 11, 12)
    assert desk.out() == [10, 11, 12]
    assert drained(desk.pages) == []
    await trio.sleep(1)
    (message,) = drained(desk.pages)
    assert isinstance(message, PagesStreamed)
    (page,) = message.pages
    assert page.trades["a"].to_list() == [10, 11, 12]
    assert page.source == STREAM
    followed, arrived = drained(desk.events)
    assert followed == SyncEvent(BTC, IsFollowed())
    assert isinstance(arrived, SyncEvent)
    assert isinstance(arrived.event, Arrived)
    assert arrived.event.found.ids == IdRange(10, 12)


async def test_nothing_goes_out_past_a_hole_until_rest_has_filled_it(autojump_clock: MockClock, desk: Desk) -> None:
    name = await desk.attached()
    with capture_logs() as logs:
        await desk.hear(name, 10, 13, 14)
        assert desk.out() == [10]
        await trio.sleep(0.3)
        job = await desk.answer(11, 12, 13)
    assert job.query.first_id == 11  # type: ignore[union-attr]
    assert desk.out() == [11, 12, 13, 14]
    events = [entry["event"] for entry in logs]
    assert events == ["live_hole_found", "live_hole_healed"]
    assert (logs[1]["first_id"], logs[1]["last_id"], logs[1]["requests"]) == (11, 12, 1)


async def test_what_is_shown_names_the_open_hole_then_how_long_it_stood_and_the_newest_trade(
    autojump_clock: MockClock, desk: Desk
) -> None:
    name = await desk.attached()
    await desk.hear(name, 10, 12)
    await trio.sleep(2)
    open_hole = desk.shown.value.instruments[BTC]
    assert open_hole.hole_since_s is not None
    assert open_hole.hole_since_s > 1
    assert open_hole.last == trade(10)
    await desk.answer(11, 12)
    await trio.sleep(2)
    shown = desk.shown.value
    assert (shown.instruments[BTC].hole_since_s, shown.instruments[BTC].last) == (None, trade(12))
    (report,) = shown.holes
    assert (report.instrument, report.ids, report.requests, report.is_healed) == (BTC, IdRange(11, 11), 1, True)
    assert shown.heal_seconds.count == 1
    assert shown.heal_seconds.total == pytest.approx(report.seconds)


@pytest.mark.parametrize(("event_ms", "lag_ms"), [(NOW_MS + 480, 20.0), (NOW_MS + 503, 0.0)])
async def test_the_lag_is_by_the_exchanges_clock_and_never_below_zero(
    autojump_clock: MockClock, desk: Desk, event_ms: int, lag_ms: float
) -> None:
    name = await desk.attached()
    await desk.tell(StreamHeard(name, StreamBatch({BTC: [trade(10)]}, event_ms=event_ms)))
    await trio.sleep(2)
    assert desk.shown.value.lag_ms == desk.shown.value.instruments[BTC].lag_ms == lag_ms


async def test_a_hole_that_rest_passes_over_is_given_up_and_everybody_learns_it(
    autojump_clock: MockClock, desk: Desk
) -> None:
    name = await desk.attached()
    await desk.hear(name, 12)
    for _ in range(200):
        await trio.sleep(0.2)
        for job in drained(desk.jobs):
            error = UnexpectedAnswer("rows from 12", absent=(10, 11))
            await desk.tell(JobFailed(job, error, Spent()))
    assert SyncEvent(BTC, PassedOver(IdRange(10, 11))) in drained(desk.events)
    published = drained(desk.published)
    assert HoleGivenUp(BTC, IdRange(10, 11)) in published
    assert desk.shown.value.holes_given_up == 1


async def test_a_lost_connection_is_opened_again_and_its_instruments_are_polled_meanwhile(
    autojump_clock: MockClock, desk: Desk
) -> None:
    name = await desk.attached()
    await desk.hear(name, 10)
    await trio.sleep(2)
    assert desk.shown.value.attached == 1
    await desk.tell(StreamEnded(name, "cut"))
    await trio.sleep(2)
    assert desk.shown.value.attached == 0
    assert len(desk.started) == 2
    await trio.sleep(31)
    job = await desk.answer(11, 12)
    assert job.query.first_id == 11  # type: ignore[union-attr]
    assert desk.out() == [10, 11, 12]


async def test_a_trade_ahead_of_the_clock_does_not_go_out_and_rest_is_asked_beside_the_trade_before_it(
    autojump_clock: MockClock, desk: Desk
) -> None:
    name = await desk.attached()
    early = trade(11, T=NOW_MS + STEP_MS)
    await desk.tell(StreamHeard(name, StreamBatch({BTC: [trade(10), early, trade(12)]})))
    assert desk.out() == [10]
    await trio.sleep(0.3)
    job = await desk.answer(11)
    assert desk.out() == [11, 12]
    assert isinstance(job.query, Tail)
    assert (job.query.first_id, job.query.beside) == (11, (neighbour_of(trade(10)),))
    assert job.latest_ms == NOW_MS + 500


async def test_an_exchange_whose_trades_run_ahead_of_its_clock_is_followed_and_asked_nothing(
    autojump_clock: MockClock, desk: Desk
) -> None:
    """A tape of hours that is played within minutes."""
    name, tape = await desk.attached(), [trade(each, T=NOW_MS + (each - 10) * 60_000) for each in range(10, 200)]
    for start in range(0, len(tape), 2):
        await desk.tell(StreamHeard(name, StreamBatch({BTC: tape[start : start + 2]})))
        await trio.sleep(0.5)
    assert desk.out() == list(range(10, 200))
    with pytest.raises(trio.WouldBlock):
        desk.jobs.receive_nowait()


async def test_a_question_that_fails_is_put_again(autojump_clock: MockClock, desk: Desk) -> None:
    name = await desk.attached()
    await desk.hear(name, 11)
    await trio.sleep(0.3)
    await desk.tell(JobFailed(desk.jobs.receive_nowait(), TransientError("reset"), Spent()))
    await trio.sleep(2)
    await desk.answer(10)
    assert desk.out() == [10, 11]


async def test_the_pages_of_a_long_hole_follow_each_other_without_a_look_at_the_clock(
    autojump_clock: MockClock, desk: Desk
) -> None:
    name = await desk.attached()
    await desk.hear(name, 50_010)
    await trio.sleep(0.3)
    began = trio.current_time()
    for first_id in range(10, 50_010, 1000):
        await desk.answer(*range(first_id, first_id + 1000))
    assert trio.current_time() == began
    assert desk.out() == list(range(10, 50_011))
    assert drained(desk.jobs) == []


async def test_a_ban_during_a_hole_gives_nothing_up(autojump_clock: MockClock, desk: Desk) -> None:
    name = await desk.attached()
    await desk.hear(name, 12)
    refused = 0
    for _ in range(600):
        await trio.sleep(1)
        for job in drained(desk.jobs):
            refused += 1
            await desk.tell(JobFailed(job, RateLimited("banned", retry_after_s=300.0, banned=True), Spent()))
    assert refused <= 600 / LONGEST_PAUSE_S + 1
    assert desk.shown.value.holes_given_up == 0
    await trio.sleep(LONGEST_PAUSE_S)
    await desk.answer(10, 11)
    assert desk.out() == [10, 11, 12]


async def test_an_instrument_that_no_address_brings_does_not_end_the_connections_of_others(
    autojump_clock: MockClock, desk: Desk
) -> None:
    desk.start(BTC, ETH)
    await trio.sleep(1)
    await desk.tell(StreamOpened(desk.started[0][0]))
    await trio.sleep(6)
    await desk.tell(SyncAction(BTC, Offer(10)), SyncAction(ETH, Offer(10)))
    opened = desk.started[0][0]
    for second in range(900):
        await trio.sleep(1)
        newest = desk.started[-1][0]
        if newest != opened:
            opened = newest
            await desk.tell(StreamOpened(newest))
        await desk.tell(StreamHeard(newest, StreamBatch({ETH: [trade(10 + second)]})))
        for job in drained(desk.jobs):
            assert isinstance(job, FetchJob)
            page = frame_of([trade(job.query.first_id)])  # type: ignore[union-attr]
            await desk.tell(PageFetched(job.instrument, page), JobAnswered(job, NOTHING, Spent()))
    assert len(desk.started) == 1 + MOST_DEATHS, "both addresses were tried"
    assert desk.shown.value.attached == 1
    await desk.tell(StreamHeard(desk.started[-1][0], StreamBatch({BTC: [trade(100)]})))
    await trio.sleep(2)
    assert desk.shown.value.attached == 2, "it came after all"


async def test_other_settings_add_and_remove_instruments_without_a_new_connection(
    autojump_clock: MockClock, desk: Desk
) -> None:
    await desk.attached()
    await desk.tell(SpecChanged(spec_of(BTC, ETH)))
    await desk.tell(SpecChanged(spec_of(ETH)))
    assert drained(desk.commands[0]) == [Resubscribe(more=(ETH,)), Resubscribe(less=(BTC,))]
    assert len(desk.started) == 1


async def test_a_merger_that_takes_nothing_keeps_no_subscriber_waiting(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    desk = Desk(nursery, pages_room=1)
    name = await desk.attached()
    for each in range(10, 40):
        await desk.hear(name, each)
        await trio.sleep(0.5)
    assert desk.out() == list(range(10, 40))
    arrived = [each for each in drained(desk.events) if isinstance(each, SyncEvent) and isinstance(each.event, Arrived)]
    assert len(arrived) == 1, "the others are not on their way yet"
    got: list[int] = []
    with trio.move_on_after(60):
        async for message in desk.pages:
            assert isinstance(message, PagesStreamed)
            got += [each for page in message.pages for each in page.trades["a"].to_list()]
    assert got == list(range(10, 40))


async def test_the_stop_hands_over_what_was_gathered_and_ends_connections(
    autojump_clock: MockClock, desk: Desk
) -> None:
    name = await desk.attached()
    await desk.hear(name, 10, 11)
    await desk.tell(StopRequested())
    (message,) = drained(desk.pages)
    assert isinstance(message, PagesStreamed)
    (page,) = message.pages
    assert page.trades["a"].to_list() == [10, 11]
    with pytest.raises(trio.EndOfChannel):
        desk.commands[0].receive_nowait()
    await desk.inbox.aclose()


@pytest.mark.parametrize("settled_s", [0.0, 6.0])
async def test_sixty_quiet_futures_cost_at_most_sixty_weight_in_any_minute_from_the_first(
    autojump_clock: MockClock, desk: Desk, settled_s: float
) -> None:
    quiet = [Instrument.parse(f"um:S{number}USDT") for number in range(60)]
    desk.start(*quiet)
    await trio.sleep(1)
    await desk.tell(StreamOpened(desk.started[0][0]))
    await trio.sleep(settled_s)
    await desk.tell(*(SyncAction(each, Offer(10)) for each in quiet))
    asked_at: list[float] = []
    for _ in range(660):
        await trio.sleep(1)
        for job in drained(desk.jobs):
            asked_at.append(trio.current_time())
            await desk.tell(JobAnswered(job, NOTHING, Spent()))  # type: ignore[arg-type]
    assert desk.shown.value.attached == 60
    assert len(asked_at) > 20
    assert all(later - earlier >= 59 for earlier, later in zip(asked_at, asked_at[3:], strict=False))
