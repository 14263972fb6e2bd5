"""Planning a fleet: from the archive's listing to the tasks, a month of an instrument each."""

import difflib
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import partial

from backfilld.adapters.archive_listing import ArchiveListing, open_listing
from backfilld.adapters.threads import in_thread
from backfilld.core.fleet import FleetPlan, FleetTask, planned, tasks_of
from backfilld.core.model import Instrument, Market
from backfilld.errors import SettingsError
from backfilld.services.progress import Progress, Watch, unwatched
from backfilld.services.side_by_side import side_by_side
from backfilld.settings import Settings
from backfilld.store.listing_cache import load_listing, save_listing

AT_ONCE = 16
"""Pages of the listing that are asked for at a time."""

BESIDE = timedelta(days=7)
"""So far before and after the span a listed day is looked for, to prove where the span begins and ends."""


async def plan_fleet(
    settings: Settings, instruments: Sequence[Instrument], first: date, last: date, watch: Watch = unwatched
) -> FleetPlan:
    """The tasks of the instruments for the days from ``first`` to ``last`` that the archive lists.

    Raises ExchangeError if the listing does not come, and SettingsError for an instrument that the archive has not.
    """
    tasks: list[FleetTask] = []
    without_days: list[Instrument] = []

    async with open_listing(settings.archive_url, settings.request_timeout_seconds) as listing:

        async def plan(instrument: Instrument) -> None:
            days = await _listed(settings, listing, instrument, first - BESIDE, last + BESIDE)
            without_days.extend([] if days else [instrument])
            tasks.extend(tasks_of(instrument, days, first, last))
            watch(Progress("plan", str(instrument), 1, len(instruments)))

        await side_by_side(instruments, AT_ONCE, plan)
        await _refuse_unlisted(listing, without_days)
    return planned(tasks)


async def instruments_named(settings: Settings, names: Iterable[str]) -> list[Instrument]:
    """The instruments of these names; ``spot:*`` names all of a market that the archive has."""
    found: dict[Instrument, None] = {}
    for name in names:
        market, _, symbol = name.partition(":")
        if symbol != "*":
            found[Instrument.parse(name)] = None
            continue
        if market not in set(Market):
            raise SettingsError(f"{name}: the market must be one of {', '.join(Market)}")
        async with open_listing(settings.archive_url, settings.request_timeout_seconds) as listing:
            found |= dict.fromkeys(await listing.instruments(Market(market)))
    return list(found)


async def _refuse_unlisted(listing: ArchiveListing, instruments: Sequence[Instrument]) -> None:
    """Raises SettingsError, with the nearest name, for the first one that has no folder in the archive."""
    for market in {each.market: None for each in instruments}:
        listed = {each.symbol for each in await listing.instruments(market)}
        for instrument in instruments:
            if instrument.market is market and instrument.symbol not in listed:
                near = difflib.get_close_matches(instrument.symbol, listed, n=1)
                hint = f". Did you mean {market}:{near[0]}?" if near else ""
                raise SettingsError(f"{instrument}: the archive has no such symbol{hint}")


async def _listed(
    settings: Settings, listing: ArchiveListing, instrument: Instrument, first: date, last: date
) -> dict[date, int]:
    of_listing = (settings.state_path, settings.archive_url, instrument, first, last)
    known = await in_thread(partial(load_listing, *of_listing))
    if known is not None:
        return known
    days = await listing.days(instrument, first, last)
    await in_thread(partial(save_listing, *of_listing, days))
    return days
