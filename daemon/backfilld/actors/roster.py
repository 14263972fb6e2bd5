"""The roster: all campaigns, whose turn it is, and what is on disk for each.

Owns the set of campaigns for the scheduler: loading them from the store, dealing questions in turn, retiring days.
Must not know channels; the scheduler does.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from datetime import date, timedelta

import structlog

from backfilld.actors.campaign import Campaign, Phase
from backfilld.actors.messages import FetchJob, Statistics
from backfilld.actors.orders import Orders
from backfilld.core.model import Instrument, Market, day_of, day_start_ms
from backfilld.core.outcome import EXIT_SETTINGS, exit_code
from backfilld.core.retention import expired_days
from backfilld.core.turns import Rank
from backfilld.core.window import Window
from backfilld.ports import TradeStore

log = structlog.get_logger()


class Roster:
    """The campaigns of the orders' instruments.

    ``era`` counts how often they were loaded anew: an answer to a job of an older era tells nothing.
    """

    def __init__(self, orders: Orders, store: TradeStore) -> None:
        self.orders = orders
        self._store = store
        self._campaigns: dict[Instrument, Campaign] = {}
        self._turns: deque[Campaign] = deque()
        self.era = -1

    def __iter__(self) -> Iterator[Campaign]:
        return iter(self._campaigns.values())

    def __contains__(self, instrument: Instrument) -> bool:
        return instrument in self._campaigns

    def __getitem__(self, instrument: Instrument) -> Campaign:
        return self._campaigns[instrument]

    async def load(self, today: date, now_ms: int, began_at: float) -> None:
        """Read and check what is on disk, and plan what is missing of the window that ends now."""
        self.era += 1
        for instrument in self.orders.instruments:
            await self.add(instrument, today, now_ms, began_at)

    async def add(self, instrument: Instrument, today: date, now_ms: int, began_at: float) -> Campaign:
        """Plan for one instrument, from what is on disk, in place of the plan there was."""
        self.drop(instrument)
        campaign = await self._load(instrument, today, now_ms, began_at)
        self._campaigns[instrument] = campaign
        self._turns.append(campaign)
        return campaign

    def drop(self, instrument: Instrument) -> None:
        """Forget an instrument's plan, if there is one."""
        campaign = self._campaigns.pop(instrument, None)
        if campaign is not None:
            self._turns.remove(campaign)

    async def obey(self, orders: Orders) -> tuple[Instrument, ...]:
        """Mark the plans that other orders, or other files, leave without ground; return the instruments to add."""
        days_differ = (orders.days, orders.window) != (self.orders.days, self.orders.window)
        self.orders = orders
        for instrument, campaign in self._campaigns.items():
            campaign.is_dismissed = instrument not in orders.instruments
            altered = await self._store.altered(instrument)
            if altered:
                log.info("files_changed", instrument=str(instrument), days=sorted(day.isoformat() for day in altered))
            campaign.is_stale |= days_differ or bool(altered)
        return tuple(each for each in orders.instruments if each not in self._campaigns)

    async def _load(self, instrument: Instrument, today: date, now_ms: int, began_at: float) -> Campaign:
        orders = self.orders
        window = orders.window or Window(day_start_ms(today - timedelta(days=orders.days)))
        stop_ms = window.stop_ms or now_ms
        records = []
        for day in _days(window.start_ms, stop_ms):
            record = await self._store.load(instrument, day)
            if record is not None:
                records.append(record)
            elif not orders.uncached:
                log.info("cache_missed", instrument=str(instrument), day=day.isoformat())
        campaign = Campaign(
            instrument, window, records, now_ms=now_ms, began_at=began_at, max_concurrent=orders.max_concurrent
        )
        campaign.log_start(stop_ms, uncached=orders.uncached)
        return campaign

    def symbols(self) -> dict[Market, tuple[str, ...]]:
        """The symbols of each market."""
        markets = dict.fromkeys(instrument.market for instrument in self._campaigns)
        return {market: tuple(each.symbol for each in self._campaigns if each.market is market) for market in markets}

    def next_job(self, described: Collection[Instrument]) -> FetchJob | None:
        """The most urgent question; campaigns with questions alike take turns.

        Pages are only asked for of instruments whose market's limits are known, which are the ``described`` ones.
        """
        chosen: tuple[Rank, Campaign] | None = None
        for campaign in self._turns:
            rank = campaign.rank(pages=campaign.instrument in described)
            if rank is not None and (chosen is None or rank < chosen[0]):
                chosen = rank, campaign
            if rank is Rank.TOP_UP:
                break
        if chosen is None:
            return None
        rank, campaign = chosen
        query = campaign.take(pages=campaign.instrument in described)
        self._turns.remove(campaign)
        self._turns.append(campaign)
        if query is None:
            return None
        return FetchJob(campaign.instrument, query, campaign.window.stop_ms, self.era, rank)

    def next_round_at(self) -> float:
        """When the next top-up is due, in trio's time."""
        return min((each.rests_until for each in self if each.phase is Phase.RESTING), default=math.inf)

    def is_over(self) -> bool:
        """Whether the orders are done, or no instrument can ever be had as they stand."""
        ended = all(campaign.rounds for campaign in self)
        hopeless = all(campaign.error and exit_code(campaign.error) == EXIT_SETTINGS for campaign in self)
        return ended and (self.orders.once or hopeless)

    async def retire_days(self, today: date) -> None:
        """Delete the days that have outlived their time."""
        for instrument in self._campaigns if self.orders.keep_days else ():
            for day in expired_days(await self._store.days(instrument), today, self.orders.keep_days):
                await self._store.delete(instrument, day)
                self._campaigns[instrument].records.pop(day, None)
                log.info("day_deleted", instrument=str(instrument), day=day.isoformat())

    def statistics(self) -> Statistics:
        """Sums over all campaigns."""
        return Statistics(
            wanted=sum(each.fetched + each.to_fetch for each in self),
            fetched=sum(each.fetched for each in self),
            cached=sum(each.cached for each in self),
            requests=sum(each.requests for each in self),
            weight=sum(each.weight for each in self),
            instruments=len(self._campaigns),
            complete=sum(each.is_complete for each in self),
            rests_until=self.next_round_at() if all(each.phase is Phase.RESTING for each in self) else -math.inf,
        )


def _days(start_ms: int, stop_ms: int) -> Iterable[date]:
    first = day_of(start_ms)
    return (first + timedelta(days=n) for n in range((day_of(max(start_ms, stop_ms - 1)) - first).days + 1))
