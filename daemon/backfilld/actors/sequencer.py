"""The sequencer: looks after the newest end of every instrument's trades, from streams, with REST for what is missing.

Owns an attachment for each instrument and the groups of connections. Trades leave it once, by id, to subscribers and
to the merger; holes leave it as jobs for the healers, which are fetchers of its own (:mod:`backfilld.actors.healing`).
It waits for nobody: what the merger does not take stays in the outbox.
"""

from collections.abc import Callable

import trio
from trio_util import AsyncValue

from backfilld.actors.healing import Healing, Question
from backfilld.actors.live_announcements import LiveAnnouncements, LiveClock
from backfilld.actors.live_groups import LiveGroups, StartListener
from backfilld.actors.live_messages import (
    Begun,
    HoleGivenUp,
    SequencerMessage,
    StreamEnded,
    StreamHeard,
    StreamOpened,
    TradesSequenced,
    Unfollow,
)
from backfilld.actors.live_outbox import LiveOutbox
from backfilld.actors.messages import (
    FetchJob,
    JobAnswered,
    JobDropped,
    JobFailed,
    PageFetched,
    SpecChanged,
    StopRequested,
    SyncAction,
    SyncEvent,
)
from backfilld.actors.sequencer_ports import SequencerPorts
from backfilld.core.backfill.questions import Found
from backfilld.core.live.attachment import Attachment
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.live.sequence import share_of_early
from backfilld.core.live.trades import LiveTrade
from backfilld.core.model import Instrument
from backfilld.core.sync.events import IsFollowed, Offer, PassedOver
from backfilld.core.sync.spec import RunSpec

TICK_S = 0.05
"""How often holes are looked at while there are some; twice as fast as the youngest of them is asked for."""

QUIET_TICK_S = 0.25
"""How often everything is looked at otherwise."""

MOST_DEATHS = 2
"""Connections that are replaced for an instrument that they do not bring: at each address of the markets with two."""

SHOWN_EVERY_S = 1.0
DRAINED = 200
"""Messages that are handled in a row before the clock is looked at."""


async def run_sequencer(
    ports: SequencerPorts,
    spec: RunSpec,
    start: StartListener,
    clock: LiveClock,
    jitter: Callable[[], float],
    shown: AsyncValue[LiveStatistics],
) -> None:
    """Until the stop; then hand over what is here, and take what listeners and healers still send."""
    async with ports.inbox:
        async with ports.jobs, ports.pages, ports.events, ports.publisher:
            sequencer = _Sequencer(ports, spec, start, clock, jitter, shown)
            try:
                await _run(sequencer, ports.inbox)
            finally:
                sequencer.groups.close()
            await sequencer.outbox.flush_all()
        async for _ in ports.inbox:
            pass


async def _run(sequencer: "_Sequencer", inbox: trio.MemoryReceiveChannel[SequencerMessage]) -> None:
    while not sequencer.is_stopping:
        with trio.move_on_at(sequencer.due_at()):
            try:
                sequencer.handle(await inbox.receive(), trio.current_time())
                for _ in range(DRAINED):
                    sequencer.handle(inbox.receive_nowait(), trio.current_time())
            except trio.WouldBlock:
                pass
            except trio.EndOfChannel:
                return
        sequencer.act(trio.current_time())


class _Sequencer:
    def __init__(
        self,
        ports: SequencerPorts,
        spec: RunSpec,
        start: StartListener,
        clock: LiveClock,
        jitter: Callable[[], float],
        shown: AsyncValue[LiveStatistics],
    ) -> None:
        if spec.live is None:
            raise ValueError("the spec does not say how to follow streams")
        self._ports = ports
        self._shown = shown
        self._times = spec.live.times
        self.groups = LiveGroups(spec.live.urls, start, jitter)
        self.outbox = LiveOutbox(ports.pages, ports.events)
        self.is_stopping = False
        self._attachments: dict[Instrument, Attachment] = {}
        self._clock = clock
        self._announce = LiveAnnouncements(clock)
        self._healing = Healing(ports.jobs, self._announce, clock)
        self._tick_at = self._shown_at = trio.current_time()
        self._follow(spec.instruments, trio.current_time())
        self._show(trio.current_time())

    # -- what happened

    def handle(self, message: SequencerMessage, now: float) -> None:
        match message:
            case StreamHeard():
                self._heard(message, now)
            case StreamOpened():
                self._opened(message, now)
            case StreamEnded():
                self._lost(message, now)
            case SyncAction(instrument, Offer() as offer):
                self._begin(instrument, offer, now)
            case SpecChanged(spec):
                self._apply(spec, now)
            case StopRequested():
                self.is_stopping = True
            case _:
                self._handle_healer(message, now)

    def _handle_healer(self, message: SequencerMessage, now: float) -> None:
        match message:
            case PageFetched(instrument, trades):
                self._healing.fetched(instrument, trades)
            case JobAnswered(FetchJob(instrument), found):
                self._answered(instrument, found, now)
            case JobFailed(FetchJob(instrument), error):
                self._healing.failed(instrument, self._attachments.get(instrument), error, now)
            case JobDropped(FetchJob(instrument)):
                self._healing.failed(instrument, self._attachments.get(instrument), None, now)
            case _:
                pass

    def _heard(self, message: StreamHeard, now: float) -> None:
        batch, group = message.batch, self.groups.group(message.name)
        self._announce.heard(message.name.market, batch, message.overflowed)
        latest_ms = self._clock.latest_ms(message.name.market)
        if group is None:
            return
        if batch.is_ending:
            group.rotation.ending(message.name.number)
        for instrument, trades in batch.trades.items():
            attachment = self._attachments.get(instrument)
            if attachment is not None:
                group.rotation.heard(message.name.number, instrument)
                self._publish(instrument, attachment.heard(trades, now, latest_ms), now)
                self._announce.attached(instrument, attachment)

    def _opened(self, message: StreamOpened, now: float) -> None:
        name, group = message.name, self.groups.group(message.name)
        if group is None:
            return
        group.rotation.opened(name.number, now)
        self._announce.connected(name.market, name.number, len(group.instruments))
        for instrument in group.instruments:
            self._attachments[instrument].opened(now)

    def _lost(self, message: StreamEnded, now: float) -> None:
        group = self.groups.group(message.name)
        self.groups.lost(message.name, message.reason, now)
        if group is None or group.rotation.is_open:
            return
        for instrument in group.instruments:
            self._attachments[instrument].lost()
            self._announce.detached(instrument)

    def _begin(self, instrument: Instrument, offer: Offer, now: float) -> None:
        attachment = self._attachments.get(instrument)
        if attachment is None:
            return
        self._ports.events.send_nowait(SyncEvent(instrument, IsFollowed()))
        if attachment.next_id is not None:
            return
        ready = attachment.begin(offer.next_id, now, offer.last)
        self._ports.publisher.send_nowait(Begun(instrument, offer.next_id))
        self._publish(instrument, ready, now)
        self._announce.attached(instrument, attachment)

    def _answered(self, instrument: Instrument, found: Found, now: float) -> None:
        attachment = self._attachments.get(instrument)
        ready = self._healing.answered(instrument, attachment, found, now)
        if attachment is None or ready is None:
            return
        self._publish(instrument, ready, now)
        self._announce.attached(instrument, attachment)
        self._announce.healed(instrument, attachment.healed(now))
        self._healing.ask_on(instrument, attachment, now)

    def _publish(self, instrument: Instrument, ready: list[LiveTrade], now: float) -> None:
        if ready:
            self.outbox.add(instrument, ready, now)
            self._ports.publisher.send_nowait(TradesSequenced(instrument, ready))

    # -- other instruments

    def _apply(self, spec: RunSpec, now: float) -> None:
        if spec.live is not None:
            self._times = spec.live.times
        for instrument in [each for each in self._attachments if each not in spec.instruments]:
            self.groups.remove(instrument)
            del self._attachments[instrument]
            self._announce.detached(instrument)
            self._ports.publisher.send_nowait(Unfollow(instrument))
        for attachment in self._attachments.values():
            attachment.times = self._times
        self._follow(spec.instruments, now)

    def _follow(self, instruments: tuple[Instrument, ...], now: float) -> None:
        new = [each for each in instruments if each not in self._attachments]
        for instrument in new:
            self._attachments[instrument] = Attachment(self._times, now)
        self.groups.add(new)
        for attachment in self._attachments.values():
            attachment.sequence.most_early = share_of_early(len(self._attachments))
        for instrument in new:
            if self.groups.group_of(instrument).rotation.is_open:
                self._attachments[instrument].opened(now)

    # -- time

    def due_at(self) -> float:
        """When :meth:`act` has something to do."""
        return min(self._tick_at, self.outbox.due_at)

    def act(self, now: float) -> None:
        """Do what is due."""
        if self.outbox.due_at <= now:
            self.outbox.flush(now)
        if self._tick_at > now:
            return
        has_holes = False
        questions: list[Question] = []
        for instrument, attachment in self._attachments.items():
            self._notice(instrument, attachment, now)
            has_holes |= attachment.sequence.hole_since is not None
            ask = attachment.question(now)
            if ask is not None:
                questions.append((instrument, attachment, ask))
        self._healing.ask(questions, now)
        self.groups.act(now)
        self._tick_at = now + (TICK_S if has_holes else QUIET_TICK_S)
        if self._shown_at <= now:
            self._shown_at = now + SHOWN_EVERY_S
            self._show(now)

    def _show(self, now: float) -> None:
        self._shown.value = self._announce.statistics(self._attachments, self.groups.connects, now)

    def _notice(self, instrument: Instrument, attachment: Attachment, now: float) -> None:
        """Do what time alone brings about: a hole is closed or given up, a stream is dead."""
        self._announce.healed(instrument, attachment.healed(now))
        if attachment.is_overdue:
            stood_s = now - (attachment.sequence.hole_since or now)
            ids, is_passed_over, ready = attachment.give_up()
            self._announce.given_up(instrument, ids, stood_s)
            self._ports.publisher.send_nowait(HoleGivenUp(instrument, ids))
            if is_passed_over:
                self._ports.events.send_nowait(SyncEvent(instrument, PassedOver(ids)))
            self._publish(instrument, ready, now)
        if attachment.is_dead(now):
            self._announce.detached(instrument)
            rotation = self.groups.group_of(instrument).rotation
            # One that no address brings is polled; it does not end a connection that serves others.
            if attachment.deaths <= MOST_DEATHS or not rotation.has_heard:
                self._announce.silent(instrument)
                rotation.dead()
