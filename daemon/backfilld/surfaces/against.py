"""Comparing the days of a cache with the archive, several downloads at a time."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from backfilld.adapters.archive_comparison import Comparison, compared
from backfilld.adapters.binance_archive import BinanceArchive, open_archive
from backfilld.settings import Settings
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.inspection import Inspected
from backfilld.supervisor import cause_of
from backfilld.surfaces.verify import progress

AT_ONCE = 2
"""Each may download a day and hold a piece of it."""


def compare_with_archive(settings: Settings, days: Sequence[Inspected], *, quiet: bool) -> tuple[Comparison, ...]:
    """Compare the days that are over with their published files, in the order given.

    Files are downloaded to a temporary directory, and only where the checksum does not tell. Raises ExchangeError for
    an archive that is out of reach.
    """
    today = datetime.now(UTC).date()
    over = [each for each in days if each.day < today]
    with (
        TemporaryDirectory(prefix="backfilld-archive-") as directory,
        progress("compare", len(over), quiet=quiet) as advance,
    ):
        try:
            return trio.run(_compare_all, settings, over, Path(directory), advance)
        except BaseExceptionGroup as group:
            raise cause_of(group) from None


async def _compare_all(
    settings: Settings, days: Sequence[Inspected], directory: Path, advance: Callable[[str, int], None]
) -> tuple[Comparison, ...]:
    found: dict[int, Comparison] = {}
    numbered = enumerate(days)
    async with open_archive(settings.archive_url, directory) as source, trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(partial(_compare_some, settings.cache_dir, source, numbered, found, advance))
    return tuple(found[number] for number in range(len(days)))


async def _compare_some(
    cache_dir: Path,
    source: BinanceArchive,
    days: Iterator[tuple[int, Inspected]],
    found: dict[int, Comparison],
    advance: Callable[[str, int], None],
) -> None:
    """Compare day after day, as long as there are any."""
    for number, each in days:
        manager = BackfillCacheManager(instrument_directory(cache_dir, each.instrument), each.instrument)
        found[number] = await compared(source, manager, each)
        advance(f"{each.instrument} {each.day}", 1)
